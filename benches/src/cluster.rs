//! Jobs of a real Kubernetes control plane, through Roadstead and bare, by turns in the same run: `--only cluster` with `KUBECONFIG`.
//!
//! Nodes and executors are played (`roadstead_testkit::PlayedNode`): what is measured is what Roadstead adds to what Kubernetes costs. The API and the
//! worker under test are of the stack's database and Redis; the stack's own stand still meanwhile.

use crate::report::{Figure, Report, median};
use crate::rounds::{Round, Work};
use crate::stack::{self, Stack};
use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use roadstead_testkit::{Play, PlayedNode};
use serde_json::json;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

const JOBS: usize = 1_000;
/// As many as the launcher has in flight; and as many that come first, so that connections are open and the namespace is known, as they are to the plain client.
const IN_FLIGHT: usize = 32;
const PATIENCE: Duration = Duration::from_secs(300);
const ROUNDS: usize = 3;

pub async fn measure(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("`--only cluster` needs KUBECONFIG")?;
    stack.pause_worker().await?;
    creations(stack, &client, report).await?;
    ends(stack, &client, report).await?;
    stack.resume_worker()
}

/// An API and a worker with the Kubernetes launcher.
struct Pair {
    url: String,
    client: reqwest::Client,
    api: Child,
    worker: Child,
}

impl Pair {
    async fn start(stack: &Stack, namespace: &str, queue: Option<&str>) -> anyhow::Result<Self> {
        let (api_port, worker_port) = (free_port()?, free_port()?);
        let url = format!("http://127.0.0.1:{api_port}");
        let start = |program: &str| -> anyhow::Result<Child> {
            let mut command = Command::new(stack.programs.join(program));
            command
                .env("DATABASE_URL", &stack.ready.database_url)
                .env("REDIS_URL", &stack.ready.redis_url)
                .env("REDIS_PREFIX", format!("bench-{namespace}"))
                .envs(stack.object_store()?)
                .env("LAUNCHER", "kubernetes")
                .env("KUBERNETES_NAMESPACE", namespace)
                .env("EXECUTOR_IMAGE", "executor:bench")
                .env("WORKFLOW_IMAGE", "workflow:bench")
                .env("MAX_CONCURRENT_JOBS", "100000")
                .env("API_HOST", "127.0.0.1")
                .env("API_PORT", api_port.to_string())
                .env("API_URL", &url)
                .env("WORKER_HOST", "127.0.0.1")
                .env("RUST_LOG", "warn")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true);
            if let Some(queue) = queue {
                command.env("KUEUE_QUEUE", queue);
            }
            if program == "roadstead-worker" {
                command.env("METRICS_PORT", worker_port.to_string());
            }
            Ok(command.spawn()?)
        };
        let pair = Self {
            api: start("roadstead-api")?,
            worker: start("roadstead-worker")?,
            url,
            client: reqwest::Client::new(),
        };
        for port in [api_port, worker_port] {
            let ready = format!("http://127.0.0.1:{port}/readyz");
            until("readiness", async || {
                Ok(pair.client.get(&ready).send().await.is_ok_and(|a| a.status().is_success()))
            })
            .await?;
        }
        Ok(pair)
    }

    fn processes(&self, stack: &Stack) -> Vec<(&'static str, u32)> {
        vec![
            ("api", self.api.id().unwrap_or(0)),
            ("worker", self.worker.id().unwrap_or(0)),
            ("postgres", stack.ready.pids.postgres),
            ("redis", stack.ready.pids.redis),
        ]
    }

    async fn submit(&self, stack: &Stack, count: usize) -> anyhow::Result<()> {
        let batch: Vec<_> = (0..count).map(|_| stack::noop()).collect();
        let request = self.client.post(format!("{}/v1/executions/batch", self.url)).bearer_auth(&stack.ready.api_key);
        let answer = request.json(&json!({ "executions": batch })).send().await?;
        if !answer.status().is_success() {
            return Err(anyhow!("{}", answer.text().await?));
        }
        Ok(())
    }

    async fn stop(mut self) -> anyhow::Result<()> {
        self.worker.kill().await?;
        Ok(self.api.kill().await?)
    }
}

/// Suspended Jobs: the API server's part alone.
async fn creations(stack: &Stack, client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        stack.reset().await?;
        let place = Place::make(client, &format!("create-{round}")).await?;
        let pair = Pair::start(stack, &place.name, Some("nobody")).await?;
        pair.submit(stack, IN_FLIGHT).await?;
        until("the first Jobs", async || Ok(place.count().await? >= IN_FLIGHT)).await?;
        let ran = Round::of(pair.processes(stack), async || {
            let begun = Instant::now();
            pair.submit(stack, JOBS).await?;
            until("the Jobs", async || Ok(place.count().await? >= IN_FLIGHT + JOBS)).await?;
            Ok(Work::since(begun, JOBS as f64))
        });
        ours.push(ran.await?);
        let model = place.one().await?.context("a Job")?;
        pair.stop().await?;
        place.remove().await?;

        let place = Place::make(client, &format!("bare-{round}")).await?;
        let begun = Instant::now();
        place.create(&model, JOBS).await?;
        bare.push(JOBS as f64 / begun.elapsed().as_secs_f64());
        place.remove().await?;
    }
    let ours = Round::median(&ours);
    report.add(Figure {
        name: format!("suspended Jobs created, {JOBS} queued"),
        value: ours.per_second,
        unit: "/s",
        control: Some((format!("a plain client with {IN_FLIGHT} in flight"), median(&bare))),
        cpu_micros: ours.micros,
        note: "submission included".into(),
    });
    Ok(())
}

/// From the submission to `succeeded`, and from a bare creation to `Complete`, on a played node.
async fn ends(stack: &Stack, client: &Client, report: &mut Report) -> anyhow::Result<()> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        stack.reset().await?;
        let place = Place::make(client, &format!("run-{round}")).await?;
        let pair = Pair::start(stack, &place.name, None).await?;
        let node = PlayedNode::start(
            client.clone(),
            &place.name,
            Play { api_url: Some(pair.url.clone()), runs_for: Duration::ZERO },
        )
        .await;
        let database = stack.database().await?;
        let since: std::time::SystemTime = database.query_one("SELECT now()", &[]).await?.get(0);
        let mut model = None;
        let ran = Round::of(pair.processes(stack), async || {
            let begun = Instant::now();
            pair.submit(stack, JOBS).await?;
            model = Some(until_some("a Job", async || place.one().await).await?);
            until("the ends", async || {
                let row = database
                    .query_one(
                        "SELECT count(*) FROM executions WHERE state = 'succeeded' AND finished_at > $1",
                        &[&since],
                    )
                    .await?;
                Ok(row.get::<_, i64>(0) >= JOBS as i64)
            })
            .await?;
            Ok(Work::since(begun, JOBS as f64))
        });
        ours.push(ran.await?);
        let model = model.context("a Job")?;
        pair.stop().await?;
        node.leave().await;
        place.remove().await?;

        let place = Place::make(client, &format!("end-{round}")).await?;
        let node =
            PlayedNode::start(client.clone(), &place.name, Play { api_url: None, runs_for: Duration::ZERO }).await;
        let begun = Instant::now();
        place.create(&model, JOBS).await?;
        until("the ends", async || Ok(place.complete().await? >= JOBS)).await?;
        bare.push(JOBS as f64 / begun.elapsed().as_secs_f64());
        node.leave().await;
        place.remove().await?;
    }
    let ours = Round::median(&ours);
    report.add(Figure {
        name: format!("submit to `succeeded` through Jobs, {JOBS} queued"),
        value: ours.per_second,
        unit: "/s",
        control: Some(("the same Jobs, bare, created to Complete".into(), median(&bare))),
        cpu_micros: ours.micros,
        note: "on a played node".into(),
    });
    Ok(())
}

/// A namespace of its own.
struct Place {
    name: String,
    client: Client,
}

impl Place {
    async fn make(client: &Client, purpose: &str) -> anyhow::Result<Self> {
        let name = format!("bench-{purpose}-{}", uuid::Uuid::new_v4().simple());
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "roadstead-executor"}}))?;
        Api::<ServiceAccount>::namespaced(client.clone(), &name).create(&PostParams::default(), &account).await?;
        Ok(Self { name, client: client.clone() })
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Of a page's rest the server says how many there are: nothing is read but one Job.
    async fn count(&self) -> anyhow::Result<usize> {
        let page = self.jobs().list_metadata(&ListParams::default().limit(1)).await?;
        Ok(page.items.len() + page.metadata.remaining_item_count.unwrap_or(0) as usize)
    }

    async fn complete(&self) -> anyhow::Result<usize> {
        let done = ListParams::default().fields("status.successful=1").limit(1);
        let page = self.jobs().list_metadata(&done).await?;
        if page.metadata.continue_.as_deref().unwrap_or_default().is_empty() && page.items.len() < JOBS {
            return Ok(page.items.len());
        }
        let done = ListParams::default().fields("status.successful=1");
        Ok(self.jobs().list_metadata(&done).await?.items.len())
    }

    /// A Job as Roadstead makes them, to be made bare, if there is one.
    async fn one(&self) -> anyhow::Result<Option<Job>> {
        Ok(self.jobs().list(&ListParams::default().limit(1)).await?.items.pop())
    }

    async fn create(&self, model: &Job, count: usize) -> anyhow::Result<()> {
        let jobs = self.jobs();
        let results = stream::iter(0..count)
            .map(|number| {
                let (jobs, mut job) = (jobs.clone(), Job { status: None, ..model.clone() });
                job.metadata = kube::api::ObjectMeta {
                    name: Some(format!("bare-{number}")),
                    labels: model.metadata.labels.clone(),
                    ..Default::default()
                };
                if let Some(spec) = &mut job.spec {
                    spec.selector = None;
                    if let Some(meta) = &mut spec.template.metadata {
                        meta.labels.iter_mut().for_each(|labels| {
                            labels.retain(|name, _| name.starts_with("roadstead.dev") || name.starts_with("app."));
                        });
                    }
                }
                async move { jobs.create(&PostParams::default(), &job).await }
            })
            .buffer_unordered(IN_FLIGHT)
            .collect::<Vec<_>>()
            .await;
        for result in results {
            result?;
        }
        Ok(())
    }

    /// And waits until it is gone: its collection must not run beside what is measured next.
    async fn remove(self) -> anyhow::Result<()> {
        let all = ListParams::default();
        self.jobs().delete_collection(&DeleteParams::background(), &all).await?;
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await?;
        until("the namespace to go", async || Ok(namespaces.get_opt(&self.name).await?.is_none())).await
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    until_some(what, async || Ok(holds().await?.then_some(()))).await
}

async fn until_some<T>(what: &str, mut find: impl AsyncFnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let patience = Instant::now() + PATIENCE;
    loop {
        match find().await? {
            Some(found) => return Ok(found),
            None if Instant::now() > patience => return Err(anyhow!("waited in vain for {what}")),
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
