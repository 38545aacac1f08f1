//! The same rates with 200,000 queued, Redis's size meanwhile, and a wipe in the middle.

use crate::accept::{keys, stretch};
use crate::drain::drain;
use crate::report::{Figure, Report};
use crate::rounds::Round;
use crate::stack::{Stack, noop};
use std::time::{Duration, Instant};

const BACKLOG: usize = 200_000;
const ROUNDS: u32 = 3;
/// In a round.
const DRAINED: usize = 1_000;

async fn drain_round(stack: &Stack) -> anyhow::Result<Round> {
    let round = Round::of(stack.processes(), async || drain(stack, DRAINED).await).await?;
    stack.pause_worker().await?;
    Ok(round)
}

async fn redis_mib(stack: &Stack) -> anyhow::Result<f64> {
    let info = stack.redis(&["INFO", "memory"]).await?;
    let bytes: f64 = info.lines().find_map(|l| l.strip_prefix("used_memory:")?.trim().parse().ok()).unwrap_or(f64::NAN);
    Ok(bytes / f64::from(1 << 20))
}

/// A second stack beside the one with the backlog: each round is of both.
pub async fn measure(stack: &Stack, report: &mut Report, span: Duration) -> anyhow::Result<()> {
    let empty = Stack::start(&stack.programs, crate::CAP).await?;
    let measured = compare(stack, &empty, report, span).await;
    empty.stop().await?;
    measured
}

async fn compare(stack: &Stack, empty: &Stack, report: &mut Report, span: Duration) -> anyhow::Result<()> {
    stack.pause_worker().await?;
    empty.pause_worker().await?;
    stack.reset().await?;
    let redis_empty = redis_mib(stack).await?;
    stack.submit_many(&noop(), BACKLOG).await?;
    let redis_full = redis_mib(stack).await?;
    drains(stack, empty, report).await?;
    report.add(Figure {
        name: "Redis with 200,000 queued".into(),
        value: redis_full,
        unit: "MiB",
        control: Some(("empty".into(), redis_empty)),
        note: "used_memory".into(),
        ..Figure::default()
    });
    accepts(stack, empty, report, span / ROUNDS).await?;
    wipe(stack, report).await?;
    stack.pause_worker().await?;
    stack.reset().await?;
    stack.resume_worker()
}

async fn drains(stack: &Stack, empty: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        empty.reset().await?;
        empty.submit_many(&noop(), DRAINED + 500).await?;
        without.push(drain_round(empty).await?);
        with.push(drain_round(stack).await?);
    }
    add(report, "drained with 200,000 queued", "with nothing else queued", &with, &without);
    Ok(())
}

async fn accepts(stack: &Stack, empty: &Stack, report: &mut Report, span: Duration) -> anyhow::Result<()> {
    let keys_of = (keys(stack).await?, keys(empty).await?);
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        empty.reset().await?;
        without.push(Round::of(empty.front(), async || Ok(stretch(empty, &keys_of.1, span)?.work())).await?);
        with.push(Round::of(stack.front(), async || Ok(stretch(stack, &keys_of.0, span)?.work())).await?);
    }
    add(report, "accepted with 200,000 queued", "with nothing queued", &with, &without);
    Ok(())
}

fn add(report: &mut Report, name: &str, control: &str, with: &[Round], without: &[Round]) {
    let middle = Round::median(with);
    report.add(Figure {
        name: name.into(),
        value: middle.per_second,
        unit: "/s",
        control: Some((control.into(), Round::median(without).per_second)),
        cpu_micros: middle.micros,
        ..Figure::default()
    });
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
