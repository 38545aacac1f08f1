//! What `LAUNCHER=kubernetes` needs to know, of the worker that creates the Jobs and of the API that knows their tokens.

use super::{Reader, syntax};
use roadstead_domain::attempt::placement::is_per_tenant;
use roadstead_domain::workflow::Resources;
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
    let namespace_template = reader.required("KUBERNETES_NAMESPACE");
    let namespace_policy = match reader.required("NAMESPACE_POLICY").as_str() {
        "create" => NamespacePolicy::Create,
        _ => NamespacePolicy::Require,
    };
    let namespace_objects_file = reader.text("NAMESPACE_OBJECTS_FILE").map(PathBuf::from);
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
    let watch_namespaces = reader.parsed("WATCH_NAMESPACE", syntax::namespaces).unwrap_or_default();
    if !watch_namespaces.is_empty()
        && !is_per_tenant(&namespace_template)
        && !watch_namespaces.contains(&namespace_template)
    {
        reader.error(
            "WATCH_NAMESPACE",
            format!("does not hold `{namespace_template}`, the namespace of KUBERNETES_NAMESPACE: no attempt could be launched"),
        );
    }
    let (default_resources, max_resources) = resources(reader);
    Some(KubernetesConfig {
        namespace_template,
        namespace_policy,
        namespace_objects_file,
        watch_namespaces,
        executor_image: reader.text("EXECUTOR_IMAGE").unwrap_or_default(),
        image_pull_policy: reader.required("EXECUTOR_IMAGE_PULL_POLICY"),
        service_account: reader.required("EXECUTOR_SERVICE_ACCOUNT"),
        runtime_class: runtime_class(reader),
        workflow_image: reader.text("WORKFLOW_IMAGE"),
        default_resources,
        max_resources,
        job_template_file: reader.text("JOB_TEMPLATE_FILE").map(PathBuf::from),
        kueue_queue: reader.text("KUEUE_QUEUE"),
    })
}

fn is_wanted(reader: &mut Reader) -> bool {
    let wanted = reader.text("LAUNCHER");
    let enabled = reader.parsed("KUBERNETES_ENABLED", syntax::switch);
    match (wanted.as_deref(), enabled) {
        (Some("process"), Some(true)) => {
            reader.error("LAUNCHER", "is `process`, but KUBERNETES_ENABLED is true");
            false
        }
        (Some("kubernetes"), Some(false)) => {
            reader.error("LAUNCHER", "is `kubernetes`, but KUBERNETES_ENABLED is false");
            false
        }
        (Some(word), _) => word == "kubernetes",
        (None, Some(enabled)) => enabled,
        (None, None) => reader.environment.is_in_a_cluster(),
    }
}

/// A class that is asked for in two ways must be one.
fn runtime_class(reader: &mut Reader) -> Option<String> {
    const KATA: &str = "kata";
    let named = reader.text("EXECUTOR_RUNTIME_CLASS");
    match (named, reader.switch("USE_KATA_CONTAINERS")) {
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
        let mut quantity = |name| (reader.text(name), reader.parsed(name, syntax::quantity));
        let ((default_text, default_value), (max_text, max_value)) = (quantity(default), quantity(max));
        if default_value.zip(max_value).is_some_and(|(default, max)| default > max) {
            reader.error(default, format!("is more than {max}"));
        }
        (default_text, max_text)
    };
    let cpu = pair("JOB_CPU", "JOB_MAX_CPU");
    let memory = pair("JOB_MEMORY", "JOB_MAX_MEMORY");
    let storage = pair("JOB_EPHEMERAL_STORAGE", "JOB_MAX_EPHEMERAL_STORAGE");
    (
        Resources { cpu: cpu.0, memory: memory.0, ephemeral_storage: storage.0 },
        Resources { cpu: cpu.1, memory: memory.1, ephemeral_storage: storage.1 },
    )
}
