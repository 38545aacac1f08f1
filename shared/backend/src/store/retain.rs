//! Retention: what is old enough goes, a bounded number of rows at a time. Objects go first; see the worker's `retain`.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Double, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use roadstead_domain::ids::ExecutionId;
use std::time::Duration;
use uuid::Uuid;

/// Forgets idempotency keys older than `age`; answers how many.
pub async fn forget_keys(connection: &mut Connection, age: Duration, limit: i64) -> StoreResult<usize> {
    Ok(statement(
        "DELETE FROM idempotency_keys WHERE (tenant, key) IN (
             SELECT tenant, key FROM idempotency_keys WHERE created_at < now() - make_interval(secs => {}) LIMIT {})",
    )
    .bind::<Double, _>(age.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .execute(connection)
    .await?)
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    tenant: String,
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

/// Executions that finished longer than `age` ago, oldest first.
pub async fn outdated(
    connection: &mut Connection,
    age: Duration,
    limit: i64,
) -> StoreResult<Vec<(String, ExecutionId)>> {
    let rows: Vec<Row> = statement(
        "SELECT tenant, id FROM executions
         WHERE finished_at IS NOT NULL AND finished_at < now() - make_interval(secs => {}) ORDER BY finished_at LIMIT {}",
    )
    .bind::<Double, _>(age.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .load(connection)
    .await?;
    Ok(rows.into_iter().map(|row| (row.tenant, ExecutionId(row.id))).collect())
}

const DELETE: &str = "
WITH gone AS (
    DELETE FROM executions e USING UNNEST({}::text[], {}::uuid[]) AS i (tenant, id)
    WHERE e.tenant = ANY(ARRAY[i.tenant]) AND e.id = i.id AND e.state IN ('succeeded', 'failed', 'timed_out', 'cancelled') RETURNING e.id
), attempts_gone AS (DELETE FROM attempts a USING gone g WHERE a.execution_id = ANY(ARRAY[g.id]) AND a.released_at IS NOT NULL
), segments_gone AS (DELETE FROM log_segments s USING gone g WHERE s.execution_id = ANY(ARRAY[g.id])
)
DELETE FROM execution_events v USING gone g WHERE v.execution_id = ANY(ARRAY[g.id])";

/// Deletes finished executions with everything that is told of them.
pub async fn delete(connection: &mut Connection, executions: &[(String, ExecutionId)]) -> StoreResult<()> {
    statement(DELETE)
        .bind::<Array<Text>, Vec<String>>(executions.iter().map(|e| e.0.clone()).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(executions.iter().map(|e| e.1.0).collect())
        .execute(connection)
        .await?;
    Ok(())
}

/// Forgets leases that ran out a day ago: of workers that died.
pub async fn forget_leases(connection: &mut Connection) -> StoreResult<usize> {
    Ok(statement("DELETE FROM leases WHERE expires_at < now() - interval '1 day'").execute(connection).await?)
}
