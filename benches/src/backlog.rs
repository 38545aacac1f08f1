//! The same rates with 200,000 queued, Redis's size meanwhile, and a wipe in the middle.

use crate::accept::{keys, stretch};
use crate::cpu;
use crate::drain::drain;
use crate::report::{Figure, Report};
use crate::stack::{Stack, noop};
use std::time::{Duration, Instant};

const BACKLOG: usize = 200_000;
const DRAINED: usize = 3_000;

async fn drain_rate(stack: &Stack) -> anyhow::Result<(f64, Vec<(&'static str, f64)>)> {
    let before = cpu::seconds(&stack.processes());
    let drained = drain(stack, DRAINED).await?;
    let after = cpu::seconds(&stack.processes());
    stack.pause_worker().await?;
    Ok((drained.per_second, cpu::micros_per_operation(&before, &after, drained.executions)))
}

async fn redis_mib(stack: &Stack) -> anyhow::Result<f64> {
    let info = stack.redis(&["INFO", "memory"]).await?;
    let bytes: f64 = info.lines().find_map(|l| l.strip_prefix("used_memory:")?.trim().parse().ok()).unwrap_or(f64::NAN);
    Ok(bytes / f64::from(1 << 20))
}

pub async fn measure(stack: &Stack, report: &mut Report, span: Duration) -> anyhow::Result<()> {
    let keys = keys(stack).await?;
    stack.pause_worker().await?;
    stack.reset().await?;
    let accept_empty = stretch(stack, &keys, span)?.per_second();
    stack.reset().await?;
    stack.submit_many(&noop(), DRAINED + 500).await?;
    let (drain_empty, _) = drain_rate(stack).await?;

    stack.reset().await?;
    let redis_empty = redis_mib(stack).await?;
    stack.submit_many(&noop(), BACKLOG).await?;
    let redis_full = redis_mib(stack).await?;
    let (drain_full, micros) = drain_rate(stack).await?;
    report.add(Figure {
        name: "drained with 200,000 queued".into(),
        value: drain_full,
        unit: "/s",
        control: Some(("with nothing else queued".into(), drain_empty)),
        cpu_micros: micros,
        ..Figure::default()
    });
    report.add(Figure {
        name: "Redis with 200,000 queued".into(),
        value: redis_full,
        unit: "MiB",
        control: Some(("empty".into(), redis_empty)),
        note: "used_memory".into(),
        ..Figure::default()
    });
    let before = cpu::seconds(&stack.front());
    let load = stretch(stack, &keys, span)?;
    let after = cpu::seconds(&stack.front());
    report.add(Figure {
        name: "accepted with 200,000 queued".into(),
        value: load.per_second(),
        unit: "/s",
        control: Some(("with nothing queued".into(), accept_empty)),
        cpu_micros: cpu::micros_per_operation(&before, &after, load.answered as f64),
        ..Figure::default()
    });
    wipe(stack, report).await?;
    stack.pause_worker().await?;
    stack.reset().await?;
    stack.resume_worker()
}

/// From `FLUSHALL` under load to the first execution that was claimed after it.
async fn wipe(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let database = stack.database().await?;
    drain(stack, 500).await?;
    stack.redis(&["FLUSHALL"]).await?;
    let wiped = Instant::now();
    let row = database.query_one("SELECT now()::text, count(*) FROM attempts", &[]).await?;
    let (at, _): (String, i64) = (row.get(0), row.get(1));
    // What workers hold in hand drains at once; work taken from Redis after the wipe is what counts.
    let held = i64::from(crate::CAP) * 2;
    loop {
        let claimed: i64 = database
            .query_one("SELECT count(*) FROM attempts WHERE claimed_at > $1::text::timestamptz", &[&at])
            .await?
            .get(0);
        if claimed > held || wiped.elapsed() > Duration::from_secs(60) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    report.add(Figure {
        name: "dispatch goes on after FLUSHALL with 200,000 queued".into(),
        value: wiped.elapsed().as_secs_f64(),
        unit: "s",
        ..Figure::default()
    });
    Ok(())
}
