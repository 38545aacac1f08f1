//! A private S3 server: this very program again, as a process of its own.
//!
//! This file says how; whoever uses it starts and ends the process. [`super::s3_server`] is what then runs.

use super::error::DevError;
use super::folder::make;
use super::launch::Launch;
use super::supervise::Ending;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const ENDING: Ending = Ending { signal: Signal::TERM, patience: Duration::from_secs(5) };
pub const REGION: &str = "us-east-1";

pub struct Server {
    /// The program `roadstead`.
    program: PathBuf,
    root: PathBuf,
    port: u16,
    pub access_key_id: String,
    pub secret_access_key: String,
}

impl Server {
    pub fn new(program: PathBuf, root: &Path, port: u16, access_key_id: String, secret_access_key: String) -> Self {
        Self { program, root: root.to_owned(), port, access_key_id, secret_access_key }
    }

    /// Buckets are folders.
    pub fn make_bucket(&self, bucket: &str) -> Result<(), DevError> {
        make(&self.root.join(bucket), 0o700)
    }

    pub fn launch(&self, log: PathBuf) -> Launch {
        let mut launch = Launch::new(self.program.clone(), self.root.clone(), log);
        let port = self.port.to_string();
        launch.arguments.extend(["dev-s3".into(), "--root".into(), self.root.clone().into()]);
        launch.arguments.extend(["--port".into(), port.into()]);
        launch.stdin = Some(format!("{}\n{}\n", self.access_key_id, self.secret_access_key));
        launch
    }

    /// Whether it answers: with a refusal, because this asks without a signature.
    pub async fn answers(&self) -> Result<(), String> {
        let ask = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").await?;
            let mut status = [0; 12];
            stream.read_exact(&mut status).await?;
            std::io::Result::Ok(String::from_utf8_lossy(&status).into_owned())
        };
        match ask.await {
            Ok(status) if status.starts_with("HTTP/1.1 4") => Ok(()),
            Ok(status) => Err(format!("it answers `{status}`")),
            Err(error) => Err(error.to_string()),
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
