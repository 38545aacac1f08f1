//! Tenants' namespaces, where the worker makes them: the namespace with its Pod Security labels, and in it what the operator's file says (quota, limits,
//! network policies, the attempts' ServiceAccount).
//!
//! Made by server-side apply, so that it can be done again: when a worker first launches for a tenant, and when the namespace was found missing.

use super::client::Hindrance;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, Error, ResourceExt};
use roadstead_domain::attempt::placement::labels;
use roadstead_domain::execution::Reason;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// The kinds that the file may hold: what the worker's role lets it make.
const KINDS: &[(&str, &str)] = &[
    ("v1", "ServiceAccount"),
    ("v1", "ResourceQuota"),
    ("v1", "LimitRange"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
];
const MANAGER: &str = "roadstead-worker";
/// Namespaces that are made at once.
const MAX_AT_ONCE: usize = 8;

#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("it is not YAML: {0}")]
    NotYaml(String),
    #[error("it holds {0}, and may hold {kinds} only", kinds = KINDS.iter().map(|(_, kind)| *kind).collect::<Vec<_>>().join(", "))]
    WrongKind(String),
}

pub struct Namespaces {
    client: Client,
    objects: Vec<DynamicObject>,
    /// Made by this worker since it started. Each by itself: one that can't be made holds up nobody but its tenant.
    made: Mutex<HashMap<String, Arc<OnceCell<()>>>>,
    places: Semaphore,
}

/// The objects of a file of YAML documents.
pub fn read(text: &str) -> Result<Vec<DynamicObject>, FileError> {
    let mut objects = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document).map_err(|error| FileError::NotYaml(error.to_string()))?;
        if value.is_null() {
            continue;
        }
        let mut object: DynamicObject =
            serde_json::from_value(value).map_err(|error| FileError::NotYaml(error.to_string()))?;
        let kind = object.types.as_ref().map(|types| (types.api_version.as_str(), types.kind.as_str()));
        if !kind.is_some_and(|kind| KINDS.contains(&kind)) {
            return Err(FileError::WrongKind(
                kind.map_or_else(|| "an object without a kind".into(), |(_, kind)| kind.to_owned()),
            ));
        }
        object.metadata.namespace = None;
        objects.push(object);
    }
    Ok(objects)
}

impl Namespaces {
    pub fn new(client: Client, objects: Vec<DynamicObject>) -> Self {
        Self { client, objects, made: Mutex::default(), places: Semaphore::new(MAX_AT_ONCE) }
    }

    /// Makes the tenant's namespace, unless this worker has made it before.
    pub async fn ensure(&self, name: &str, tenant: &str) -> Result<(), Hindrance> {
        let made = Arc::clone(self.made().entry(name.to_owned()).or_default());
        let made = made.get_or_try_init(|| self.make(name, tenant)).await;
        made.copied().map_err(|error| match error {
            Error::Api(status) if (400..500).contains(&status.code) && ![408, 409, 429].contains(&status.code) => {
                let message = format!("the namespace {name} can't be made: {}", status.message);
                Hindrance::NotNow(Reason::new(Reason::CREATE_REJECTED, message))
            }
            error => Hindrance::Unknown(format!("the namespace {name} can't be made: {error}")),
        })
    }

    /// It was found missing.
    pub fn forget(&self, name: &str) {
        self.made().remove(name);
    }

    fn made(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<()>>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn make(&self, name: &str, tenant: &str) -> Result<(), Error> {
        let _place = self.places.acquire().await;
        let params = PatchParams::apply(MANAGER).force();
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {
                labels::MANAGED_BY: labels::MANAGED_BY_ROADSTEAD,
                labels::TENANT: tenant,
                "pod-security.kubernetes.io/enforce": "restricted",
                "pod-security.kubernetes.io/warn": "restricted",
            }},
        });
        Api::<Namespace>::all(self.client.clone()).patch(name, &params, &Patch::Apply(&namespace)).await?;
        for object in &self.objects {
            let types = object.types.clone().unwrap_or_default();
            let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
            let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), name, &resource);
            api.patch(&object.name_any(), &params, &Patch::Apply(object)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;

    #[test]
    fn a_file_holds_what_the_worker_may_make() {
        let text = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: b}\nspec: {podSelector: {}}\n---\n";
        let objects = read(text).unwrap();
        assert_eq!(objects.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["a", "b"]);
        for bad in ["apiVersion: v1\nkind: Pod\nmetadata: {name: x}", "kind: [", "metadata: {name: x}", "x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_namespace_that_is_never_done_holds_up_no_other() {
        let answers = tower::service_fn(async |request: http::Request<Body>| {
            if request.uri().path().ends_with("/slow") {
                std::future::pending::<()>().await;
            }
            Ok::<_, std::convert::Infallible>(http::Response::new(Body::from(b"{\"metadata\": {}}".to_vec())))
        });
        let namespaces = Namespaces::new(Client::new(answers, "default"), Vec::new());
        let mut slow = Box::pin(namespaces.ensure("slow", "a"));
        assert!(futures_util::poll!(&mut slow).is_pending());
        let quick = namespaces.ensure("quick", "b");
        tokio::time::timeout(std::time::Duration::from_secs(10), quick).await.unwrap().unwrap();
        assert!(futures_util::poll!(&mut slow).is_pending());
    }
}
