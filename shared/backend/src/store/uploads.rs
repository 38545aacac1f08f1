//! Who may upload: the session of a running, current attempt.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::sql_types::{Binary, Integer, Text, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use roadstead_domain::ids::AttemptId;

#[derive(QueryableByName)]
struct Tenant {
    #[diesel(sql_type = Text)]
    tenant: String,
}

/// The tenant of a running attempt, if the session is its own; `None`: not current.
pub async fn tenant_of_session(
    connection: &mut Connection,
    attempt: AttemptId,
    session_hash: &[u8],
) -> StoreResult<Option<String>> {
    let row: Option<Tenant> = statement(
        "SELECT a.tenant FROM attempts a
         JOIN LATERAL (SELECT attempt, state FROM executions x
                       WHERE x.tenant = a.tenant AND x.id = a.execution_id OFFSET 0) e ON e.attempt = a.attempt AND e.state = 'running'
         WHERE a.execution_id = {} AND a.attempt = {} AND a.session_hash = {} AND a.finished_at IS NULL",
    )
    .bind::<SqlUuid, _>(attempt.execution_id.0)
    .bind::<Integer, _>(attempt.attempt)
    .bind::<Binary, _>(session_hash.to_vec())
    .get_result(connection)
    .await
    .optional()?;
    Ok(row.map(|row| row.tenant))
}
