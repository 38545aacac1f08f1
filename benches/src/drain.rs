//! How fast queued executions are run to a committed terminal state.

use crate::control;
use crate::report::{Figure, Report};
use crate::rounds::{Round, Work};
use crate::stack::{Stack, noop};
use anyhow::bail;
use std::time::{Duration, Instant, SystemTime};

pub const EXECUTIONS: usize = 5_000;

/// Resumes the worker and waits until at least this many have finished, looking seldom: by the database's clock, to the last one that finished.
pub async fn drain(stack: &Stack, at_least: usize) -> anyhow::Result<Work> {
    const FINISHED: &str = "SELECT count(*), COALESCE(extract(epoch FROM max(finished_at) - $1), 0)::float8
        FROM executions WHERE finished_at > $1";
    let database = stack.database().await?;
    let begin: SystemTime = database.query_one("SELECT now()", &[]).await?.get(0);
    stack.resume_worker()?;
    let patience = Instant::now() + Duration::from_secs(300);
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let row = database.query_one(FINISHED, &[&begin]).await?;
        let (finished, seconds) = (row.get::<_, i64>(0) as f64, row.get::<_, f64>(1));
        if finished >= at_least as f64 {
            return Ok(Work { operations: finished, per_second: finished / seconds });
        }
        if Instant::now() > patience {
            bail!("{finished} of {at_least} finished in 300 s");
        }
    }
}

pub async fn measure(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    const ROUNDS: usize = 3;
    let (mut drained, mut spawned, mut succeeded) = (Vec::new(), Vec::new(), 0);
    for _ in 0..ROUNDS {
        stack.pause_worker().await?;
        stack.reset().await?;
        stack.submit_many(&noop(), EXECUTIONS).await?;
        spawned.push(control::spawns_in_pairs().await?);
        drained.push(Round::of(stack.processes(), async || drain(stack, EXECUTIONS).await).await?);
        let database = stack.database().await?;
        let row = database.query_one("SELECT count(*) FROM executions WHERE state = 'succeeded'", &[]).await?;
        succeeded += row.get::<_, i64>(0);
    }
    let (drained, spawned) = (Round::median(&drained), Round::median(&spawned));
    let micros: f64 = spawned.micros.iter().map(|(_, micros)| micros).sum();
    report.add(Figure {
        name: format!("`true` drained from {EXECUTIONS} queued, cap {}", crate::CAP),
        value: drained.per_second,
        unit: "/s",
        control: Some(("`true` twice, by a shell".into(), spawned.per_second)),
        cpu_micros: drained.micros,
        note: format!("{succeeded} succeeded in {ROUNDS} rounds; the control takes {micros:.0} µs of CPU"),
    });
    Ok(())
}
