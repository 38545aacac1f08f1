//! The usual cast: an API, workers that may be killed, a played node, and the cluster seen from outside.

use crate::redis_door::RedisDoor;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::Client as Cluster;
use kube::api::ListParams;
use kube::client::Body;
use roadstead_testkit::{Client, JobsNamespace, PATIENCE, Play, PlayedNode, Server, Stack, wait_for};
use serde_json::json;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

/// For everything that was begun to come to its end, with a takeover of launches (15 s) in it.
pub const TO_THE_END: Duration = Duration::from_secs(150);

pub struct World {
    pub workers: Vec<Arc<Server>>,
    pub client: Client,
    pub node: PlayedNode,
    pub door: Arc<Door>,
    pub redis_door: RedisDoor,
    pub namespace: JobsNamespace,
    settings: Vec<(String, String)>,
    _api: Server,
    pub stack: Stack,
}

impl World {
    pub async fn new(cap: usize, runs_for: Duration) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let cluster = Cluster::try_default().await.expect("KUBECONFIG names a cluster");
        let namespace = JobsNamespace::create(cluster.clone()).await;

        let stack = Stack::new().await;
        let door = Door::open(cluster.clone(), stack.folder().join("kubeconfig")).await;
        let redis_door = RedisDoor::open(&stack.redis.url()).await;
        let settings = [
            ("LAUNCHER", "kubernetes"),
            ("KUBERNETES_NAMESPACE", &namespace.name),
            ("EXECUTOR_IMAGE", "executor:1"),
            ("WORKFLOW_IMAGE", "workflow:1"),
            ("KUBERNETES_RECONCILE_INTERVAL", "2s"),
            ("MAX_CONCURRENT_JOBS", &cap.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let api = settings.iter().fold(stack.api(), |api, (name, value)| api.env(name, value)).start().await;
        let client = api.client(&stack.key("acme", "submit").await);
        let play = Play { api_url: Some(stack.api_url()), runs_for };
        let node = PlayedNode::start(cluster, &namespace.name, play).await;
        Self { workers: Vec::new(), client, node, door, redis_door, namespace, settings, _api: api, stack }
    }

    /// A worker behind the two doors.
    pub async fn worker(&mut self) -> Arc<Server> {
        let worker = self
            .settings
            .iter()
            .fold(self.stack.worker(), |worker, (name, value)| worker.env(name, value))
            .env("KUBECONFIG", self.door.kubeconfig.display().to_string())
            .env("REDIS_URL", self.redis_door.url());
        let worker = Arc::new(worker.start().await);
        self.workers.push(Arc::clone(&worker));
        worker
    }

    pub async fn submit(&self) -> String {
        let body = json!({"spec": {"steps": [{"id": "noop", "command": ["true"]}]}});
        self.client.post("/v1/executions", &body).await.expect(202).json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until all have succeeded in their first attempts, each started once, and nothing is left in the cluster.
    pub async fn all_end_well(&self, count: usize) {
        let ended = "SELECT concat_ws(' ', count(*) FILTER (WHERE state = 'succeeded'), count(*) FILTER (WHERE attempt = 1), count(*)) FROM executions";
        wait_for("every execution to succeed at its first attempt", TO_THE_END, async || {
            let told = self.stack.sql_value(ended).await;
            if told == format!("{count} {count} {count}") { Ok(()) } else { Err(told) }
        })
        .await;
        let seen = self.node.seen();
        assert_eq!(seen.starts.len(), count, "{seen:?}");
        assert!(seen.starts.values().all(|starts| *starts == 1), "nothing is started twice: {seen:?}");
        self.namespace.is_cleared(&ListParams::default(), PATIENCE).await;
        let open = self.stack.sql_value("SELECT count(*) FROM attempts WHERE released_at IS NULL").await;
        assert_eq!(open, "0", "every berth was given back");
    }
}

/// What becomes of a request to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// It never arrives.
    LoseRequest,
    /// It is done, and its answer never arrives.
    LoseReply,
}

type Judge = Box<dyn FnMut(&str, &str) -> Fate + Send>;

/// A way to the cluster's API on which a test decides what arrives.
pub struct Door {
    pub kubeconfig: PathBuf,
    judge: Mutex<Judge>,
}

impl Door {
    async fn open(cluster: Cluster, kubeconfig: PathBuf) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "door",
            "contexts": [{"name": "door", "context": {"cluster": "door", "user": "door"}}],
            "clusters": [{"name": "door", "cluster": {"server": format!("http://{}", listener.local_addr().unwrap())}}],
            "users": [{"name": "door", "user": {}}],
        });
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        let door = Arc::new(Self { kubeconfig, judge: Mutex::new(Box::new(|_, _| Fate::Pass)) });
        let open = Arc::clone(&door);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (door, cluster) = (Arc::clone(&open), cluster.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| pass(Arc::clone(&door), cluster.clone(), request));
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        door
    }

    /// Decides by method and path from now on.
    pub fn judge(&self, judge: impl FnMut(&str, &str) -> Fate + Send + 'static) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    pub fn pass_all(&self) {
        self.judge(|_, _| Fate::Pass);
    }
}

type Answer = Result<Response<http_body_util::combinators::UnsyncBoxBody<Bytes, kube::Error>>, std::io::Error>;

fn pass(door: Arc<Door>, cluster: Cluster, request: Request<hyper::body::Incoming>) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        let lost = || std::io::Error::other("lost on the way");
        let fate = {
            let mut judge = door.judge.lock().unwrap();
            judge(request.method().as_str(), request.uri().path())
        };
        if fate == Fate::LoseRequest {
            return Err(lost());
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let mut onward =
            Request::builder().method(head.method).uri(head.uri.path_and_query().map_or("/", |p| p.as_str()));
        for name in ["content-type", "accept"] {
            if let Some(value) = head.headers.get(name) {
                onward = onward.header(name, value);
            }
        }
        let onward = onward.body(Body::from(body.to_vec())).map_err(std::io::Error::other)?;
        let answer = cluster.send(onward).await;
        if fate == Fate::LoseReply {
            return Err(lost());
        }
        let Ok(answer) = answer else {
            let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
            return Response::builder().status(503).body(body).map_err(std::io::Error::other);
        };
        let (head, body) = answer.into_parts();
        let mut response = Response::builder().status(head.status);
        if let Some(value) = head.headers.get("content-type") {
            response = response.header("content-type", value);
        }
        response.body(body.boxed_unsync()).map_err(std::io::Error::other)
    })
}
