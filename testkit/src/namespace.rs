//! The namespace that attempts run in, as somebody sees it who looks at the cluster from outside.

use crate::wait::wait_for;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(50);

pub struct JobsNamespace {
    pub name: String,
    cluster: Client,
}

impl JobsNamespace {
    /// One that is there.
    pub fn of(cluster: Client, name: String) -> Self {
        Self { name, cluster }
    }

    /// A new one, ready for attempts, under Pod Security "restricted".
    pub async fn create(cluster: Client) -> Self {
        let name = format!("e2e-{}", uuid::Uuid::new_v4().simple());
        let namespace: Namespace = serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}),
        )
        .unwrap();
        Api::all(cluster.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "roadstead-executor"}})).unwrap();
        Api::namespaced(cluster.clone(), &name).create(&PostParams::default(), &account).await.unwrap();
        Self { name, cluster }
    }

    pub fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.cluster.clone(), &self.name)
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.cluster.clone(), &self.name)
    }

    /// Waits until none of these Jobs and pods is left.
    pub async fn is_cleared(&self, which: &ListParams, within: Duration) {
        wait_for("no Job and no pod", within, async || {
            let jobs = self.jobs().list_metadata(which).await.map_err(|error| error.to_string())?.items.len();
            let pods = self.pods().list_metadata(which).await.map_err(|error| error.to_string())?.items.len();
            if jobs + pods == 0 { Ok(()) } else { Err(format!("{jobs} Jobs, {pods} pods")) }
        })
        .await;
    }

    /// Looks again and again, while the cluster answers and the answer is held: how many Jobs there are, whatever their state, at most.
    pub fn watch_the_cap(&self) -> Arc<AtomicUsize> {
        let most = Arc::new(AtomicUsize::new(0));
        let (jobs, seen) = (self.jobs(), Arc::downgrade(&most));
        tokio::spawn(async move {
            while let Some(most) = seen.upgrade() {
                if let Ok(list) = jobs.list_metadata(&ListParams::default()).await {
                    most.fetch_max(list.items.len(), Ordering::SeqCst);
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        most
    }
}
