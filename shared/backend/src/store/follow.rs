//! Following: a reader of a live log says so, and the executor hears of it at its next heartbeat.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::sql_types::{Double, Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::ids::ExecutionId;
use std::time::Duration;

/// Marks the attempt's log as read along for the next `span`.
pub async fn follow(
    connection: &mut Connection,
    tenant: &str,
    id: ExecutionId,
    attempt: i32,
    span: Duration,
) -> StoreResult<()> {
    statement(
        "UPDATE attempts SET followed_until = now() + make_interval(secs => {})
         WHERE tenant = {} AND execution_id = {} AND attempt = {} AND finished_at IS NULL",
    )
    .bind::<Double, _>(span.as_secs_f64())
    .bind::<Text, _>(tenant.to_owned())
    .bind::<SqlUuid, _>(id.0)
    .bind::<Integer, _>(attempt)
    .execute(connection)
    .await?;
    Ok(())
}
