//! Jobs and pods as they are watched: what nobody looks at, which is most of what the cluster's API sends of them (a pod's
//! specification, who manages which field), is passed over as it is decoded.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

/// An object of which only this is there: of its metadata what [`Metadata`] names, its status, and of a Job whether it is suspended.
#[derive(Clone, Debug)]
pub struct Seen<K>(K);

impl<K> Deref for Seen<K> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.0
    }
}

#[derive(Deserialize)]
struct Parts<Spec, Status> {
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    deletion_timestamp: Option<Time>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        let Metadata { name, namespace, uid, resource_version, labels, deletion_timestamp } = read;
        Self { name, namespace, uid, resource_version, labels, deletion_timestamp, ..Self::default() }
    }
}

#[derive(Deserialize)]
struct Suspend {
    suspend: Option<bool>,
}

#[derive(Deserialize)]
struct Unread {}

impl<'de> Deserialize<'de> for Seen<Job> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { metadata, spec, status } = Parts::<Suspend, _>::deserialize(deserializer)?;
        let spec = spec.map(|Suspend { suspend }| JobSpec { suspend, ..JobSpec::default() });
        Ok(Self(Job { metadata: metadata.into(), spec, status }))
    }
}

impl<'de> Deserialize<'de> for Seen<Pod> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { metadata, status, .. } = Parts::<Unread, _>::deserialize(deserializer)?;
        Ok(Self(Pod { metadata: metadata.into(), spec: None, status }))
    }
}

impl<K: Resource<DynamicType = ()>> Resource for Seen<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind(dt: &()) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &()) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &()) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &()) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sight::{JobSight, PodSight};
    use super::*;
    use k8s_openapi::jiff::Timestamp;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn metadata() -> Value {
        json!({
            "name": "rs-1", "namespace": "sandbox", "uid": "u", "resourceVersion": "7", "generation": 2,
            "labels": {"a": "b", "kueue.x-k8s.io/queue-name": "q"}, "annotations": {"c": "d"},
            "deletionTimestamp": "2026-01-01T00:00:10Z", "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {"f:template": {}}}}],
        })
    }

    /// The object read whole, and as it is watched.
    fn both<K: DeserializeOwned>(object: &Value) -> (K, Seen<K>)
    where
        Seen<K>: DeserializeOwned,
    {
        (serde_json::from_value(object.clone()).unwrap(), serde_json::from_value(object.clone()).unwrap())
    }

    fn assert_same_place(whole: &ObjectMeta, seen: &ObjectMeta) {
        let of = |meta: &ObjectMeta| {
            let ObjectMeta { name, namespace, uid, resource_version, labels, .. } = meta.clone();
            (name, namespace, uid, resource_version, labels)
        };
        assert_eq!(of(whole), of(seen));
        assert!(whole.managed_fields.is_some() && seen.managed_fields.is_none());
    }

    #[test]
    fn a_job_looks_the_same() {
        let (whole, seen) = both::<Job>(&json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(),
            "spec": {"suspend": true, "backoffLimit": 0, "template": {"spec": {"containers": [{"name": "attempt"}]}}},
            "status": {"startTime": "2026-01-01T00:00:01Z", "conditions": [
                {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "m"},
                {"type": "Complete", "status": "True"}]},
        }));
        assert_eq!(JobSight::of(&whole), JobSight::of(&seen));
        assert_same_place(whole.meta(), seen.meta());
    }

    #[test]
    fn a_pod_looks_the_same() {
        let (whole, seen) = both::<Pod>(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata(),
            "spec": {"nodeName": "n", "containers": [{"name": "attempt"}]},
            "status": {"phase": "Failed", "reason": "Evicted", "message": "disk", "conditions": [
                {"type": "PodScheduled", "status": "True"}],
                "containerStatuses": [{"name": "attempt", "state": {"terminated": {"exitCode": 3, "reason": "Error"}},
                    "image": "", "imageID": "", "ready": false, "restartCount": 0}]},
        }));
        let now = Timestamp::now();
        assert_eq!(PodSight::of(&whole, now), PodSight::of(&seen, now));
        assert_same_place(whole.meta(), seen.meta());
    }
}
