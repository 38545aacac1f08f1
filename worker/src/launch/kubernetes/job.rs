//! The Job of an attempt. Pure: from a configuration and an order to the object that is created.
//!
//! It holds the attempt's id and the API's URL, and nothing that is secret: the attempt proves itself by a ServiceAccount token that the kubelet
//! issues for its pod, which the init container takes over and the executor removes before any user code runs.

use super::template::{self, TemplateError};
use crate::launch::LaunchOrder;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use roadstead_backend::config::KubernetesConfig;
use roadstead_backend::store::launch::Demand;
use roadstead_domain::attempt::placement::{TOKEN_AUDIENCE, job_name, labels, namespace};
use roadstead_domain::execution::Reason;
use roadstead_domain::workflow::Resources;
use roadstead_domain::workflow::quantity::is_zero;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

pub const EXECUTOR: &str = "executor";
pub const ATTEMPT: &str = "attempt";
const HANDOVER: &str = "/roadstead";
const WORKSPACE: &str = "/workspace";
const TOKEN: &str = "/var/run/secrets/roadstead";
/// Nobody of the images': an id without a name is as good, and `runAsNonRoot` wants a number.
const USER: i64 = 65532;
/// For shipping what is left and reporting, after the children are gone.
const REPORT_GRACE: Duration = Duration::from_secs(15);
/// An attempt is ended by its executor, then by the supervisor; this is for the time when both are away.
const DEADLINE_SLACK: Duration = Duration::from_secs(300);
/// Jobs are deleted when their outcome is recorded; this is for those that nobody knows any more.
const TTL: Duration = Duration::from_secs(24 * 3600);
/// Of Kubernetes: a projected token lives ten minutes at least.
const SHORTEST_TOKEN: Duration = Duration::from_secs(600);
/// Of the init container, unless the template says otherwise: what the workflow may have takes its place.
const LITTLE_CPU: &str = "50m";
pub const KUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";

/// What all Jobs of a worker have in common.
#[derive(Clone, Debug)]
pub struct Jobs {
    config: KubernetesConfig,
    api_url: String,
    start_timeout: Duration,
    skeleton: Job,
}

impl Jobs {
    /// `template`: an operator's, as it was written.
    pub fn new(
        config: &KubernetesConfig,
        api_url: &str,
        start_timeout: Duration,
        kill_grace: Duration,
        template: Option<&str>,
    ) -> Result<Self, TemplateError> {
        let mut skeleton = skeleton(config, start_timeout, kill_grace);
        if let Some(text) = template {
            skeleton = template::apply(text, &skeleton)?;
        }
        let skeleton = serde_json::from_value(skeleton)
            .map_err(|error| TemplateError::Unfit(format!("it makes no Job: {error}")))?;
        Ok(Self { config: config.clone(), api_url: api_url.to_owned(), start_timeout, skeleton })
    }

    /// The Job to create, or why there can be none.
    pub fn of(&self, order: &LaunchOrder, installation: Uuid) -> Result<Job, Reason> {
        let Demand { image, resources } = order.demand.clone().unwrap_or_default();
        let image = image.or_else(|| self.config.workflow_image.clone()).ok_or_else(|| {
            Reason::new(Reason::CREATE_REJECTED, "the workflow names no image, and WORKFLOW_IMAGE is not set")
        })?;
        let resources = self.resources(&resources);
        let mut job = self.skeleton.clone();
        let own = labels_of(order, installation);
        job.metadata.name = Some(job_name(order.attempt));
        job.metadata.namespace = Some(namespace(&self.config.namespace_template, &order.tenant));
        job.metadata.labels.get_or_insert_default().extend(own.clone());
        let Some(spec) = &mut job.spec else { return Err(incomplete()) };
        let deadline = self.start_timeout + order.timeout + DEADLINE_SLACK;
        spec.active_deadline_seconds = Some(deadline.as_secs() as i64);
        spec.template.metadata.get_or_insert_default().labels.get_or_insert_default().extend(own);
        let Some(pod) = &mut spec.template.spec else { return Err(incomplete()) };
        let disk = resources.get("ephemeral-storage").cloned();
        for volume in
            pod.volumes.iter_mut().flatten().filter(|volume| ["workspace", "tmp"].contains(&volume.name.as_str()))
        {
            if let Some(folder) = &mut volume.empty_dir {
                folder.size_limit.clone_from(&disk);
            }
        }
        let Some(container) = pod.containers.iter_mut().find(|container| container.name == ATTEMPT) else {
            return Err(incomplete());
        };
        container.image = Some(image);
        let amounts = container.resources.get_or_insert_default();
        amounts.limits.get_or_insert_default().extend(resources.clone());
        amounts.requests.get_or_insert_default().extend(resources.clone());
        // It runs before the attempt's container, so the node sets nothing more aside; and the container runtime begins a container within its limit,
        // with tens of milliseconds of CPU of its own. What the operator's template says stays.
        let init = pod.init_containers.iter_mut().flatten().find(|container| container.name == EXECUTOR);
        let amounts = init.and_then(|init| init.resources.as_mut()).into_iter();
        for amounts in amounts.flat_map(|of| [&mut of.limits, &mut of.requests]).flatten() {
            if let (Some(amount), Some(cpu)) =
                (amounts.get_mut("cpu").filter(|cpu| cpu.0 == LITTLE_CPU), resources.get("cpu"))
            {
                amount.clone_from(cpu);
            }
        }
        container.args = Some(
            [
                "attempt",
                "--execution",
                &order.attempt.execution_id.to_string(),
                "--attempt",
                &order.attempt.attempt.to_string(),
                "--api-url",
                &self.api_url,
                "--token",
                &format!("{HANDOVER}/token"),
                "--workspace-root",
                WORKSPACE,
            ]
            .map(ToOwned::to_owned)
            .to_vec(),
        );
        Ok(job)
    }

    /// An execution that was accepted with a limit of zero, which is none, gets the default.
    fn resources(&self, wanted: &Resources) -> BTreeMap<String, Quantity> {
        let default = &self.config.default_resources;
        let amounts = [
            ("cpu", &wanted.cpu, &default.cpu),
            ("memory", &wanted.memory, &default.memory),
            ("ephemeral-storage", &wanted.ephemeral_storage, &default.ephemeral_storage),
        ];
        let amount = |wanted: &Option<String>, default: &Option<String>| {
            wanted.clone().filter(|amount| !is_zero(amount)).or_else(|| default.clone())
        };
        amounts
            .into_iter()
            .filter_map(|(name, wanted, default)| Some((name.to_owned(), Quantity(amount(wanted, default)?))))
            .collect()
    }
}

fn labels_of(order: &LaunchOrder, installation: Uuid) -> BTreeMap<String, String> {
    let own = [
        (labels::INSTALLATION, installation.to_string()),
        (labels::TENANT, order.tenant.clone()),
        (labels::EXECUTION, order.attempt.execution_id.to_string()),
        (labels::ATTEMPT, order.attempt.attempt.to_string()),
    ];
    own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn incomplete() -> Reason {
    Reason::new(Reason::CREATE_REJECTED, "the Job template leaves no container for the attempt")
}

/// What selects an installation's Jobs and pods.
pub fn selector(installation: Uuid) -> String {
    format!("{}={installation}", labels::INSTALLATION)
}

fn skeleton(config: &KubernetesConfig, start_timeout: Duration, kill_grace: Duration) -> Value {
    let names = json!({
        labels::NAME: labels::NAME_OF_ATTEMPTS,
        labels::MANAGED_BY: labels::MANAGED_BY_ROADSTEAD,
    });
    let mut job_labels = names.clone();
    if let Some(queue) = &config.kueue_queue {
        job_labels[KUEUE_LABEL] = queue.clone().into();
    }
    let confined = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    let little = json!({"cpu": LITTLE_CPU, "memory": "32Mi", "ephemeral-storage": "16Mi"});
    let token_life = SHORTEST_TOKEN.max(start_timeout + Duration::from_secs(60));
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"labels": job_labels},
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "suspend": config.kueue_queue.is_some(),
            "ttlSecondsAfterFinished": TTL.as_secs(),
            "template": {
                "metadata": {"labels": names},
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": config.service_account,
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "runtimeClassName": config.runtime_class,
                    "terminationGracePeriodSeconds": (kill_grace + REPORT_GRACE).as_secs(),
                    "securityContext": {
                        "runAsNonRoot": true,
                        "runAsUser": USER,
                        "runAsGroup": USER,
                        "fsGroup": USER,
                        "fsGroupChangePolicy": "OnRootMismatch",
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                    "initContainers": [{
                        "name": EXECUTOR,
                        "image": config.executor_image,
                        "imagePullPolicy": config.image_pull_policy,
                        "args": ["install", HANDOVER, "--token", format!("{TOKEN}/token")],
                        "resources": {"limits": little, "requests": little},
                        "securityContext": confined,
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [
                            {"name": "roadstead", "mountPath": HANDOVER},
                            {"name": "token", "mountPath": TOKEN, "readOnly": true},
                        ],
                    }],
                    "containers": [{
                        "name": ATTEMPT,
                        "imagePullPolicy": config.image_pull_policy,
                        "command": [format!("{HANDOVER}/executor")],
                        "workingDir": WORKSPACE,
                        "securityContext": confined,
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "volumeMounts": [
                            {"name": "roadstead", "mountPath": HANDOVER},
                            {"name": "workspace", "mountPath": WORKSPACE},
                            {"name": "tmp", "mountPath": "/tmp"},
                        ],
                    }],
                    "volumes": [
                        {"name": "roadstead", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
                        {"name": "workspace", "emptyDir": {}},
                        {"name": "tmp", "emptyDir": {}},
                        {"name": "token", "projected": {"sources": [{"serviceAccountToken": {
                            "audience": TOKEN_AUDIENCE, "expirationSeconds": token_life.as_secs(), "path": "token",
                        }}]}},
                    ],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_backend::config::NamespacePolicy;
    use roadstead_domain::ids::AttemptId;

    pub fn config() -> KubernetesConfig {
        let amounts = |cpu: &str| Resources {
            cpu: Some(cpu.into()),
            memory: Some("512Mi".into()),
            ephemeral_storage: Some("1Gi".into()),
        };
        KubernetesConfig {
            namespace_template: "sandbox-%s".into(),
            namespace_policy: NamespacePolicy::Require,
            namespace_objects_file: None,
            watch_namespaces: Vec::new(),
            executor_image: "executor:1".into(),
            image_pull_policy: "IfNotPresent".into(),
            service_account: "roadstead-executor".into(),
            runtime_class: Some("kata".into()),
            workflow_image: None,
            default_resources: amounts("500m"),
            max_resources: amounts("4"),
            job_template_file: None,
            kueue_queue: None,
        }
    }

    fn order(image: Option<&str>) -> LaunchOrder {
        LaunchOrder {
            tenant: "acme".into(),
            attempt: AttemptId { execution_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(), attempt: 2 },
            credential: None,
            demand: Some(Demand {
                image: image.map(ToOwned::to_owned),
                resources: Resources { cpu: Some("2".into()), memory: None, ephemeral_storage: None },
            }),
            is_taken_over: false,
            timeout: Duration::from_secs(600),
        }
    }

    fn jobs(config: &KubernetesConfig) -> Jobs {
        Jobs::new(config, "http://api:8080", Duration::from_secs(300), Duration::from_secs(10), None).unwrap()
    }

    #[test]
    fn a_job_is_the_orders_and_holds_nothing_secret() {
        let job = jobs(&config()).of(&order(Some("python:3.12")), Uuid::nil()).unwrap();
        insta::assert_json_snapshot!(job);
    }

    #[test]
    fn a_workflow_without_an_image_gets_the_operators_or_none() {
        assert_eq!(jobs(&config()).of(&order(None), Uuid::nil()).unwrap_err().code, "create_rejected");
        let with_default = KubernetesConfig { workflow_image: Some("base:1".into()), ..config() };
        let job = jobs(&with_default).of(&order(None), Uuid::nil()).unwrap();
        assert_eq!(job.spec.unwrap().template.spec.unwrap().containers[0].image.as_deref(), Some("base:1"));
    }

    #[test]
    fn a_limit_of_zero_that_was_accepted_once_is_the_operators_default() {
        let mut order = order(Some("x"));
        order.demand.as_mut().unwrap().resources =
            Resources { cpu: Some("0".into()), memory: Some("0Mi".into()), ephemeral_storage: Some("2Gi".into()) };
        let pod = jobs(&config()).of(&order, Uuid::nil()).unwrap().spec.unwrap().template.spec.unwrap();
        let limits = pod.containers[0].resources.clone().unwrap().limits.unwrap();
        let limits: Vec<_> = limits.iter().map(|(name, amount)| (name.as_str(), amount.0.as_str())).collect();
        assert_eq!(limits, [("cpu", "500m"), ("ephemeral-storage", "2Gi"), ("memory", "512Mi")]);
    }

    #[test]
    fn a_queue_of_kueues_gets_suspended_jobs() {
        let config = KubernetesConfig { kueue_queue: Some("batch".into()), ..config() };
        let job = jobs(&config).of(&order(Some("x")), Uuid::nil()).unwrap();
        assert_eq!(job.metadata.labels.unwrap()[KUEUE_LABEL], "batch");
        assert_eq!(job.spec.unwrap().suspend, Some(true));
    }

    fn made(template: &str) -> Result<(), TemplateError> {
        Jobs::new(&config(), "http://a", Duration::ZERO, Duration::ZERO, Some(template)).map(|_| ())
    }

    #[test]
    fn a_template_that_makes_no_job_is_refused() {
        assert!(made("spec: {template: {spec: {tolerations: 7}}}").is_err());
        assert!(made("spec: {template: {spec: {nodeSelector: {a: b}}}}").is_ok());
    }

    #[test]
    fn a_template_removes_nothing_that_roadstead_needs() {
        let pod = |more: &str| format!("spec: {{template: {{spec: {{{more}}}}}}}");
        for (template, path) in [
            ("metadata: null".to_owned(), "/metadata"),
            ("metadata:".to_owned(), "/metadata"),
            ("metadata: {labels: null}".to_owned(), "/metadata/labels"),
            (
                "metadata: {labels: {app.kubernetes.io/name: null}}".to_owned(),
                "/metadata/labels/app.kubernetes.io/name",
            ),
            ("spec: null".to_owned(), "/spec"),
            ("spec: {template: null}".to_owned(), "/spec/template"),
            ("spec: {template: {metadata: null}}".to_owned(), "/spec/template/metadata"),
            ("spec: {template: {metadata: {labels: null}}}".to_owned(), "/spec/template/metadata/labels"),
            ("spec: {template: {spec: null}}".to_owned(), "/spec/template/spec"),
            ("spec: {backoffLimit: null}".to_owned(), "/spec/backoffLimit"),
            (pod("containers: null"), "/spec/template/spec/containers"),
            (pod("initContainers: null"), "/spec/template/spec/initContainers"),
            (pod("volumes: null"), "/spec/template/spec/volumes"),
            (
                pod("containers: [{name: attempt, volumeMounts: null}]"),
                "/spec/template/spec/containers/attempt/volumeMounts",
            ),
            (
                pod("initContainers: [{name: executor, resources: null}]"),
                "/spec/template/spec/initContainers/executor/resources",
            ),
            (
                pod("initContainers: [{name: executor, resources: {limits: null}}]"),
                "/spec/template/spec/initContainers/executor/resources/limits",
            ),
        ] {
            assert_eq!(made(&template), Err(TemplateError::Owned(path.to_owned())), "{template}");
        }
        for template in
            [pod("nodeSelector: null"), pod("securityContext: null"), pod("containers: [{name: attempt, env: null}]")]
        {
            assert_eq!(made(&template), Ok(()), "{template}");
        }
    }

    #[test]
    fn a_template_mounts_nothing_over_what_roadstead_mounts() {
        let mounting = |list: &str, name: &str, path: &str| {
            let container = format!("{{name: {name}, volumeMounts: [{{name: data, mountPath: {path}}}]}}");
            made(&format!(
                "spec: {{template: {{spec: {{{list}: [{container}], volumes: [{{name: data, emptyDir: {{}}}}]}}}}}}"
            ))
        };
        for path in [
            "/roadstead",
            "/roadstead/",
            "//roadstead/.",
            "/roadstead/bin",
            "/etc/../roadstead",
            "roadstead",
            "/roadstead/..",
            "/",
            "/workspace",
            "/workspace/",
            "/tmp",
            "null",
        ] {
            let refused = mounting("containers", "attempt", path);
            assert!(
                matches!(&refused, Err(TemplateError::Owned(at)) if at.contains("attempt/volumeMounts")),
                "{path}: {refused:?}"
            );
        }
        for path in ["/var/run/secrets/roadstead", "/var/run/secrets/roadstead/token", "/var/run"] {
            assert!(mounting("initContainers", "executor", path).is_err(), "{path}");
        }
        for path in ["/workspace/data", "/tmp/cache", "/roadsteads", "/data", "/var/run/secrets/other"] {
            assert_eq!(mounting("containers", "attempt", path), Ok(()), "{path}");
        }
    }
}
