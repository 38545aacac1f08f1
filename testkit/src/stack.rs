//! One test's Roadstead: its own database, Redis prefix and buckets, and the processes that it starts on them.

use crate::process::Process;
use crate::programs::{kept_logs, program};
use crate::server::{Cli, Server, run};
use crate::services::{Held, Postgres, Redis, S3, free_port, root};
use anyhow::{Context, Result};
use roadstead_cli::dev::launch::Launch;
use roadstead_cli::dev::postgres::connect;
use roadstead_cli::dev::processes::working_below;
use rustix::process::Signal;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::OnceCell;
use tokio_postgres::SimpleQueryMessage;

const TEMPLATE: &str = "roadstead_template";
const LOG_LINES: usize = 40;
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Which servers a stack does not share.
#[derive(Clone, Copy, Default)]
pub struct StackBuilder {
    own_postgres: bool,
    own_redis: bool,
    own_s3: bool,
}

pub struct Stack {
    pub postgres: Held<Postgres>,
    pub redis: Held<Redis>,
    pub s3: Held<S3>,
    pub redis_prefix: String,
    pub meta_bucket: String,
    pub content_bucket: String,
    name: String,
    database: String,
    folder: PathBuf,
    /// Of the first API; where workers and executors look for one.
    api_port: u16,
    apis: AtomicU32,
    workers: AtomicU32,
    processes: Mutex<Vec<Weak<Process>>>,
}

impl StackBuilder {
    /// One that may be stopped or crashed.
    #[must_use]
    pub fn own_postgres(self) -> Self {
        Self { own_postgres: true, ..self }
    }

    /// One that may be stopped, killed or emptied.
    #[must_use]
    pub fn own_redis(self) -> Self {
        Self { own_redis: true, ..self }
    }

    /// One that may be stopped or killed.
    #[must_use]
    pub fn own_s3(self) -> Self {
        Self { own_s3: true, ..self }
    }

    pub async fn start(self) -> Stack {
        self.try_start().await.unwrap_or_else(|e| panic!("can't start the stack: {e:#}"))
    }

    async fn try_start(self) -> Result<Stack> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let test = std::thread::current().name().unwrap_or("test").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let name = format!("{number}-{test}");
        let folder = root().await?.join(&name);
        std::fs::DirBuilder::new().mode(0o711).create(&folder)?;
        std::fs::create_dir(folder.join("workspaces"))?;
        let postgres = if self.own_postgres {
            Held::Own(Postgres::start(&folder.join("postgres")).await?)
        } else {
            Held::Shared(Postgres::shared().await?)
        };
        let redis = if self.own_redis {
            Held::Own(Redis::start(&folder.join("redis")).await?)
        } else {
            Held::Shared(Redis::shared().await?)
        };
        let s3 = if self.own_s3 {
            Held::Own(S3::start(&folder.join("s3")).await?)
        } else {
            Held::Shared(S3::shared().await?)
        };
        let stack = Stack {
            postgres,
            redis,
            s3,
            redis_prefix: format!("t{number}"),
            meta_bucket: format!("meta-{number}"),
            content_bucket: format!("content-{number}"),
            database: format!("test_{number}"),
            name,
            folder,
            api_port: free_port()?,
            apis: AtomicU32::new(0),
            workers: AtomicU32::new(0),
            processes: Mutex::default(),
        };
        stack.s3.server().make_bucket(&stack.meta_bucket)?;
        stack.s3.server().make_bucket(&stack.content_bucket)?;
        stack.make_database().await?;
        Ok(stack)
    }
}

impl Stack {
    /// On shared servers.
    pub async fn new() -> Self {
        StackBuilder::default().start().await
    }

    pub fn builder() -> StackBuilder {
        StackBuilder::default()
    }

    /// Its folder: logs, workspaces, and whatever the test wants to keep there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn workspaces(&self) -> PathBuf {
        self.folder.join("workspaces")
    }

    pub fn database_url(&self) -> String {
        self.postgres.url(&self.database)
    }

    /// Where workers and executors look for an API: the first one's address.
    pub fn api_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api_port)
    }

    /// An API to be started. The first is where workers look for one; others have addresses of their own.
    pub fn api(&self) -> ProgramBuilder<'_> {
        let number = self.apis.fetch_add(1, Ordering::Relaxed);
        let port = (number == 0).then_some(self.api_port);
        self.program("roadstead-api", format!("api-{number}"), port)
    }

    pub fn worker(&self) -> ProgramBuilder<'_> {
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        self.program("roadstead-worker", format!("worker-{number}"), None)
    }

    fn program(&self, program: &'static str, name: String, port: Option<u16>) -> ProgramBuilder<'_> {
        ProgramBuilder { stack: self, program, name, port, environment: Vec::new() }
    }

    /// A new API key.
    pub async fn key(&self, tenant: &str, role: &str) -> String {
        let output = self.admin(&["keys", "create", "--tenant", tenant, "--role", role]).await;
        let key = output.lines().map(str::trim).rfind(|line| !line.is_empty());
        key.unwrap_or_else(|| panic!("`keys create` printed no key: {output}")).to_owned()
    }

    /// What `roadstead-api` prints when it is run with these arguments.
    pub async fn admin(&self, arguments: &[&str]) -> String {
        let launch = self.launch("roadstead-api", "admin").map(|launch| launch.arguments(arguments));
        let output = async { run(launch?).await };
        output.await.unwrap_or_else(|e| panic!("roadstead-api {arguments:?}: {e:#}"))
    }

    /// The command line, against this API with this key.
    pub fn cli(&self, api: &Server, key: &str) -> Cli {
        Cli::new(api.url(), key, &self.folder)
    }

    /// Rows of a query, as psql would show them; `None` is NULL.
    pub async fn sql(&self, query: &str) -> Vec<Vec<Option<String>>> {
        let rows = async {
            let client = connect(&self.database_url()).await?;
            anyhow::Ok(client.simple_query(query).await?)
        };
        let messages = rows.await.unwrap_or_else(|e| panic!("{query}: {e:#}"));
        let cells =
            |row: tokio_postgres::SimpleQueryRow| (0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect();
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(cells(row)),
            _ => None,
        });
        rows.collect()
    }

    /// The one value of a query.
    pub async fn sql_value(&self, query: &str) -> String {
        let rows = self.sql(query).await;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        value.unwrap_or_else(|| panic!("{query}: no value"))
    }

    /// The environment that makes a server part of this stack.
    pub fn environment(&self) -> Vec<(String, String)> {
        let s3 = self.s3.server();
        let path = |path: Result<PathBuf>| path.map(|path| path.display().to_string()).unwrap_or_default();
        [
            ("DATABASE_URL", self.database_url()),
            ("REDIS_URL", self.redis.url()),
            ("REDIS_PREFIX", self.redis_prefix.clone()),
            ("S3_ENDPOINT", s3.endpoint()),
            ("S3_REGION", roadstead_cli::dev::s3::REGION.to_owned()),
            ("S3_ACCESS_KEY_ID", s3.access_key_id.clone()),
            ("S3_SECRET_ACCESS_KEY", s3.secret_access_key.clone()),
            ("META_BUCKET_NAME", self.meta_bucket.clone()),
            ("CONTENT_BUCKET_NAME", self.content_bucket.clone()),
            ("API_HOST", "127.0.0.1".to_owned()),
            ("WORKER_HOST", "127.0.0.1".to_owned()),
            ("API_URL", self.api_url()),
            ("LAUNCHER", "process".to_owned()),
            ("EXECUTOR_PATH", path(program("roadstead-executor"))),
            ("WORKSPACE_ROOT", self.workspaces().display().to_string()),
            ("MIGRATE_ON_START", "false".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    fn launch(&self, name: &str, log: &str) -> Result<Launch> {
        let mut launch = Launch::new(program(name)?, self.folder.clone(), self.folder.join(format!("{log}.log")));
        launch.environment = self.environment();
        launch.hidden = HIDDEN;
        Ok(launch)
    }

    /// A copy of a database that was migrated once.
    async fn make_database(&self) -> Result<()> {
        static SHARED_TEMPLATE: OnceCell<()> = OnceCell::const_new();
        match &self.postgres {
            Held::Shared(_) => SHARED_TEMPLATE.get_or_try_init(async || self.make_template().await).await.map(drop)?,
            Held::Own(_) => self.make_template().await?,
        }
        self.postgres.administer(&format!("CREATE DATABASE {} TEMPLATE {TEMPLATE}", self.database)).await
    }

    async fn make_template(&self) -> Result<()> {
        self.postgres.administer(&format!("CREATE DATABASE {TEMPLATE}")).await?;
        let mut launch = self.launch("roadstead-api", "migrate")?.arguments(["migrate"]);
        launch.environment.push(("DATABASE_URL".to_owned(), self.postgres.url(TEMPLATE)));
        run(launch).await.context("roadstead-api migrate").map(drop)
    }

    fn remember(&self, process: &Arc<Process>) {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(process));
    }

    /// Shows the ends of the logs and keeps the whole of them.
    fn tell_logs(&self) {
        let logs = std::fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut logs: Vec<PathBuf> = logs.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        logs.sort();
        let kept = kept_logs(&self.name).and_then(|kept| Ok(std::fs::create_dir_all(&kept).map(|()| kept)?));
        for log in logs {
            let text = String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            let name = log.file_name().unwrap_or_default();
            eprintln!("--- the end of {} ---\n{end}", name.display());
            if let Ok(kept) = &kept {
                let _ = std::fs::copy(&log, kept.join(name));
            }
        }
        if let Ok(kept) = &kept {
            eprintln!("--- the whole logs are in {} ---", kept.display());
        }
    }
}

/// Names by which somebody's own settings would get into a test.
const HIDDEN: &[&str] = &[
    "DATABASE_DSN",
    "REDIS_ADDR",
    "S3_PUBLIC_ENDPOINT",
    "META_BUCKET",
    "CONTENT_BUCKET",
    "SERVER_ADDR",
    "BASE_URL",
    "DEV_MODE",
    "KUBERNETES_ENABLED",
    "METRICS_ENABLED",
    "METRICS_PORT",
    "MAX_CONCURRENT_JOBS",
    "JOB_TIMEOUT",
    "JOB_TIMEOUT_SECONDS",
    "JOB_START_TIMEOUT_SECONDS",
    "JOB_MAX_RETRIES",
    "RUST_LOG",
    "ROADSTEAD_CONFIG",
];

impl Drop for Stack {
    fn drop(&mut self) {
        let processes = std::mem::take(&mut *self.processes.lock().unwrap_or_else(PoisonError::into_inner));
        for process in processes.iter().filter_map(Weak::upgrade) {
            process.kill();
        }
        // Executors outlive their worker by design.
        for process in working_below(&self.workspaces()) {
            process.signal(Signal::KILL);
        }
        if std::thread::panicking() {
            self.tell_logs();
        }
    }
}

/// A server to be started, with settings of its own.
pub struct ProgramBuilder<'a> {
    stack: &'a Stack,
    program: &'static str,
    name: String,
    port: Option<u16>,
    environment: Vec<(String, String)>,
}

impl ProgramBuilder<'_> {
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Starts it without waiting for anything: for what should not start, or not yet.
    pub fn spawn(self) -> Server {
        self.try_spawn().unwrap_or_else(|e| panic!("{e:#}"))
    }

    /// Starts it and waits until it says that it is ready.
    pub async fn start(self) -> Server {
        let server = self.spawn();
        server.ready().await;
        server
    }

    fn try_spawn(self) -> Result<Server> {
        let port = self.port.map_or_else(free_port, Ok)?;
        let variable = if self.program == "roadstead-api" { "API_PORT" } else { "METRICS_PORT" };
        let mut launch = self.stack.launch(self.program, &self.name)?;
        launch.environment.push((variable.to_owned(), port.to_string()));
        // A worker's executors inherit it, and are known by it when they outlive their worker.
        launch.folder = self.stack.workspaces();
        launch.environment.extend(self.environment);
        let process = Arc::new(Process::start(self.name, launch)?);
        self.stack.remember(&process);
        Ok(Server { process, url: format!("http://127.0.0.1:{port}") })
    }
}
