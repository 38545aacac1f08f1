//! What `LAUNCHER=kubernetes` needs to know, of the worker that creates the Jobs and of the API that knows their tokens.

use super::Reader;
use super::read::in_a_cluster;
use roadstead_domain::attempt::placement::{is_namespace_template, is_per_tenant};
use roadstead_domain::workflow::Resources;
use roadstead_domain::workflow::quantity::Quantity;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// The Jobs' namespace; a `%s` in it stands for the tenant.
    pub namespace_template: String,
    pub namespace_policy: NamespacePolicy,
    /// What a namespace that is made begins with.
    pub namespace_objects_file: Option<PathBuf>,
    /// The only namespaces to look at and launch in; empty: what the template says.
    pub watch_namespaces: Vec<String>,
    /// Empty in an API that was not told.
    pub executor_image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: String,
    pub service_account: String,
    pub runtime_class: Option<String>,
    /// For workflows that name none.
    pub workflow_image: Option<String>,
    /// For workflows that ask for none.
    pub default_resources: Resources,
    pub max_resources: Resources,
    pub job_template_file: Option<PathBuf>,
    pub kueue_queue: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespacePolicy {
    /// Tenants' namespaces are made when they are first needed.
    Create,
    /// Somebody else makes them.
    Require,
}

/// `None`: another launcher is asked for.
pub fn read(reader: &mut Reader) -> Option<KubernetesConfig> {
    if !is_wanted(reader) {
        return None;
    }
    let namespace_template = reader.text("KUBERNETES_NAMESPACE").unwrap_or_default();
    if !is_namespace_template(&namespace_template) {
        reader.error(
            "KUBERNETES_NAMESPACE",
            format!("must be a namespace of 1 to 63 letters a-z, digits and `-`, in which one `%s` may stand for the tenant, not `{namespace_template}`"),
        );
    }
    let namespace_policy = match reader.text("NAMESPACE_POLICY").unwrap_or_default().as_str() {
        "create" => NamespacePolicy::Create,
        "require" => NamespacePolicy::Require,
        other => {
            reader.error("NAMESPACE_POLICY", format!("must be `create` or `require`, not `{other}`"));
            NamespacePolicy::Require
        }
    };
    let namespace_objects_file = reader.optional("NAMESPACE_OBJECTS_FILE").map(PathBuf::from);
    if namespace_policy == NamespacePolicy::Create {
        if namespace_objects_file.is_none() {
            reader.error("NAMESPACE_OBJECTS_FILE", "is required by NAMESPACE_POLICY=create");
        }
        if namespace_template == "%s" {
            reader.error(
                "NAMESPACE_POLICY",
                "can't be `create` when KUBERNETES_NAMESPACE is `%s` alone: a tenant could be named like somebody else's namespace",
            );
        }
        if !is_per_tenant(&namespace_template) {
            reader.error(
                "NAMESPACE_POLICY",
                "can be `create` only for tenants' namespaces: KUBERNETES_NAMESPACE holds no `%s`",
            );
        }
    }
    let watch_namespaces: Vec<String> = reader
        .optional("WATCH_NAMESPACE")
        .map(|list| list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect())
        .unwrap_or_default();
    for name in &watch_namespaces {
        if !roadstead_domain::ids::is_name(name) {
            reader.error("WATCH_NAMESPACE", format!("must be namespaces with commas between them; `{name}` is none"));
        }
    }
    let image_pull_policy = reader.text("EXECUTOR_IMAGE_PULL_POLICY").unwrap_or_default();
    if !["Always", "IfNotPresent", "Never"].contains(&image_pull_policy.as_str()) {
        reader.error(
            "EXECUTOR_IMAGE_PULL_POLICY",
            format!("must be `Always`, `IfNotPresent` or `Never`, not `{image_pull_policy}`"),
        );
    }
    let (default_resources, max_resources) = resources(reader);
    Some(KubernetesConfig {
        namespace_template,
        namespace_policy,
        namespace_objects_file,
        watch_namespaces,
        executor_image: reader.optional("EXECUTOR_IMAGE").unwrap_or_default(),
        image_pull_policy,
        service_account: reader.required("EXECUTOR_SERVICE_ACCOUNT"),
        runtime_class: runtime_class(reader),
        workflow_image: reader.optional("WORKFLOW_IMAGE"),
        default_resources,
        max_resources,
        job_template_file: reader.optional("JOB_TEMPLATE_FILE").map(PathBuf::from),
        kueue_queue: reader.optional("KUEUE_QUEUE"),
    })
}

fn is_wanted(reader: &mut Reader) -> bool {
    let wanted = reader.optional("LAUNCHER");
    let enabled = reader.optional("KUBERNETES_ENABLED").map(|_| reader.boolean("KUBERNETES_ENABLED"));
    match (wanted.as_deref(), enabled) {
        (Some("process"), Some(true)) => {
            reader.error("LAUNCHER", "is `process`, but KUBERNETES_ENABLED is true");
            false
        }
        (Some("kubernetes"), Some(false)) => {
            reader.error("LAUNCHER", "is `kubernetes`, but KUBERNETES_ENABLED is false");
            false
        }
        (Some("process"), _) | (None, Some(false)) => false,
        (Some("kubernetes"), _) | (None, Some(true)) => true,
        (Some(other), _) => {
            reader.error("LAUNCHER", format!("must be `process` or `kubernetes`, not `{other}`"));
            false
        }
        (None, None) => in_a_cluster(),
    }
}

/// A class that is asked for in two ways must be one.
fn runtime_class(reader: &mut Reader) -> Option<String> {
    const KATA: &str = "kata";
    let named = reader.optional("EXECUTOR_RUNTIME_CLASS");
    match (named, reader.boolean("USE_KATA_CONTAINERS")) {
        (Some(name), true) if name != KATA => {
            reader.error(
                "USE_KATA_CONTAINERS",
                format!("means the RuntimeClass `{KATA}`, but EXECUTOR_RUNTIME_CLASS is `{name}`"),
            );
            None
        }
        (None, true) => Some(KATA.to_owned()),
        (named, _) => named,
    }
}

/// What an attempt gets by default, and at most.
fn resources(reader: &mut Reader) -> (Resources, Resources) {
    let mut pair = |default: &'static str, max: &'static str| {
        let mut quantity = |name: &'static str| {
            let text = reader.required(name);
            let parsed: Option<Quantity> = text.parse().ok();
            if parsed.is_none() {
                reader.error(name, format!("must be a Kubernetes quantity, as in `500m`, `2`, `256Mi`, not `{text}`"));
            }
            (text, parsed)
        };
        let ((default_text, default_value), (max_text, max_value)) = (quantity(default), quantity(max));
        if default_value.zip(max_value).is_some_and(|(default, max)| default > max) {
            reader.error(default, format!("is more than {max}"));
        }
        (Some(default_text), Some(max_text))
    };
    let cpu = pair("JOB_CPU", "JOB_MAX_CPU");
    let memory = pair("JOB_MEMORY", "JOB_MAX_MEMORY");
    let storage = pair("JOB_EPHEMERAL_STORAGE", "JOB_MAX_EPHEMERAL_STORAGE");
    (
        Resources { cpu: cpu.0, memory: memory.0, ephemeral_storage: storage.0 },
        Resources { cpu: cpu.1, memory: memory.1, ephemeral_storage: storage.1 },
    )
}
