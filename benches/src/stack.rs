//! The stack under test: `roadstead dev`, as a user starts it, with production's durability.

use anyhow::{Context, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

#[derive(Debug, Deserialize)]
pub struct Pids {
    pub api: u32,
    pub worker: u32,
    pub postgres: u32,
    pub redis: u32,
    pub s3: u32,
}

#[derive(Debug, Deserialize)]
pub struct Ready {
    pub api_url: String,
    pub api_key: String,
    pub database_url: String,
    pub redis_url: String,
    pub pids: Pids,
}

pub struct Stack {
    pub ready: Ready,
    pub programs: PathBuf,
    pub client: reqwest::Client,
    child: Child,
    _data: tempfile::TempDir,
}

impl Stack {
    pub async fn start(programs: &Path, cap: u32) -> anyhow::Result<Self> {
        let programs = programs.canonicalize().with_context(|| format!("{} (make build)", programs.display()))?;
        let data = tempfile::tempdir_in("/var/tmp")?;
        let mut child = Command::new(programs.join("roadstead"))
            .args(["dev", "--no-sample", "--format", "json", "--port", "0", "--max-concurrent-jobs"])
            .arg(cap.to_string())
            .arg("--data-dir")
            .arg(data.path().join("dev"))
            // What is accepted while it is measured may be more than the usual bound.
            .env("MAX_QUEUED_PER_TENANT", "1000000000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| anyhow!("no standard output"))?;
        let line = BufReader::new(stdout).lines().next_line().await?.ok_or_else(|| anyhow!("`roadstead dev` ended"))?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| line.clone())?;
        Ok(Self { ready, programs, client: reqwest::Client::new(), child, _data: data })
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.resume_worker()?;
        if let Some(pid) = self.child.id() {
            signal(pid, Signal::TERM)?;
        }
        self.child.wait().await?;
        Ok(())
    }

    pub async fn database(&self) -> anyhow::Result<tokio_postgres::Client> {
        let (client, connection) = tokio_postgres::connect(&self.ready.database_url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub fn processes(&self) -> Vec<(&'static str, u32)> {
        let pids = &self.ready.pids;
        vec![
            ("api", pids.api),
            ("worker+jobs", pids.worker),
            ("postgres", pids.postgres),
            ("redis", pids.redis),
            ("s3", pids.s3),
        ]
    }

    /// The front half: what takes a submission.
    pub fn front(&self) -> Vec<(&'static str, u32)> {
        let pids = &self.ready.pids;
        vec![("api", pids.api), ("postgres", pids.postgres), ("redis", pids.redis)]
    }

    /// Holds the worker still, so that what is submitted stays queued; not within a transaction, which would hold its locks.
    pub async fn pause_worker(&self) -> anyhow::Result<()> {
        const OPEN: &str = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()";
        let database = self.database().await?;
        for _ in 0..100 {
            signal(self.ready.pids.worker, Signal::STOP)?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            if database.query_one(OPEN, &[]).await?.get::<_, i64>(0) == 0 {
                return Ok(());
            }
            self.resume_worker()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(anyhow!("no moment without a transaction"))
    }

    pub fn resume_worker(&self) -> anyhow::Result<()> {
        signal(self.ready.pids.worker, Signal::CONT)
    }

    pub async fn redis(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let url = self.ready.redis_url.trim_start_matches("redis://:");
        let (password, address) = url.split_once('@').context("a password in the Redis URL")?;
        let (host, port) = address.trim_end_matches('/').split_once(':').context("a port in the Redis URL")?;
        let output = Command::new("redis-cli")
            .args(["--no-auth-warning", "-h", host, "-p", port])
            .args(arguments)
            .env("REDISCLI_AUTH", password)
            .output()
            .await?;
        if !output.status.success() {
            return Err(anyhow!("redis-cli: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What leads a further API to the same buckets, as the stack's own has it in its environment.
    pub fn object_store(&self) -> anyhow::Result<Vec<(String, String)>> {
        let environment = std::fs::read(format!("/proc/{}/environ", self.ready.pids.api))?;
        Ok(environment
            .split(|byte| *byte == 0)
            .filter_map(|entry| {
                String::from_utf8_lossy(entry).split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned()))
            })
            .filter(|(name, _)| name.starts_with("S3_") || name.ends_with("_BUCKET_NAME"))
            .collect())
    }

    /// A key of a tenant, made as an operator makes one.
    pub async fn key(&self, tenant: &str) -> anyhow::Result<String> {
        let output = Command::new(self.programs.join("roadstead-api"))
            .args(["keys", "create", "--tenant", tenant])
            .env("DATABASE_URL", &self.ready.database_url)
            .output()
            .await?;
        let key = String::from_utf8(output.stdout)?.trim().to_owned();
        if key.is_empty() {
            return Err(anyhow!("no key: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(key)
    }

    /// Removes every execution and empties Redis. The worker, which is held still before and after, has noticed.
    pub async fn reset(&self) -> anyhow::Result<()> {
        let database = self.database().await?;
        // One at a time: VACUUM does not run among others.
        for statement in [
            "TRUNCATE executions, attempts, log_segments, execution_events, idempotency_keys",
            "VACUUM ANALYZE",
            "CHECKPOINT",
        ] {
            database.batch_execute(statement).await?;
        }
        self.redis(&["FLUSHALL"]).await?;
        self.resume_worker()?;
        let patience = Instant::now() + Duration::from_secs(30);
        while self.redis(&["KEYS", "*epoch"]).await?.trim().is_empty() {
            if Instant::now() > patience {
                return Err(anyhow!("no epoch was begun in 30 s"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.pause_worker().await
    }

    /// POSTs to the API with the default key.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<serde_json::Value> {
        let response = self
            .client
            .post(format!("{}{path}", self.ready.api_url))
            .bearer_auth(&self.ready.api_key)
            .json(body)
            .send()
            .await?;
        let status = response.status();
        let answer = response.text().await?;
        if !status.is_success() {
            return Err(anyhow!("{path}: {status}: {answer}"));
        }
        Ok(serde_json::from_str(&answer)?)
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<serde_json::Value> {
        let request = self.client.get(format!("{}{path}", self.ready.api_url)).bearer_auth(&self.ready.api_key);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Queues this many of `spec` through the batch route.
    pub async fn submit_many(&self, spec: &serde_json::Value, count: usize) -> anyhow::Result<()> {
        let mut left = count;
        while left > 0 {
            let size = left.min(1_000);
            let batch: Vec<_> = (0..size).map(|_| spec.clone()).collect();
            self.post("/v1/executions/batch", &serde_json::json!({ "executions": batch })).await?;
            left -= size;
        }
        Ok(())
    }
}

fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid as i32).ok_or_else(|| anyhow!("pid 0"))?;
    Ok(kill_process(pid, signal)?)
}

/// One step that does nothing.
pub fn noop() -> serde_json::Value {
    serde_json::json!({ "spec": { "steps": [{ "id": "noop", "command": ["true"] }] } })
}
