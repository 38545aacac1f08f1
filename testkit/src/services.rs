//! The servers that a stack needs. By default one of each for the whole test process, started when the first test asks for it;
//! a test that wants to kill or empty one gets its own.

use crate::process::Process;
use crate::programs::program;
use crate::wait::{PATIENCE, wait_for};
use crate::watchdog::Watchdog;
use anyhow::{Context, Result, bail};
use roadstead_cli::dev::postgres::{self, Cluster};
use roadstead_cli::dev::programs::Programs;
use roadstead_cli::dev::{ports, redis, s3};
use rustix::process::Signal;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokio::sync::OnceCell;

static PORTS: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// A port that nobody else of this process is given.
pub fn free_port() -> Result<u16> {
    let mut taken = PORTS.lock().map_err(|_| anyhow::anyhow!("a test panicked while it took a port"))?;
    Ok(ports::free(&mut taken)?)
}

/// One that all tests share, or one of a test's own.
pub enum Held<T: 'static> {
    Shared(&'static T),
    Own(T),
}

impl<T> Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

/// The folder of everything that this test process makes.
pub async fn root() -> Result<&'static Path> {
    static ROOT: OnceCell<(PathBuf, Watchdog)> = OnceCell::const_new();
    let make = async || {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::Builder::new().prefix("roadstead-test-").tempdir()?.keep().canonicalize()?;
        // PostgreSQL may run as somebody else, who has to get through.
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o711))?;
        let watchdog = Watchdog::over(&[&root])?;
        anyhow::Ok((root, watchdog))
    };
    Ok(&ROOT.get_or_try_init(make).await?.0)
}

/// PostgreSQL. Without `fsync`: what the tests promise is kept through their processes' death, not the machine's.
pub struct Postgres {
    cluster: Cluster,
    process: Process,
    _watchdog: Watchdog,
}

impl Postgres {
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_try_init(async || Self::start(&root().await?.join("postgres")).await).await
    }

    pub async fn start(folder: &Path) -> Result<Self> {
        let log = folder.with_extension("log");
        let cluster =
            Cluster::new(Programs::installed()?.postgres_bin, folder, free_port()?, "test".to_owned(), false)?;
        let initialisation = cluster.initialisation(log.clone())?;
        let watchdog = Watchdog::over(&[cluster.base()])?;
        let status = tokio::task::spawn_blocking(move || initialisation.command()?.status()).await??;
        if !status.success() {
            bail!("initdb failed: {}", std::fs::read_to_string(log).unwrap_or_default());
        }
        cluster.initialised()?;
        let process = Process::start("postgres", cluster.server(log)?)?;
        let server = Self { cluster, process, _watchdog: watchdog };
        server.ready().await;
        Ok(server)
    }

    pub async fn ready(&self) {
        answers(&self.process, async || self.cluster.accepts().await).await;
    }

    pub fn url(&self, database: &str) -> String {
        self.cluster.url(database)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// An orderly end, without waiting for clients.
    pub async fn stop(&self) {
        self.process.signal(postgres::ENDING.signal);
        self.process.ended().await;
    }

    /// The end as a crash of the server makes it.
    pub async fn crash(&self) {
        self.process.signal(Signal::QUIT);
        self.process.ended().await;
    }

    pub async fn restart(&self) {
        self.process.restart();
        self.ready().await;
    }

    /// Runs statements in the database `postgres`.
    pub async fn administer(&self, sql: &str) -> Result<()> {
        let client = self.cluster.connect("postgres").await?;
        client.batch_execute(sql).await.with_context(|| sql.to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A kill would leave its shared memory behind.
        self.process.end(Signal::QUIT);
    }
}

pub struct Redis {
    server: redis::Server,
    process: Process,
}

impl Redis {
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_try_init(async || Self::start(&root().await?.join("redis")).await).await
    }

    pub async fn start(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let program = Programs::installed()?.redis_server;
        let server = redis::Server::new(program, folder, free_port()?, "test".to_owned());
        let process = Process::start("redis", server.launch(folder.with_extension("log"))?)?;
        let server = Self { server, process };
        server.ready().await;
        Ok(server)
    }

    pub async fn ready(&self) {
        answers(&self.process, async || self.server.answers().await).await;
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub async fn restart(&self) {
        self.process.restart();
        self.ready().await;
    }

    /// One command, given as words.
    pub async fn command<T: ::redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let run = async {
            let mut connection = ::redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
            let (name, arguments) = words.split_first().context("no command")?;
            anyhow::Ok(::redis::cmd(name).arg(arguments).query_async(&mut connection).await?)
        };
        run.await.unwrap_or_else(|e| panic!("redis {words:?}: {e:#}"))
    }
}

pub struct S3 {
    server: s3::Server,
    root: PathBuf,
    process: Process,
}

impl S3 {
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<S3> = OnceCell::const_new();
        SHARED.get_or_try_init(async || Self::start(&root().await?.join("s3")).await).await
    }

    pub async fn start(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root)?;
        let (id, secret) = ("testid".to_owned(), "testsecret".to_owned());
        let server = s3::Server::new(program("roadstead")?, root, free_port()?, id, secret);
        let process = Process::start("s3", server.launch(root.with_extension("log")))?;
        let server = Self { server, root: root.to_owned(), process };
        server.ready().await;
        Ok(server)
    }

    pub async fn ready(&self) {
        answers(&self.process, async || self.server.answers().await).await;
    }

    pub fn server(&self) -> &s3::Server {
        &self.server
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    pub async fn restart(&self) {
        self.process.restart();
        self.ready().await;
    }

    /// An object's content. The server keeps objects as files.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root.join(bucket).join(key)).ok()
    }

    /// The keys in a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let bucket = self.root.join(bucket);
        let mut folders = vec![bucket.clone()];
        let mut keys = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                    _ => keys.extend(entry.path().strip_prefix(&bucket).map(|key| key.display().to_string())),
                }
            }
        }
        keys.sort();
        keys
    }
}

async fn answers(process: &Process, check: impl AsyncFn() -> Result<(), String>) {
    wait_for(&format!("{} to answer", process.name()), PATIENCE, async || {
        check().await.map_err(|why| format!("{why}; its log ends: {}", process.log_tail(10)))
    })
    .await;
}
