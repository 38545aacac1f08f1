//! A private PostgreSQL: one cluster in one folder, reachable on loopback with a password, and through a socket of its own.
//!
//! This file says how; whoever uses it starts and ends the processes.

use super::account::{self, Account};
use super::error::DevError;
use super::folder::{make, write_private};
use super::launch::Launch;
use super::supervise::Ending;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

pub const ROLE: &str = "roadstead";
/// SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
pub const ENDING: Ending = Ending { signal: Signal::INT, patience: Duration::from_secs(20) };
/// The longest path of a socket, which Linux sets.
const MAX_SOCKET_PATH_BYTES: usize = 107;
const SETTINGS: [&str; 7] = [
    "max_connections=200",
    "shared_buffers=256MB",
    "max_wal_size=2GB",
    "synchronous_commit=on",
    "password_encryption=scram-sha-256",
    "log_checkpoints=off",
    "jit=off",
];

pub struct Cluster {
    bin: PathBuf,
    /// Holds the data and the socket; the account's own.
    base: PathBuf,
    account: Option<Account>,
    port: u16,
    password: String,
    is_durable: bool,
}

impl Cluster {
    /// A cluster that is kept in `folder`, or where the account that it runs as can keep it.
    pub fn new(bin: PathBuf, folder: &Path, port: u16, password: String, is_durable: bool) -> Result<Self, DevError> {
        let account = account::for_postgres()?;
        if let (Some(_), Some(parent)) = (account, folder.parent()) {
            account::open_to_others(parent)?;
        }
        let base = account::reachable(folder, account);
        Ok(Self { bin, base, account, port, password, is_durable })
    }

    /// Where everything of it is kept, which need not be where that was wanted.
    pub fn base(&self) -> &Path {
        &self.base
    }

    pub fn is_initialised(&self) -> bool {
        self.data().join("PG_VERSION").exists()
    }

    /// Removes what a cluster of the same place left, whose password nobody knows any more.
    pub fn remove(&self) -> Result<(), DevError> {
        match std::fs::remove_dir_all(&self.base) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(DevError::io(self.base.display())(error)),
            _ => Ok(()),
        }
    }

    /// The command that makes the cluster, to be followed by [`Self::initialised`]. Cut short, it leaves nothing that would be taken for one.
    pub fn initialisation(&self, log: PathBuf) -> Result<Launch, DevError> {
        account::own_folder(&self.base, self.account)?;
        let fresh = self.fresh();
        match std::fs::remove_dir_all(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(DevError::io(fresh.display())(error));
            }
            _ => {}
        }
        let password = self.password_file();
        write_private(&password, self.password.as_bytes())?;
        if let Some(Account { uid, gid }) = self.account {
            std::os::unix::fs::chown(&password, Some(uid), Some(gid)).map_err(DevError::io(password.display()))?;
        }
        let mut launch = Launch::new(self.bin.join("initdb"), self.base.clone(), log).arguments([
            "--username",
            ROLE,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]);
        launch.arguments.extend(["--pwfile".into(), password.into(), "--pgdata".into(), fresh.into()]);
        if !self.is_durable {
            launch.arguments.push("--no-sync".into());
        }
        launch.account = self.account;
        Ok(launch)
    }

    /// Puts a cluster that was made completely into its place.
    pub fn initialised(&self) -> Result<(), DevError> {
        let password = self.password_file();
        std::fs::remove_file(&password).map_err(DevError::io(password.display()))?;
        std::fs::rename(self.fresh(), self.data()).map_err(DevError::io(self.data().display()))
    }

    /// The server.
    pub fn server(&self, log: PathBuf) -> Result<Launch, DevError> {
        let socket = self.base.join("socket");
        make(&socket, 0o700)?;
        account::own_folder(&socket, self.account)?;
        let socket_path_bytes = socket.join(".s.PGSQL.65535.lock").as_os_str().len();
        let socket =
            if socket_path_bytes <= MAX_SOCKET_PATH_BYTES { socket.display().to_string() } else { String::new() };
        let durable = if self.is_durable { "on" } else { "off" };
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={socket}"),
            format!("fsync={durable}"),
            format!("full_page_writes={durable}"),
        ];
        settings.extend(SETTINGS.map(ToOwned::to_owned));
        let mut launch = Launch::new(self.bin.join("postgres"), self.base.clone(), log);
        launch.arguments.extend(["-D".into(), self.data().into()]);
        for setting in settings {
            launch.arguments.extend(["-c".into(), setting.into()]);
        }
        launch.account = self.account;
        Ok(launch)
    }

    /// Whether the server takes connections.
    pub async fn accepts(&self) -> Result<(), String> {
        self.connect("postgres").await.map(drop).map_err(|e| told(&e))
    }

    pub async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        connect(&self.url(database)).await
    }

    /// Makes the database unless it is there.
    pub async fn ensure_database(&self, database: &str) -> Result<(), DevError> {
        let failed =
            |e: tokio_postgres::Error| DevError::io("can't make the database")(std::io::Error::other(told(&e)));
        let client = self.connect("postgres").await.map_err(failed)?;
        let there =
            client.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&database]).await.map_err(failed)?;
        if there.is_none() {
            // The name is one of ours, not a person's: identifiers can't be parameters.
            client.batch_execute(&format!("CREATE DATABASE \"{database}\"")).await.map_err(failed)?;
        }
        Ok(())
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://{ROLE}:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    fn fresh(&self) -> PathBuf {
        self.base.join("data.new")
    }

    fn password_file(&self) -> PathBuf {
        self.base.join("password")
    }
}

/// A connection, driven until its client is dropped.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move {
        // What goes wrong with the connection is told to whoever uses the client.
        let _ = connection.await;
    });
    Ok(client)
}

/// The server's own words, which the error's are not.
fn told(error: &tokio_postgres::Error) -> String {
    let inner = std::error::Error::source(error);
    error
        .as_db_error()
        .map_or_else(|| inner.map_or(error.to_string(), ToString::to_string), |db| db.message().to_owned())
}
