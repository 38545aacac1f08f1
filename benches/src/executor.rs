//! The executor alone: its size, and its memory while it moves much.

use crate::cpu;
use crate::report::{Figure, Report};
use crate::stack::Stack;
use anyhow::{Context, bail};
use std::time::{Duration, Instant};
use tokio::process::Command;

const ARTIFACT_BYTES: u64 = 4 << 30;
const LOG_BYTES: u64 = 1 << 30;

/// Runs one workflow and samples the largest resident set of its executor; answers (MiB, seconds it ran).
async fn watched(stack: &Stack, spec: serde_json::Value) -> anyhow::Result<(f64, f64)> {
    let execution = stack.post("/v1/executions", &serde_json::json!({ "spec": spec, "max_retries": 0 })).await?;
    let id = execution["id"].as_str().context("an id")?.to_owned();
    let (mut peak, begin) = (0.0_f64, Instant::now());
    loop {
        if let Some(pid) = executor_of(stack.ready.pids.worker) {
            peak = peak.max(cpu::resident_mib(pid, true).unwrap_or(0.0));
        }
        let now = stack.get(&format!("/v1/executions/{id}")).await?;
        match now["state"].as_str() {
            Some("succeeded") => return Ok((peak, seconds_between(stack, &id).await?)),
            Some("failed" | "timed_out" | "cancelled") => bail!("{now}"),
            _ if begin.elapsed() > Duration::from_secs(900) => bail!("not finished in 900 s: {now}"),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn seconds_between(stack: &Stack, id: &str) -> anyhow::Result<f64> {
    let database = stack.database().await?;
    let id: uuid::Uuid = id.parse()?;
    let row = database
        .query_one(
            "SELECT extract(epoch FROM finished_at - started_at)::float8 FROM attempts WHERE execution_id = $1 ORDER BY attempt DESC LIMIT 1",
            &[&id],
        )
        .await?;
    Ok(row.get(0))
}

/// The one child of the worker.
fn executor_of(worker: u32) -> Option<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{worker}/task")).ok()?;
    tasks.flatten().find_map(|task| {
        let children = std::fs::read_to_string(task.path().join("children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

/// `curl -T` of a file of the same size to the same server, in seconds: a presigned PUT of an artifact that was uploaded before.
async fn curl(stack: &Stack) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let file = folder.path().join("big");
    std::fs::File::create(&file)?.set_len(ARTIFACT_BYTES)?;
    // The S3 server of `roadstead dev` takes the credentials that the API has; curl signs by itself.
    let environment = std::fs::read(format!("/proc/{}/environ", stack.ready.pids.api))?;
    let variable = |name: &str| {
        environment.split(|b| *b == 0).find_map(|entry| {
            let (key, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            (key == name).then(|| value.to_owned())
        })
    };
    let need = |name: &str| variable(name).with_context(|| format!("{name} of the API"));
    let url = format!("{}/{}/bench/big", need("S3_ENDPOINT")?, need("CONTENT_BUCKET_NAME")?);
    let user = format!("{}:{}", need("S3_ACCESS_KEY_ID")?, need("S3_SECRET_ACCESS_KEY")?);
    let begin = Instant::now();
    let output = Command::new("curl")
        .args([
            "-sS",
            "--fail",
            "--aws-sigv4",
            "aws:amz:us-east-1:s3",
            "-H",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            "--user",
        ])
        .arg(user)
        .arg("-T")
        .arg(&file)
        .arg(url)
        .output()
        .await?;
    if !output.status.success() {
        bail!("curl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(begin.elapsed().as_secs_f64())
}

pub async fn measure(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let size = std::fs::metadata(stack.programs.join("roadstead-executor"))?.len();
    report.add(Figure {
        name: "executor's size".into(),
        value: size as f64 / f64::from(1 << 20),
        unit: "MiB",
        ..Figure::default()
    });
    let script = format!("head -c {LOG_BYTES} /dev/zero | tr '\\0' 'x' | fold -w 120");
    let log = serde_json::json!({ "steps": [{ "id": "log", "command": ["sh", "-c", script] }] });
    let (peak, seconds) = watched(stack, log).await?;
    report.add(Figure {
        name: "executor's RSS while it streams 1 GiB of log".into(),
        value: peak,
        unit: "MiB",
        note: format!("{:.0} MiB/s", LOG_BYTES as f64 / f64::from(1 << 20) / seconds),
        ..Figure::default()
    });
    let script = format!("truncate -s {ARTIFACT_BYTES} \"$ROADSTEAD_ARTIFACTS/big\"");
    let artifact = serde_json::json!({ "steps": [{ "id": "make", "command": ["sh", "-c", script] }] });
    let raw = curl(stack).await?;
    let (peak, seconds) = watched(stack, artifact).await?;
    let rate = |seconds: f64| ARTIFACT_BYTES as f64 / f64::from(1 << 20) / seconds;
    report.add(Figure {
        name: "executor's RSS while it streams a 4 GiB artifact".into(),
        value: peak,
        unit: "MiB",
        ..Figure::default()
    });
    report.add(Figure {
        name: "upload of a 4 GiB artifact".into(),
        value: rate(seconds),
        unit: "MiB/s",
        control: Some(("curl -T".into(), rate(raw))),
        note: "whole attempt, with SHA-256".into(),
        ..Figure::default()
    });
    Ok(())
}
