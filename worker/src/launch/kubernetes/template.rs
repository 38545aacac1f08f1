//! An operator's Job template: parts of a Job that are merged into every Job, as `kubectl patch --type strategic` would.
//!
//! Pure. What Roadstead must own to keep its promises is refused when the worker starts, by the path of what was tried.

use serde_json::{Map, Value};

/// Lists whose elements are told apart by a field (Kubernetes' `patchMergeKey`); any other list is replaced as a whole.
const MERGE_KEYS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("volumes", "name"),
    ("env", "name"),
    ("imagePullSecrets", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("ports", "containerPort"),
    ("hostAliases", "ip"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// What a template can't set, from the Job's root; of a container's, those of `executor` and `attempt`.
const OWNED: &[&str] = &[
    "/metadata/name",
    "/metadata/generateName",
    "/metadata/namespace",
    "/metadata/ownerReferences",
    "/metadata/finalizers",
    "/spec/activeDeadlineSeconds",
    "/spec/backoffLimit",
    "/spec/backoffLimitPerIndex",
    "/spec/completionMode",
    "/spec/completions",
    "/spec/manualSelector",
    "/spec/maxFailedIndexes",
    "/spec/parallelism",
    "/spec/podFailurePolicy",
    "/spec/podReplacementPolicy",
    "/spec/selector",
    "/spec/successPolicy",
    "/spec/suspend",
    "/spec/ttlSecondsAfterFinished",
    "/spec/template/spec/activeDeadlineSeconds",
    "/spec/template/spec/automountServiceAccountToken",
    "/spec/template/spec/enableServiceLinks",
    "/spec/template/spec/hostIPC",
    "/spec/template/spec/hostNetwork",
    "/spec/template/spec/hostPID",
    "/spec/template/spec/nodeName",
    "/spec/template/spec/readinessGates",
    "/spec/template/spec/restartPolicy",
    "/spec/template/spec/runtimeClassName",
    "/spec/template/spec/serviceAccount",
    "/spec/template/spec/serviceAccountName",
    "/spec/template/spec/shareProcessNamespace",
    "/spec/template/spec/terminationGracePeriodSeconds",
];
const OWNED_OF_A_CONTAINER: &[&str] = &[
    "image",
    "command",
    "args",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "restartPolicy",
    "startupProbe",
    "terminationMessagePolicy",
    "tty",
    "stdin",
];

/// Volumes that no other container may see, and no other volume may hide a part of.
const HELD_BACK: &[&str] = &["roadstead", "token"];

/// Labels of pods that the Job controller sets: with another value the API server refuses the Job.
const OF_THE_JOB_CONTROLLER: &[&str] =
    &["batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name"];

/// A template that can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error("it is not YAML: {0}")]
    NotYaml(String),
    #[error("{0} is Roadstead's own to set")]
    Owned(String),
    #[error("{0}")]
    Unfit(String),
}

/// Reads a template and merges it into `job`.
pub fn apply(text: &str, job: &Value) -> Result<Value, TemplateError> {
    let patch: Value = serde_yaml_ng::from_str(text).map_err(|error| TemplateError::NotYaml(error.to_string()))?;
    let Value::Object(mut patch) = patch else {
        return Err(TemplateError::Unfit("it must be a mapping with `metadata` or `spec`, as a Job has them".into()));
    };
    for (name, expected) in [("apiVersion", "batch/v1"), ("kind", "Job")] {
        if patch.remove(name).is_some_and(|value| value != expected) {
            return Err(TemplateError::Unfit(format!("its {name} must be {expected}")));
        }
    }
    let patch = Value::Object(patch);
    refuse_directives(&patch, "")?;
    refuse_removals(&patch, job, "", "")?;
    refuse_owned(&patch, job)?;
    let mut merged = job.clone();
    merge(&mut merged, &patch, "");
    Ok(merged)
}

fn refuse_owned(patch: &Value, job: &Value) -> Result<(), TemplateError> {
    if let Some(pointer) = OWNED.iter().find(|pointer| patch.pointer(pointer).is_some()) {
        return Err(TemplateError::Owned((*pointer).to_owned()));
    }
    for (pointer, own) in
        [("/metadata/labels", "/metadata/labels"), ("/spec/template/metadata/labels", "/spec/template/metadata/labels")]
    {
        let ours = job.pointer(own).and_then(Value::as_object);
        let theirs = patch.pointer(pointer).and_then(Value::as_object);
        for name in theirs.into_iter().flat_map(Map::keys) {
            let is_set = ours.is_some_and(|ours| ours.contains_key(name));
            if is_set || name.starts_with("roadstead.dev/") || OF_THE_JOB_CONTROLLER.contains(&name.as_str()) {
                return Err(TemplateError::Owned(format!("{pointer}/{name}")));
            }
        }
    }
    let pod = "/spec/template/spec";
    for list in ["containers", "initContainers"] {
        for container in items(patch, &format!("{pod}/{list}")) {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
            for mount in items(container, "/volumeMounts") {
                let volume = mount.get("name").and_then(Value::as_str).unwrap_or_default();
                if HELD_BACK.contains(&volume) {
                    return Err(TemplateError::Owned(format!(
                        "{pod}/{list}/{name}/volumeMounts: {volume} holds the attempt's token"
                    )));
                }
            }
            let ours =
                items(job, &format!("{pod}/{list}")).iter().find(|ours| ours.get("name") == container.get("name"));
            if let Some(ours) = ours {
                refuse_mounts(container, ours, &format!("{pod}/{list}/{name}/volumeMounts"))?;
                if let Some(field) = OWNED_OF_A_CONTAINER.iter().find(|field| container.get(**field).is_some()) {
                    return Err(TemplateError::Owned(format!("{pod}/{list}/{name}/{field}")));
                }
                let resources =
                    container.pointer("/resources/limits").into_iter().chain(container.pointer("/resources/requests"));
                for amounts in resources {
                    if let Some(field) =
                        ["cpu", "memory", "ephemeral-storage"].iter().find(|field| amounts.get(**field).is_some())
                    {
                        return Err(TemplateError::Owned(format!(
                            "{pod}/{list}/{name}/resources: {field} comes from the workflow"
                        )));
                    }
                }
            } else if list == "containers" {
                return Err(TemplateError::Unfit(format!(
                    "{pod}/containers/{name}: a sidecar must be an init container with `restartPolicy: Always`: the pod would not end with the attempt"
                )));
            }
        }
    }
    for volume in items(patch, &format!("{pod}/volumes")) {
        let name = volume.get("name").and_then(Value::as_str).unwrap_or_default();
        if items(job, &format!("{pod}/volumes")).iter().any(|ours| ours.get("name") == volume.get("name")) {
            return Err(TemplateError::Owned(format!("{pod}/volumes/{name}")));
        }
    }
    Ok(())
}

/// In a container of Roadstead's. Below the workspace and `/tmp` a volume hides nothing: an attempt's folder there has a name that no template knows.
fn refuse_mounts(container: &Value, ours: &Value, at: &str) -> Result<(), TemplateError> {
    let path = |mount: &Value| mount.get("mountPath").and_then(Value::as_str).unwrap_or_default().to_owned();
    for theirs in items(container, "/volumeMounts").iter().map(path) {
        for mount in items(ours, "/volumeMounts") {
            let is_held_back = mount.get("name").and_then(Value::as_str).is_some_and(|name| HELD_BACK.contains(&name));
            let (own, wanted) = (path(mount), parts(&theirs));
            // What lies above would have to hold the folder for this one.
            if parts(&own).starts_with(&wanted) || is_held_back && wanted.starts_with(&parts(&own)) {
                return Err(TemplateError::Owned(format!("{at}: `{theirs}`, which is {own}, or above or below it,")));
            }
        }
    }
    Ok(())
}

/// Of a path as the container runtime reads it.
fn parts(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts
}

/// `null` removes all that was below it: of Roadstead's objects and lists only a security context may go. `field`: the last part of `at`.
fn refuse_removals(patch: &Value, job: &Value, field: &str, at: &str) -> Result<(), TemplateError> {
    match (patch, job) {
        (Value::Null, Value::Object(_) | Value::Array(_)) => Err(TemplateError::Owned(at.to_owned())),
        (Value::Object(patch), Value::Object(job)) => patch
            .iter()
            .filter(|(name, _)| *name != "securityContext")
            .filter_map(|(name, theirs)| Some((name, theirs, job.get(name)?)))
            .try_for_each(|(name, theirs, ours)| refuse_removals(theirs, ours, name, &format!("{at}/{name}"))),
        (Value::Array(patch), Value::Array(job)) => {
            let key = merge_key(field).unwrap_or_default();
            patch
                .iter()
                .filter_map(|theirs| Some((theirs.get(key)?.as_str()?, theirs)))
                .filter_map(|(name, theirs)| Some((name, theirs, job.iter().find(|ours| ours[key] == name)?)))
                .try_for_each(|(name, theirs, ours)| refuse_removals(theirs, ours, "", &format!("{at}/{name}")))
        }
        _ => Ok(()),
    }
}

/// The directives of strategic merge are not known here: as plain fields they would be lost without a word.
fn refuse_directives(patch: &Value, at: &str) -> Result<(), TemplateError> {
    match patch {
        Value::Object(fields) => fields.iter().try_for_each(|(name, value)| {
            if name.starts_with('$') {
                return Err(TemplateError::Unfit(format!("{at}/{name}: directives are not supported")));
            }
            refuse_directives(value, &format!("{at}/{name}"))
        }),
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(n, item)| refuse_directives(item, &format!("{at}/{n}")))
        }
        _ => Ok(()),
    }
}

fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Objects are merged, `null` removes, lists with a merge key are merged by it, everything else is replaced.
fn merge(target: &mut Value, patch: &Value, field: &str) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (name, value) in patch {
                if value.is_null() {
                    target.remove(name);
                } else {
                    merge(target.entry(name.clone()).or_insert(Value::Null), value, name);
                }
            }
        }
        (Value::Array(target), Value::Array(patch)) if merge_key(field).is_some() => {
            let key = merge_key(field).unwrap_or_default();
            for item in patch {
                match target.iter_mut().find(|ours| ours.get(key).is_some() && ours.get(key) == item.get(key)) {
                    Some(ours) => merge(ours, item, ""),
                    None => target.push(item.clone()),
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn merge_key(field: &str) -> Option<&'static str> {
    MERGE_KEYS.iter().find(|(list, _)| *list == field).map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn job() -> Value {
        json!({
            "metadata": {"labels": {"app.kubernetes.io/name": "roadstead-attempt"}},
            "spec": {"backoffLimit": 0, "template": {
                "metadata": {"labels": {}},
                "spec": {
                    "restartPolicy": "Never",
                    "initContainers": [{"name": "executor", "image": "x"}],
                    "containers": [{"name": "attempt", "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]}],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                }
            }}
        })
    }

    #[test]
    fn what_an_operator_wants_is_merged() {
        let merged = apply(
            "
apiVersion: batch/v1
kind: Job
metadata: {annotations: {team: a}}
spec:
  template:
    metadata: {labels: {cost-center: x}}
    spec:
      nodeSelector: {pool: jobs}
      tolerations: [{key: jobs, operator: Exists}]
      imagePullSecrets: [{name: registry}]
      initContainers: [{name: proxy, image: proxy:1, restartPolicy: Always}]
      containers: [{name: attempt, resources: {limits: {nvidia.com/gpu: 1}}, volumeMounts: [{name: data, mountPath: /data}]}]
      volumes: [{name: data, emptyDir: {}}]
",
            &job(),
        )
        .unwrap();
        let pod = &merged["spec"]["template"]["spec"];
        assert_eq!(pod["nodeSelector"]["pool"], "jobs");
        assert_eq!(pod["initContainers"].as_array().unwrap().len(), 2);
        assert_eq!(pod["containers"][0]["volumeMounts"].as_array().unwrap().len(), 2);
        assert_eq!(pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"], 1);
        assert_eq!((merged["spec"]["backoffLimit"].as_i64(), pod["restartPolicy"].as_str()), (Some(0), Some("Never")));
        assert_eq!(merged["metadata"]["annotations"]["team"], "a");
    }

    #[test]
    fn what_roadstead_must_own_is_refused_by_its_path() {
        for (template, path) in [
            ("spec: {backoffLimit: 3}", "/spec/backoffLimit"),
            ("spec: {template: {spec: {restartPolicy: OnFailure}}}", "restartPolicy"),
            ("spec: {template: {spec: {serviceAccountName: admin}}}", "serviceAccountName"),
            ("spec: {template: {spec: {automountServiceAccountToken: true}}}", "automountServiceAccountToken"),
            ("spec: {template: {spec: {hostNetwork: true}}}", "hostNetwork"),
            ("spec: {template: {spec: {containers: [{name: attempt, command: [sh]}]}}}", "attempt/command"),
            ("spec: {template: {spec: {initContainers: [{name: executor, image: evil}]}}}", "executor/image"),
            ("spec: {template: {spec: {containers: [{name: attempt, resources: {limits: {cpu: 9}}}]}}}", "cpu"),
            ("spec: {template: {spec: {volumes: [{name: tmp, hostPath: {path: /}}]}}}", "volumes/tmp"),
            ("metadata: {labels: {app.kubernetes.io/name: x}}", "labels/app.kubernetes.io/name"),
            ("metadata: {labels: {roadstead.dev/tenant: x}}", "labels/roadstead.dev/tenant"),
            ("spec: {template: {metadata: {labels: {job-name: x}}}}", "labels/job-name"),
            ("metadata: {name: x}", "/metadata/name"),
            ("spec: {ttlSecondsAfterFinished: 0}", "/spec/ttlSecondsAfterFinished"),
            (
                "spec: {template: {spec: {containers: [{name: attempt, volumeMounts: [{name: token, mountPath: /t}]}]}}}",
                "volumeMounts",
            ),
        ] {
            let error = apply(template, &job()).unwrap_err();
            assert!(matches!(&error, TemplateError::Owned(at) if at.contains(path)), "{template}: {error}");
        }
    }

    #[test]
    fn what_can_not_work_is_refused() {
        for template in [
            "[]",
            "nonsense",
            "kind: Pod",
            "spec: {template: {spec: {containers: [{name: sidecar, image: x}]}}}",
            "spec: {template: {spec: {tolerations: [{$patch: replace}]}}}",
            "spec: {template: {spec: {containers: [{name: attempt, $patch: delete}]}}}",
            "spec: {template: {spec: {$patch: replace}}}",
            "spec: {template: {spec: {$setElementOrder/containers: [{name: attempt}]}}}",
            "spec: {template: {spec: {volumes: [{name: data, $retainKeys: [name]}]}}}",
            "metadata: {$deleteFromPrimitiveList/finalizers: [x]}",
        ] {
            assert!(matches!(apply(template, &job()), Err(TemplateError::Unfit(_))), "{template}");
        }
        assert!(matches!(apply("a: [", &job()), Err(TemplateError::NotYaml(_))));
    }

    #[test]
    fn null_removes_and_an_empty_template_changes_nothing() {
        let merged = apply("spec: {podFailure: null}", &json!({"spec": {"podFailure": 1}})).unwrap();
        assert_eq!(merged, json!({"spec": {}}));
        assert_eq!(apply("{}", &job()).unwrap(), job());
    }
}
