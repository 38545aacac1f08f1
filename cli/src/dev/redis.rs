//! A private Redis (or Valkey): append-only, never evicting, on loopback with a password.
//!
//! This file says how; whoever uses it starts and ends the process.

use super::error::DevError;
use super::folder::write_private;
use super::launch::Launch;
use super::supervise::Ending;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const ENDING: Ending = Ending { signal: Signal::TERM, patience: Duration::from_secs(10) };

pub struct Server {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    password: String,
}

impl Server {
    pub fn new(program: PathBuf, folder: &Path, port: u16, password: String) -> Self {
        Self { program, folder: folder.to_owned(), port, password }
    }

    pub fn launch(&self, log: PathBuf) -> Result<Launch, DevError> {
        let configuration = self.folder.join("redis.conf");
        write_private(&configuration, self.configuration().as_bytes())?;
        let launch = Launch::new(self.program.clone(), self.folder.clone(), log);
        // Relative to its folder, whose name may hold anything.
        Ok(launch.arguments(["redis.conf"]))
    }

    fn configuration(&self) -> String {
        let Self { port, password, .. } = self;
        format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\ndaemonize no\nsave \"\"\nappendonly yes\n\
             appendfsync everysec\nmaxmemory-policy noeviction\n"
        )
    }

    /// Whether the server answers, its data loaded.
    pub async fn answers(&self) -> Result<(), String> {
        let ping = async {
            let mut connection = redis::Client::open(self.url())?.get_multiplexed_async_connection().await?;
            redis::cmd("PING").query_async::<String>(&mut connection).await
        };
        ping.await.map(drop).map_err(|e| e.to_string())
    }

    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}", self.password, self.port)
    }
}
