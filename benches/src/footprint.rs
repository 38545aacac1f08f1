//! What the servers hold when there is nothing to do.

use crate::cpu;
use crate::report::{Figure, Report};
use crate::stack::Stack;
use std::time::Duration;

const WATCHED: Duration = Duration::from_secs(40);

pub async fn measure(stack: &Stack, report: &mut Report) -> anyhow::Result<()> {
    let commands = async || -> anyhow::Result<f64> {
        let info = stack.redis(&["INFO", "stats"]).await?;
        Ok(info
            .lines()
            .find_map(|l| l.strip_prefix("total_commands_processed:")?.trim().parse().ok())
            .unwrap_or(f64::NAN))
    };
    let statements = async || -> anyhow::Result<i64> {
        let database = stack.database().await?;
        let row = database
            .query_one(
                "SELECT (xact_commit + xact_rollback)::int8 FROM pg_stat_database WHERE datname = current_database()",
                &[],
            )
            .await?;
        Ok(row.get(0))
    };
    let (redis_before, postgres_before) = (commands().await?, statements().await?);
    tokio::time::sleep(WATCHED).await;
    let (redis_after, postgres_after) = (commands().await?, statements().await?);
    let seconds = WATCHED.as_secs_f64();
    report.add(Figure {
        name: "Redis commands a second, idle".into(),
        value: (redis_after - redis_before) / seconds,
        unit: "/s",
        note: format!("over {seconds:.0} s, the bench's own look included"),
        ..Figure::default()
    });
    report.add(Figure {
        name: "PostgreSQL transactions a second, idle".into(),
        value: (postgres_after - postgres_before) as f64 / seconds,
        unit: "/s",
        ..Figure::default()
    });
    for (name, pid) in [("api", stack.ready.pids.api), ("worker", stack.ready.pids.worker)] {
        report.add(Figure {
            name: format!("{name}, idle"),
            value: cpu::resident_mib(pid, false).unwrap_or(f64::NAN),
            unit: "MiB RSS",
            ..Figure::default()
        });
    }
    Ok(())
}
