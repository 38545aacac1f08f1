//! How fast queued executions are run to a committed terminal state.

use crate::report::{Figure, Report};
use crate::stack::{Stack, noop};
use crate::{control, cpu};
use anyhow::bail;
use std::time::{Duration, Instant};

pub const EXECUTIONS: usize = 5_000;

/// Finished executions a second, by the database's own clock, over what finished since `since` finished ones.
pub async fn until_finished(stack: &Stack, count: i64) -> anyhow::Result<Duration> {
    let database = stack.database().await?;
    let begin = Instant::now();
    loop {
        let row = database.query_one("SELECT count(*) FROM executions WHERE finished_at IS NOT NULL", &[]).await?;
        if row.get::<_, i64>(0) >= count {
            return Ok(begin.elapsed());
        }
        if begin.elapsed() > Duration::from_secs(300) {
            bail!("{} of {count} finished in 300 s", row.get::<_, i64>(0));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub async fn measure(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    stack.pause_worker()?;
    stack.reset().await?;
    let inserts = control::one_row_inserts(stack, Duration::from_secs(3)).await?;
    stack.submit_many(&noop(), EXECUTIONS).await?;
    let before = cpu::seconds(&stack.processes());
    stack.resume_worker()?;
    let elapsed = until_finished(stack, EXECUTIONS as i64).await?;
    let after = cpu::seconds(&stack.processes());
    let database = stack.database().await?;
    let row = database.query_one("SELECT count(*) FROM executions WHERE state = 'succeeded'", &[]).await?;
    report.add(Figure {
        name: format!("`true` drained from {EXECUTIONS} queued, cap {}", crate::CAP),
        value: EXECUTIONS as f64 / elapsed.as_secs_f64(),
        unit: "/s",
        control: Some(("pgbench one-row INSERT".into(), inserts)),
        cpu_micros: cpu::micros_per_operation(&before, &after, EXECUTIONS as f64),
        note: format!("{} succeeded", row.get::<_, i64>(0)),
    });
    Ok(())
}
