//! The whole stack: what is started, in which order, with which settings; and how it ends.
//!
//! Started: PostgreSQL, Redis and S3 at the same time; then migrations and the key; then the API and the worker at the same time.
//! Ended in the other direction, and what steps have left behind is ended too.

use super::credentials::Credentials;
use super::error::DevError;
use super::folder::Folder;
use super::launch::Launch;
use super::postgres::Cluster;
use super::programs::{self, Programs};
use super::supervise::{Ending, Supervisor, run_to_end};
use super::{ports, postgres, redis, s3};
use rustix::process::Signal;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DATABASE: &str = "roadstead";
const META_BUCKET: &str = "roadstead-meta";
const CONTENT_BUCKET: &str = "roadstead-content";
const DEFAULT_PORT: u16 = 8080;
const SERVER_START: Duration = Duration::from_mins(1);
const COMMAND: Duration = Duration::from_mins(2);
const OURS: Ending = Ending { signal: Signal::TERM, patience: Duration::from_secs(10) };
const SWEEP: Duration = Duration::from_secs(5);
/// The order of ending.
const PARTS: [&str; 5] = ["worker", "api", "s3", "redis", "postgres"];
/// Names by which somebody's own settings would get into this stack. Limits and deadlines are not among them: those are for trying out.
const HIDDEN: &[&str] = &[
    "DATABASE_DSN",
    "REDIS_ADDR",
    "REDIS_PREFIX",
    "S3_PUBLIC_ENDPOINT",
    "META_BUCKET",
    "CONTENT_BUCKET",
    "SERVER_ADDR",
    "DEV_MODE",
    "KUBERNETES_ENABLED",
    "METRICS_ENABLED",
    "METRICS_PORT",
    "S3_PATH_STYLE",
    "S3_CREATE_BUCKETS",
    "ROADSTEAD_CONFIG",
    "ROADSTEAD_URL",
    "ROADSTEAD_API_KEY",
    // A proxy has no way to this machine's own servers.
    "ALL_PROXY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "all_proxy",
    "http_proxy",
    "https_proxy",
];

/// Where everything is, as one JSON line.
#[derive(Clone, Debug, Serialize)]
pub struct Addresses {
    pub api_url: String,
    pub api_key: String,
    pub database_url: String,
    pub redis_url: String,
    pub s3_endpoint: String,
    pub pids: Pids,
    #[serde(skip)]
    pub worker_url: String,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Pids {
    pub api: u32,
    pub worker: u32,
    pub postgres: u32,
    pub redis: u32,
    pub s3: u32,
}

pub struct Stack<'a> {
    folder: &'a Folder,
    supervisor: &'a Supervisor,
    api: PathBuf,
    worker: PathBuf,
    executor: PathBuf,
    cluster: Cluster,
    redis: redis::Server,
    s3: s3::Server,
    credentials: Credentials,
    api_port: u16,
    worker_port: u16,
    max_concurrent_jobs: Option<u32>,
}

impl<'a> Stack<'a> {
    /// Finds every program and port before anything is started.
    pub fn plan(
        folder: &'a Folder,
        supervisor: &'a Supervisor,
        programs: Programs,
        port: Option<u16>,
        max_concurrent_jobs: Option<u32>,
    ) -> Result<Self, DevError> {
        let own = programs::own_folder()?;
        let mut taken = Vec::new();
        let api_port = api_port(port, &mut taken)?;
        let mut free = || ports::free(&mut taken);
        let kept = Credentials::load(&folder.credentials())?;
        let mut credentials = kept.clone().unwrap_or_else(Credentials::generate);
        let password = credentials.postgres_password.clone();
        let cluster = Cluster::new(programs.postgres_bin, &folder.postgres(), free()?, password, true)?;
        if kept.is_none() {
            cluster.remove()?;
        }
        if !cluster.is_initialised() {
            // A key of a database that is gone.
            credentials.api_key = None;
        }
        credentials.save(&folder.credentials())?;
        let (id, secret) = (credentials.s3_access_key_id.clone(), credentials.s3_secret_access_key.clone());
        Ok(Self {
            api: programs::own(&own, "roadstead-api")?,
            worker: programs::own(&own, "roadstead-worker")?,
            executor: programs::own(&own, "roadstead-executor")?,
            redis: redis::Server::new(
                programs.redis_server,
                &folder.redis(),
                free()?,
                credentials.redis_password.clone(),
            ),
            s3: s3::Server::new(programs::own(&own, "roadstead")?, &folder.s3(), free()?, id, secret),
            worker_port: free()?,
            folder,
            supervisor,
            cluster,
            credentials,
            api_port,
            max_concurrent_jobs,
        })
    }

    /// Starts everything and waits until it is ready.
    pub async fn start(&mut self) -> Result<Addresses, DevError> {
        tokio::try_join!(self.start_postgres(), self.start_redis(), self.start_s3())?;
        self.migrate().await?;
        let api_key = self.api_key().await?;
        let server = |program: &Path, part| Ok(self.ours(program, self.folder.fresh_log(part)?));
        let mut worker = server(&self.worker, "worker")?;
        worker.environment.push(("METRICS_PORT".to_owned(), self.worker_port.to_string()));
        // Executors inherit it, and are known by it when nobody is left who started them.
        worker.folder = self.folder.workspaces();
        self.supervisor.start("api", server(&self.api, "api")?, OURS);
        self.supervisor.start("worker", worker, OURS);
        tokio::try_join!(
            self.supervisor.ready("api", SERVER_START, async || is_ready(self.api_port).await),
            self.supervisor.ready("worker", SERVER_START, async || is_ready(self.worker_port).await),
        )?;
        Ok(self.addresses(api_key))
    }

    fn addresses(&self, api_key: String) -> Addresses {
        let pid = |part| self.supervisor.pid(part).unwrap_or_default();
        Addresses {
            api_url: self.api_url(),
            api_key,
            database_url: self.cluster.url(DATABASE),
            redis_url: self.redis.url(),
            s3_endpoint: self.s3.endpoint(),
            pids: Pids {
                api: pid("api"),
                worker: pid("worker"),
                postgres: pid("postgres"),
                redis: pid("redis"),
                s3: pid("s3"),
            },
            worker_url: format!("http://127.0.0.1:{}", self.worker_port),
        }
    }

    async fn start_postgres(&self) -> Result<(), DevError> {
        if !self.cluster.is_initialised() {
            let initialisation = self.cluster.initialisation(self.folder.fresh_log("initdb")?)?;
            run_to_end(self.supervisor.ledger(), "initdb", &initialisation, COMMAND).await?;
            self.cluster.initialised()?;
        }
        self.supervisor.start("postgres", self.cluster.server(self.folder.fresh_log("postgres")?)?, postgres::ENDING);
        self.supervisor.ready("postgres", SERVER_START, async || self.cluster.accepts().await).await?;
        self.cluster.ensure_database(DATABASE).await
    }

    async fn start_redis(&self) -> Result<(), DevError> {
        self.supervisor.start("redis", self.redis.launch(self.folder.fresh_log("redis")?)?, redis::ENDING);
        self.supervisor.ready("redis", SERVER_START, async || self.redis.answers().await).await
    }

    async fn start_s3(&self) -> Result<(), DevError> {
        self.s3.make_bucket(META_BUCKET)?;
        self.s3.make_bucket(CONTENT_BUCKET)?;
        self.supervisor.start("s3", self.s3.launch(self.folder.fresh_log("s3")?), s3::ENDING);
        self.supervisor.ready("s3", SERVER_START, async || self.s3.answers().await).await
    }

    async fn migrate(&self) -> Result<(), DevError> {
        let launch = self.ours(&self.api, self.folder.fresh_log("migrate")?).arguments(["migrate"]);
        run_to_end(self.supervisor.ledger(), "migrate", &launch, COMMAND).await.map(drop)
    }

    /// The key for people, made at the first start.
    async fn api_key(&mut self) -> Result<String, DevError> {
        if let Some(key) = &self.credentials.api_key {
            return Ok(key.clone());
        }
        let log = self.folder.fresh_log("keys")?;
        let arguments = ["keys", "create", "--tenant", "default", "--role", "admin"];
        let launch = self.ours(&self.api, log.clone()).arguments(arguments);
        let output = run_to_end(self.supervisor.ledger(), "keys create", &launch, COMMAND).await?;
        let output = String::from_utf8_lossy(&output).into_owned();
        let key = output.lines().map(str::trim).rfind(|line| !line.is_empty());
        let key = key.ok_or_else(|| DevError::CommandFailed {
            what: "keys create".to_owned(),
            why: "it printed no key".to_owned(),
            log,
        })?;
        self.credentials.api_key = Some(key.to_owned());
        self.credentials.save(&self.folder.credentials())?;
        Ok(key.to_owned())
    }

    /// One of our own programs under this stack's configuration; all of them are given the same.
    fn ours(&self, program: &Path, log: PathBuf) -> Launch {
        let mut launch = Launch::new(program.to_owned(), self.folder.root().to_owned(), log);
        let mut set = |name: &str, value: String| launch.environment.push((name.to_owned(), value));
        set("DATABASE_URL", self.cluster.url(DATABASE));
        set("REDIS_URL", self.redis.url());
        set("S3_ENDPOINT", self.s3.endpoint());
        set("S3_REGION", s3::REGION.to_owned());
        set("S3_ACCESS_KEY_ID", self.s3.access_key_id.clone());
        set("S3_SECRET_ACCESS_KEY", self.s3.secret_access_key.clone());
        set("META_BUCKET_NAME", META_BUCKET.to_owned());
        set("CONTENT_BUCKET_NAME", CONTENT_BUCKET.to_owned());
        set("API_HOST", "127.0.0.1".to_owned());
        set("WORKER_HOST", "127.0.0.1".to_owned());
        set("API_PORT", self.api_port.to_string());
        set("API_URL", self.api_url());
        set("BASE_URL", self.api_url());
        set("MIGRATE_ON_START", "false".to_owned());
        set("SHUTDOWN_TIMEOUT", "3s".to_owned());
        set("LOG_FORMAT", "text".to_owned());
        set("LAUNCHER", "process".to_owned());
        set("EXECUTOR_PATH", self.executor.display().to_string());
        set("WORKSPACE_ROOT", self.folder.workspaces().display().to_string());
        if let Some(cap) = self.max_concurrent_jobs {
            set("MAX_CONCURRENT_JOBS", cap.to_string());
        }
        launch.hidden = HIDDEN;
        launch
    }

    fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }
}

/// Ends everything that was started so far, in order.
pub async fn stop(supervisor: &Supervisor) {
    supervisor.restart_no_more();
    for part in PARTS {
        if part == "worker" {
            supervisor.stop_with_executors(part).await;
            // Executors outlive their worker by design, and steps may outlive their executor.
            supervisor.sweep(SWEEP).await;
        } else {
            supervisor.stop(part).await;
        }
    }
    supervisor.sweep(SWEEP).await;
}

/// The port that was asked for, which must be free; else the usual one or any.
fn api_port(wanted: Option<u16>, taken: &mut Vec<u16>) -> Result<u16, DevError> {
    match wanted {
        Some(port) if port != 0 && !ports::is_free(port) => Err(DevError::PortTaken { port }),
        Some(port) if port != 0 => {
            taken.push(port);
            Ok(port)
        }
        None if ports::is_free(DEFAULT_PORT) => Ok(DEFAULT_PORT),
        _ => ports::free(taken),
    }
}

/// Whether one of our servers says that it is ready.
async fn is_ready(port: u16) -> Result<(), String> {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = ask.await.map_err(|e| e.to_string())?;
    if answer.get(..12).is_some_and(|status| status.starts_with(b"HTTP/1.") && status.ends_with(b" 200")) {
        return Ok(());
    }
    Err(format!("/readyz says: {}", String::from_utf8_lossy(&answer).lines().last().unwrap_or_default()))
}
