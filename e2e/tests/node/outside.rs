//! A Roadstead whose own servers are not on the node, so that it outlives it. Its attempts reach it by a way that can be cut.

use crate::lab::variable;
use kube::Client as Cluster;
use kube::api::ListParams;
use roadstead_testkit::{Client, JobsNamespace, Server, Stack, wait_for};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// This machine, as the node's pods know it.
pub const MACHINE: &str = "10.89.0.1";

pub struct Outside {
    pub client: Client,
    pub stack: Stack,
    pub to_api: Way,
    pub to_s3: Way,
    pub namespace: JobsNamespace,
    _servers: [Server; 2],
}

impl Outside {
    pub async fn new(settings: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::try_default().await.expect("KUBECONFIG names the lab");
        let namespace = JobsNamespace::create(cluster).await;

        let stack = Stack::new().await;
        let (to_api, to_s3) = (Way::to(&stack.api_url()).await, Way::to(&stack.s3.server().endpoint()).await);
        let settings: Vec<(&str, String)> = [
            ("LAUNCHER", "kubernetes".to_owned()),
            ("KUBERNETES_NAMESPACE", namespace.name.clone()),
            ("EXECUTOR_IMAGE", variable("ROADSTEAD_IMAGE_EXECUTOR")),
            ("API_URL", to_api.url.clone()),
            ("S3_PUBLIC_ENDPOINT", to_s3.url.clone()),
        ]
        .into_iter()
        .chain(settings.iter().map(|(name, value)| (*name, (*value).to_owned())))
        .collect();
        let api = settings.iter().fold(stack.api(), |api, (name, value)| api.env(name, value)).start().await;
        let worker =
            settings.iter().fold(stack.worker(), |worker, (name, value)| worker.env(name, value)).start().await;
        let client = api.client(&stack.key("acme", "submit").await);
        Self { client, stack, to_api, to_s3, namespace, _servers: [api, worker] }
    }

    pub async fn submit(&self, spec: Value, max_retries: u32) -> String {
        let body = json!({ "spec": spec, "max_retries": max_retries });
        let answer = self.client.post("/v1/executions", &body).await.expect(202);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until an execution is as it should be, and answers it.
    pub async fn sees(&self, id: &str, what: &str, within: Duration, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, within, async || {
            let execution = self.client.get(&format!("/v1/executions/{id}")).await.expect(200).json();
            if is(&execution) { Ok(execution) } else { Err(execution.to_string()) }
        })
        .await
    }

    pub async fn attempts(&self, id: &str) -> Vec<Value> {
        let page = self.client.get(&format!("/v1/executions/{id}/attempts")).await.expect(200).json();
        page["items"].as_array().unwrap().clone()
    }

    /// No Job, no pod, and every berth given back.
    pub async fn nothing_is_left(&self, within: Duration) {
        self.namespace.is_cleared(&ListParams::default(), within).await;
        wait_for("no berth", within, async || {
            let berths = self.stack.sql_value("SELECT count(*) FROM attempts WHERE released_at IS NULL").await;
            if berths == "0" { Ok(()) } else { Err(berths) }
        })
        .await;
    }
}

/// From the node's pods to a server of this machine. While it is cut, nothing passes.
pub struct Way {
    url: String,
    is_cut: watch::Sender<bool>,
}

impl Way {
    async fn to(server: &str) -> Self {
        let address = server.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind((MACHINE, 0)).await.expect("the lab's address");
        let url = format!("http://{}", listener.local_addr().unwrap());
        let is_cut = watch::Sender::new(false);
        let cut = is_cut.subscribe();
        tokio::spawn(async move {
            while let Ok((mut pod, _)) = listener.accept().await {
                let (address, mut cut) = (address.clone(), cut.clone());
                tokio::spawn(async move {
                    let pass = async {
                        let mut server = TcpStream::connect(&address).await?;
                        copy_bidirectional(&mut pod, &mut server).await
                    };
                    tokio::select! { _ = pass => {}, _ = cut.wait_for(|cut| *cut) => {} }
                });
            }
        });
        Self { url, is_cut }
    }

    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}
