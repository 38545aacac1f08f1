//! The controls: what the machine does without Roadstead, in the same run. PostgreSQL's are on the same server, a checkpoint before each and after it,
//! so that what is compared with it does not write what the control left.

use crate::cpu;
use crate::rounds::{Round, Work};
use crate::stack::Stack;
use anyhow::{Context, anyhow, bail};
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Bytes of a row's payload: about what one submission's input is.
pub const PAYLOAD_BYTES: usize = 300;

/// `pgbench`: one-row prepared INSERTs by 64 clients, in transactions a second.
pub async fn one_row_inserts(stack: &Stack, span: Duration) -> anyhow::Result<f64> {
    let database = stack.database().await?;
    database
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS bench_control (id uuid PRIMARY KEY, body text NOT NULL, at timestamptz NOT NULL DEFAULT now());
             TRUNCATE bench_control; CHECKPOINT",
        )
        .await?;
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(
        script.path(),
        format!("INSERT INTO bench_control (id, body) VALUES (gen_random_uuid(), '{}');\n", "x".repeat(PAYLOAD_BYTES)),
    )?;
    let output = Command::new(pgbench())
        .args(["-n", "-M", "prepared", "-c", "64", "-j", "2", "-T"])
        .arg(span.as_secs().max(1).to_string())
        .arg("-f")
        .arg(script.path())
        .arg(&stack.ready.database_url)
        .output()
        .await
        .context("pgbench")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text
        .lines()
        .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
        .ok_or_else(|| anyhow!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
    database.batch_execute("DROP TABLE bench_control; CHECKPOINT").await?;
    Ok(rate)
}

/// Debian keeps it out of PATH.
fn pgbench() -> String {
    let versioned = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().filter_map(|entry| {
        let path = entry.path().join("bin/pgbench");
        path.exists().then(|| path.to_string_lossy().into_owned())
    });
    versioned.max().unwrap_or_else(|| "pgbench".to_owned())
}

/// `UNNEST` inserts of 1,000 rows into a table like `executions`, two at a time, in rows a second.
pub async fn unnest_inserts(stack: &Stack, span: Duration) -> anyhow::Result<f64> {
    let setup = stack.database().await?;
    setup.batch_execute("CREATE TABLE bench_executions (LIKE executions INCLUDING ALL); CHECKPOINT").await?;
    let begin = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let client = stack.database().await?;
        writers.spawn(async move {
            let insert = client
                .prepare(
                    "INSERT INTO bench_executions (tenant, id, state, priority, max_attempts, enqueued, spec, input, input_bytes, timeout_seconds, queued_at)
                     SELECT 'bench', id, 'queued', 1, 4, true, spec, input, 300, 3600, now() FROM UNNEST($1::uuid[], $2::text[], $3::text[]) AS t (id, spec, input)",
                )
                .await?;
            let inputs: Vec<String> = (0..1_000).map(|_| "x".repeat(PAYLOAD_BYTES)).collect();
            let specs: Vec<String> = (0..1_000).map(|_| crate::stack::noop()["spec"].to_string()).collect();
            let mut rows = 0_u64;
            while begin.elapsed() < span {
                let ids: Vec<uuid::Uuid> = (0..1_000).map(|_| uuid::Uuid::now_v7()).collect();
                rows += client.execute(&insert, &[&ids, &specs, &inputs]).await?;
            }
            anyhow::Ok(rows)
        });
    }
    let mut rows = 0;
    while let Some(joined) = writers.join_next().await {
        rows += joined??;
    }
    let rate = rows as f64 / begin.elapsed().as_secs_f64();
    setup.batch_execute("DROP TABLE bench_executions; CHECKPOINT").await?;
    Ok(rate)
}

/// The two processes without which no execution is run, an executor and its step, as bare as they can be: `true` and `true` again, by as many shells as
/// there are cores. An operation is such a pair; its CPU time has the shell's part of starting it.
pub async fn spawns_in_pairs() -> anyhow::Result<Round> {
    const PAIRS: usize = 500;
    let script = format!("pairs={PAIRS}; while [ $pairs -gt 0 ]; do /bin/true; /bin/true; pairs=$((pairs - 1)); done");
    let shells = std::thread::available_parallelism()?.get();
    let (before, begun) = (cpu::reaped_seconds(), Instant::now());
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..shells {
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        running.spawn(async move { shell.status().await });
    }
    while let Some(joined) = running.join_next().await {
        if !joined??.success() {
            bail!("a shell that starts `true` failed");
        }
    }
    let Work { operations, per_second } = Work::since(begun, (shells * PAIRS) as f64);
    let micros = (cpu::reaped_seconds() - before) * 1e6 / operations;
    Ok(Round { per_second, micros: vec![("spawns", micros)] })
}
