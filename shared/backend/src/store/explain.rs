//! Explaining: an executor that was told to stop does not know why, and reports before anybody else can tell.
//!
//! The reason alone is corrected, never a state, and only where that report is still the last word. The timeline keeps what was known when.

use super::settle::bounded;
use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::sql_types::{Integer, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;

const EXPLAIN: &str = "
WITH explained AS (
    UPDATE attempts SET reason_code = {}, reason_message = {}
    WHERE tenant = {} AND execution_id = {} AND attempt = {} AND reason_code = {}
    RETURNING tenant, execution_id, attempt, reason_code, reason_message
)
UPDATE executions e SET reason_code = x.reason_code, reason_message = x.reason_message
FROM explained x
WHERE e.tenant = ANY(ARRAY[x.tenant]) AND e.id = x.execution_id AND e.attempt = x.attempt AND e.reason_code = {}";

/// Says why an attempt was told to stop, where its own report could not.
pub async fn explain(
    connection: &mut Connection,
    tenant: &str,
    attempt: AttemptId,
    reason: &Reason,
) -> StoreResult<()> {
    statement(EXPLAIN)
        .bind::<Text, _>(bounded(&reason.code))
        .bind::<Text, _>(bounded(&reason.message))
        .bind::<Text, _>(tenant.to_owned())
        .bind::<SqlUuid, _>(attempt.execution_id.0)
        .bind::<Integer, _>(attempt.attempt)
        .bind::<Text, _>(Reason::EXECUTOR_TERMINATED.to_owned())
        .bind::<Text, _>(Reason::EXECUTOR_TERMINATED.to_owned())
        .execute(connection)
        .await?;
    Ok(())
}
