//! A node that is played: to a real control plane it is a node with a kubelet, and to Roadstead each of its pods is an executor that speaks the real
//! protocol, with a ServiceAccount token that the cluster issued for that pod. Only containers there are none.
//!
//! For tests and benchmarks that ask what becomes of Jobs by the hundred; what containers really do is asked on a real node.

use crate::wait::{PATIENCE, wait_for};
use futures_util::TryStreamExt;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

const AUDIENCE: &str = "roadstead";
const EXECUTION: &str = "roadstead.dev/execution";
const ATTEMPT: &str = "roadstead.dev/attempt";
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Pods that are played at once.
const MAX_AT_ONCE: usize = 64;

/// What the executors do.
#[derive(Clone, Debug)]
pub struct Play {
    /// Where they find the API; `None`: they are no executors, and their pods succeed at once.
    pub api_url: Option<String>,
    /// From the start to the report.
    pub runs_for: Duration,
}

/// What was seen of the attempts, by execution and attempt.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Starts that were granted.
    pub starts: HashMap<(String, String), u32>,
    pub refused: u32,
    /// Pods that were running at once, at most.
    pub most_running: usize,
    pub running: HashSet<String>,
    pub ended: usize,
}

pub struct PlayedNode {
    name: String,
    client: Client,
    seen: Arc<Mutex<Seen>>,
    ended: watch::Sender<usize>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Player {
    client: Client,
    http: reqwest::Client,
    play: Play,
    seen: Arc<Mutex<Seen>>,
    ended: watch::Sender<usize>,
    places: Arc<Semaphore>,
}

impl PlayedNode {
    /// A node with room for anything, for the pods of one namespace.
    pub async fn start(client: Client, namespace: &str, play: Play) -> Self {
        let name = format!("played-{namespace}");
        join(&client, &name).await;
        let player = Player {
            client: client.clone(),
            http: reqwest::Client::new(),
            play,
            seen: Arc::default(),
            ended: watch::Sender::new(0),
            places: Arc::new(Semaphore::new(MAX_AT_ONCE)),
        };
        let tasks = vec![
            tokio::spawn(renew(client.clone(), name.clone())),
            tokio::spawn(player.clone().pods(namespace.to_owned())),
        ];
        Self { name, client, seen: player.seen.clone(), ended: player.ended.clone(), tasks }
    }

    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until this many pods have ended.
    pub async fn ended(&self, count: usize) {
        let mut ended = self.ended.subscribe();
        // Its sender is this node's.
        let _ = ended.wait_for(|ended| *ended >= count).await;
    }

    /// Leaves the cluster.
    pub async fn leave(self) {
        for task in &self.tasks {
            task.abort();
        }
        let _ = Api::<Node>::all(self.client).delete(&self.name, &DeleteParams::default()).await;
    }
}

async fn join(client: &Client, name: &str) {
    let room = json!({"cpu": "100000", "memory": "1000Ti", "ephemeral-storage": "1000Ti", "pods": "100000"});
    let node: Node = object(json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}));
    let nodes: Api<Node> = Api::all(client.clone());
    let _ = nodes.create(&PostParams::default(), &node).await;
    let status = json!({"status": {"capacity": room, "allocatable": room, "conditions": [
        {"type": "Ready", "status": "True", "reason": "Played", "message": "", "lastHeartbeatTime": Timestamp::now(), "lastTransitionTime": Timestamp::now()}]}});
    let ready = async || {
        let patched = nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(&status)).await;
        let node = patched.map_err(|error| error.to_string())?;
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        if taints.is_empty() { Ok(()) } else { Err(format!("{taints:?}")) }
    };
    wait_for("the played node without taints", PATIENCE, ready).await;
}

/// As kubelets say that they live.
async fn renew(client: Client, name: String) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    loop {
        let spec = LeaseSpec {
            holder_identity: Some(name.clone()),
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec});
        let _ = leases.patch(&name, &PatchParams::apply("played").force(), &Patch::Apply(&lease)).await;
        tokio::time::sleep(HEARTBEAT).await;
    }
}

impl Player {
    /// Its namespace's pods on whatever played node: the scheduler knows of no difference between them.
    async fn pods(self, namespace: String) {
        let config = watcher::Config::default().fields("spec.nodeName!=");
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &namespace);
        let mut pods = Box::pin(watcher(api, config).default_backoff().applied_objects());
        let mut known = HashSet::new();
        loop {
            let Ok(Some(pod)) = pods.try_next().await else { continue };
            let uid = pod.uid().unwrap_or_default();
            if pod.metadata.deletion_timestamp.is_some() {
                tokio::spawn(self.clone().let_go(pod));
            } else if known.insert(uid) {
                tokio::spawn(self.clone().live(pod));
            }
        }
    }

    async fn live(self, pod: Pod) {
        let _place = self.places.acquire().await;
        let token = if wants_token(&pod) { self.token(&pod).await } else { None };
        let code = match (&self.play.api_url, token) {
            (None, _) => 0,
            (Some(url), Some(token)) => self.run(&pod, url, &token).await,
            (Some(_), None) => 4,
        };
        self.end(&pod, code).await;
    }

    /// One executor's life; answers its exit status.
    async fn run(&self, pod: &Pod, api_url: &str, token: &str) -> i32 {
        let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
        let id = (label(EXECUTION), label(ATTEMPT));
        let base = format!("{api_url}/v1/attempts/{}/{}", id.0, id.1);
        self.with_seen(|seen| {
            seen.running.insert(pod.name_any());
            seen.most_running = seen.most_running.max(seen.running.len());
        });
        let session = uuid::Uuid::new_v4().simple().to_string().repeat(2);
        let status = self.post(&format!("{base}/start"), token, &json!({"session_token": session})).await;
        let code = if status == Some(200) {
            self.with_seen(|seen| *seen.starts.entry(id).or_default() += 1);
            tokio::time::sleep(self.play.runs_for).await;
            let report = json!({"outcome": {"status": "succeeded", "retryable": false}, "steps": []});
            match self.post(&format!("{base}/finish"), &session, &report).await {
                Some(200) => 0,
                _ => 7,
            }
        } else {
            self.with_seen(|seen| seen.refused += 1);
            3
        };
        self.with_seen(|seen| seen.running.remove(&pod.name_any()));
        code
    }

    /// As the kubelet asks for it.
    async fn token(&self, pod: &Pod) -> Option<String> {
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![AUDIENCE.to_owned()],
                expiration_seconds: Some(600),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.name_any()),
                    uid: pod.uid(),
                }),
            },
            ..TokenRequest::default()
        };
        let account = pod.spec.as_ref()?.service_account_name.clone()?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &pod.namespace()?);
        let answer = accounts.create_token_request(&account, &PostParams::default(), &request).await.ok()?;
        Some(answer.status?.token)
    }

    /// Tries until there is an answer, or half a minute is over.
    async fn post(&self, url: &str, token: &str, body: &Value) -> Option<u16> {
        for _ in 0..60 {
            match self.http.post(url).bearer_auth(token).json(body).send().await {
                Ok(answer) if answer.status().as_u16() < 500 && answer.status() != 429 => {
                    return Some(answer.status().as_u16());
                }
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        None
    }

    async fn end(&self, pod: &Pod, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let states: Vec<Value> = pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .map(|container| json!({
                "name": container.name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" }}},
            }))
            .collect();
        let status = json!({"status": {"phase": phase, "containerStatuses": states}});
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        for _ in 0..60 {
            match pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await {
                Ok(_) => break,
                Err(kube::Error::Api(status)) if status.code == 404 => break,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
        self.with_seen(|seen| seen.ended += 1);
        self.ended.send_modify(|ended| *ended += 1);
    }

    async fn let_go(self, pod: Pod) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        for _ in 0..60 {
            match pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await {
                Ok(_) => return,
                Err(kube::Error::Api(status)) if status.code == 404 => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        }
    }

    fn with_seen<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One of its volumes is a ServiceAccount's token.
fn wants_token(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let mut sources =
        volumes.filter_map(|volume| volume.projected.as_ref()).flat_map(|all| all.sources.iter().flatten());
    sources.any(|source| source.service_account_token.is_some())
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap_or_else(|error| panic!("not an object: {error}"))
}
