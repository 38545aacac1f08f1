//! One of our own servers as a test drives it, and the command line run against one.

use crate::client::Client;
use crate::process::Process;
use crate::programs::program;
use crate::wait::{PATIENCE, wait_for};
use anyhow::{Result, bail};
use reqwest::Method;
use roadstead_cli::dev::launch::Launch;
use std::io::Write;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// An API or a worker. Its process's verbs (`kill`, `terminate`, `restart`, `log`, …) are its own.
pub struct Server {
    pub(crate) process: Arc<Process>,
    pub(crate) url: String,
}

impl Deref for Server {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Server {
    /// Of its HTTP listener: `/v1` of an API, `/livez`, `/readyz` and `/metrics` of both.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Speaks to it with a key.
    pub fn client(&self, key: &str) -> Client {
        Client::new(&self.url, Some(key))
    }

    /// Speaks to it without a key.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.url, None)
    }

    /// Waits until `/readyz` says so. One that has ended is not waited for.
    pub async fn ready(&self) {
        let client = self.anonymous();
        wait_for(&format!("{} to be ready", self.name()), PATIENCE, async || {
            assert!(self.is_running(), "{} has ended; its log ends:\n{}", self.name(), self.log_tail(30));
            match client.try_send(client.request(Method::GET, "/readyz")).await {
                Ok(answer) if answer.status.is_success() => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Starts it again under its old settings and waits until it is ready. One that still runs is killed.
    pub async fn start_again(&self) {
        self.restart();
        self.ready().await;
    }

    /// The value of a metric's one sample whose line begins like this, name and labels.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let text = self.anonymous().get("/metrics").await.expect(200).text();
        let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// `roadstead`, run as a person would run it.
pub struct Cli {
    url: String,
    key: String,
    folder: PathBuf,
}

/// What a run came to.
#[derive(Debug)]
pub struct Ran {
    /// -1 after a signal.
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Cli {
    pub(crate) fn new(url: &str, key: &str, folder: &Path) -> Self {
        Self { url: url.to_owned(), key: key.to_owned(), folder: folder.to_owned() }
    }

    pub async fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with_input(arguments, b"").await
    }

    pub async fn run_with_input(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut command = Command::new(program("roadstead").unwrap_or_else(|e| panic!("{e:#}")));
        command
            .args(arguments)
            .env("ROADSTEAD_URL", &self.url)
            .env("ROADSTEAD_API_KEY", &self.key)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let stdin = stdin.to_vec();
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                // A program that does not read its input ends with the pipe still full.
                let _ = pipe.write_all(&stdin);
            }
            child.wait_with_output()
        });
        let output = run.await.expect("the thread does not panic").unwrap_or_else(|e| panic!("roadstead {e}"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { status: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Runs a command to its end; answers with its standard output.
pub async fn run(launch: Launch) -> Result<String> {
    let run = move || -> Result<String> {
        let output = launch.command()?.stdout(Stdio::piped()).stderr(Stdio::piped()).output()?;
        if !output.status.success() {
            bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    tokio::task::spawn_blocking(run).await?
}
