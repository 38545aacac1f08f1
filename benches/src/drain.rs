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
    stack.pause_worker().await?;
    stack.reset().await?;
    let inserts = control::one_row_inserts(stack, Duration::from_secs(3)).await?;
    stack.submit_many(&noop(), EXECUTIONS).await?;
    let drained = Round::of(stack.processes(), async || drain(stack, EXECUTIONS).await).await?;
    let database = stack.database().await?;
    let row = database.query_one("SELECT count(*) FROM executions WHERE state = 'succeeded'", &[]).await?;
    report.add(Figure {
        name: format!("`true` drained from {EXECUTIONS} queued, cap {}", crate::CAP),
        value: drained.per_second,
        unit: "/s",
        control: Some(("pgbench one-row INSERT".into(), inserts)),
        cpu_micros: drained.micros,
        note: format!("{} succeeded", row.get::<_, i64>(0)),
    });
    Ok(())
}
