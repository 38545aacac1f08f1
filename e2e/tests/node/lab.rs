//! The installation under test, and the verbs of a story.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client as Cluster};
use roadstead_testkit::{Client, JobsNamespace, wait_for};
use serde_json::{Value, json};
use std::time::Duration;

/// For an execution on a node of two busy cores.
pub const RUN: Duration = Duration::from_secs(120);

pub struct Lab {
    pub client: Client,
    pub namespace: String,
    /// Where attempts run.
    pub attempts: JobsNamespace,
}

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: scripts/e2e.sh sets it"))
}

/// Does something to the lab itself.
pub async fn kubelab(arguments: &[&str]) {
    let status = tokio::process::Command::new("kubelab").args(arguments).status().await.expect("kubelab is in PATH");
    assert!(status.success(), "kubelab {arguments:?}: {status}");
}

/// An image with a shell.
pub fn busybox() -> String {
    variable("ROADSTEAD_IMAGE_BUSYBOX")
}

impl Lab {
    pub async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::try_default().await.expect("KUBECONFIG names the lab");
        Self {
            client: Client::new(&variable("ROADSTEAD_URL"), Some(&variable("ROADSTEAD_API_KEY"))),
            attempts: JobsNamespace::of(cluster, variable("ROADSTEAD_JOBS_NAMESPACE")),
            namespace: variable("ROADSTEAD_NAMESPACE"),
        }
    }

    /// Submits a definition as it is, for one attempt; answers the execution's id.
    pub async fn submit(&self, spec: Value) -> String {
        self.submit_with_retries(spec, 0).await
    }

    pub async fn submit_with_retries(&self, spec: Value, max_retries: u32) -> String {
        let body = json!({ "spec": spec, "max_retries": max_retries });
        self.client.post("/v1/executions", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn get(&self, id: &str) -> Value {
        self.client.get(&format!("/v1/executions/{id}")).await.expect(200).json()
    }

    /// The code of each attempt's reason.
    pub async fn codes(&self, id: &str) -> Vec<Value> {
        let attempts = self.client.get(&format!("/v1/executions/{id}/attempts")).await.expect(200).json();
        attempts["items"].as_array().unwrap().iter().map(|attempt| attempt["reason"]["code"].clone()).collect()
    }

    pub async fn runs(&self, id: &str) {
        wait_for("its start", RUN, async || {
            let state = self.get(id).await["state"].clone();
            if state == "running" { Ok(()) } else { Err(state.to_string()) }
        })
        .await;
    }

    pub async fn ended(&self, id: &str) -> Value {
        self.ended_within(id, RUN).await
    }

    pub async fn ended_within(&self, id: &str, within: Duration) -> Value {
        wait_for("its end", within, async || {
            let execution = self.get(id).await;
            let state = execution["state"].as_str().unwrap_or_default();
            if ["succeeded", "failed", "timed_out", "cancelled"].contains(&state) {
                Ok(execution)
            } else {
                Err(execution.to_string())
            }
        })
        .await
    }

    /// Waits until it gives this reason; answers the execution.
    pub async fn says(&self, id: &str, code: &str) -> Value {
        wait_for(code, RUN, async || {
            let execution = self.get(id).await;
            if execution["reason"]["code"] == code { Ok(execution) } else { Err(execution.to_string()) }
        })
        .await
    }

    pub async fn log(&self, id: &str) -> String {
        self.client.get(&format!("/v1/executions/{id}/logs")).await.expect(200).text().clone()
    }

    pub async fn cancel(&self, id: &str) {
        self.client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    }

    /// Live attempts over all workers.
    pub async fn cap(&self) -> usize {
        self.client.get("/v1/capacity").await.expect(200).json()["cap"].as_u64().unwrap() as usize
    }

    pub fn jobs(&self) -> Api<Job> {
        self.attempts.jobs()
    }

    pub fn pods(&self) -> Api<Pod> {
        self.attempts.pods()
    }

    /// The pod of an execution's attempt, once it is there.
    pub async fn pod(&self, id: &str) -> Pod {
        let labelled = ListParams::default().labels(&format!("roadstead.dev/execution={id}"));
        wait_for("its pod", RUN, async || {
            let pods = self.pods().list(&labelled).await.map_err(|error| error.to_string())?;
            pods.items.into_iter().next().ok_or_else(|| "none".to_owned())
        })
        .await
    }

    /// Nothing of an execution is left in the cluster.
    pub async fn is_cleared(&self, id: &str) {
        let labelled = ListParams::default().labels(&format!("roadstead.dev/execution={id}"));
        self.attempts.is_cleared(&labelled, RUN).await;
    }
}

/// One step: a script for busybox's shell, in little room.
pub fn script(text: &str) -> Value {
    json!({
        "image": busybox(),
        "steps": [{"id": "a", "command": ["sh", "-c", text]}],
        "resources": {"cpu": "100m", "memory": "64Mi", "ephemeral_storage": "64Mi"},
    })
}
