//! Submission: rows and idempotency keys of a whole batch of requests in one statement, hence one commit.

use super::query::{self, Execution};
use super::statement::statement;
use super::{Connection, StoreResult};
use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::ExecutionId;
use std::collections::HashMap;
use uuid::Uuid;

/// One execution to record.
#[derive(Clone, Debug)]
pub struct NewExecution {
    pub id: ExecutionId,
    pub priority: Priority,
    pub workflow: Option<(String, i32)>,
    /// Canonical JSON of a definition that came with the submission.
    pub spec: Option<String>,
    /// The bytes as submitted; `None` with a non-zero size when they are an object.
    pub input: Option<String>,
    pub input_bytes: i64,
    pub timeout_seconds: i32,
    pub max_attempts: i32,
    pub labels: Option<serde_json::Value>,
    pub traceparent: Option<String>,
    pub retry_of: Option<ExecutionId>,
    pub created_at: DateTime<Utc>,
    /// In the future: the row is made `scheduled`.
    pub run_at: Option<DateTime<Utc>>,
    pub queue_deadline: Option<DateTime<Utc>>,
    /// Whether an `XADD` follows; otherwise the relay will see to it.
    pub enqueued: bool,
}

/// One request: one execution, or a batch that is recorded as a whole.
#[derive(Clone, Debug)]
pub struct Submission {
    pub tenant: String,
    pub idempotency: Option<IdempotencyKey>,
    pub executions: Vec<NewExecution>,
}

#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    pub key: String,
    /// SHA-256 of the request's body.
    pub fingerprint: Vec<u8>,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Submitted {
    /// Committed by this call.
    Recorded,
    /// The key was used before with the same body: these are the executions of then, as they are now.
    Repeated(Vec<Execution>),
    /// The key was used before with another body.
    KeyReused,
}

#[derive(diesel::QueryableByName)]
struct RecordedRequest {
    #[diesel(sql_type = Integer)]
    request: i32,
}

#[derive(diesel::QueryableByName)]
struct KnownKey {
    #[diesel(sql_type = Integer)]
    request: i32,
    #[diesel(sql_type = Binary)]
    fingerprint: Vec<u8>,
    #[diesel(sql_type = Array<SqlUuid>)]
    execution_ids: Vec<Uuid>,
}

/// A request whose key is taken inserts nothing; two requests of one batch with the same key are told apart by `DISTINCT ON`.
const INSERT: &str = "
WITH request AS (
    SELECT * FROM UNNEST({}::int[], {}::text[], {}::text[], {}::bytea[]) AS t (request, tenant, key, fingerprint)
), item AS (
    SELECT * FROM UNNEST({}::int[], {}::text[], {}::uuid[], {}::int2[], {}::text[], {}::int[], {}::text[], {}::text[], {}::int8[],
                         {}::int[], {}::int[], {}::jsonb[], {}::text[], {}::uuid[], {}::timestamptz[], {}::timestamptz[],
                         {}::timestamptz[], {}::bool[])
        AS t (request, tenant, id, priority, workflow, version, spec, input, input_bytes,
              timeout_seconds, max_attempts, labels, traceparent, retry_of, created_at, run_at,
              queue_deadline, enqueued)
), kept AS (
    INSERT INTO idempotency_keys (tenant, key, fingerprint, execution_ids)
    SELECT DISTINCT ON (r.tenant, r.key) r.tenant, r.key, r.fingerprint,
           (SELECT array_agg(i.id ORDER BY i.id) FROM item i WHERE i.request = r.request)
    FROM request r WHERE r.key IS NOT NULL
    ORDER BY r.tenant, r.key, r.request
    ON CONFLICT DO NOTHING
    RETURNING execution_ids[1] AS first_id
), accepted AS (
    SELECT request FROM request WHERE key IS NULL
    UNION ALL
    SELECT i.request FROM kept k JOIN item i ON i.id = k.first_id
), recorded AS (
    INSERT INTO executions (tenant, id, state, priority, workflow, version, spec, input, input_bytes, timeout_seconds,
                            max_attempts, labels, traceparent, retry_of, created_at, run_at, queued_at, queue_deadline, enqueued)
    SELECT tenant, id, CASE WHEN run_at IS NULL THEN 'queued' ELSE 'scheduled' END, priority, workflow, version, spec, input,
           input_bytes, timeout_seconds, max_attempts, labels, traceparent, retry_of, created_at, run_at,
           CASE WHEN run_at IS NULL THEN created_at END, queue_deadline, enqueued AND run_at IS NULL
    FROM item JOIN accepted USING (request)
)
SELECT request FROM accepted";

const KNOWN_KEYS: &str = "
SELECT r.request, k.fingerprint, k.execution_ids
FROM UNNEST({}::int[], {}::text[], {}::text[]) AS r (request, tenant, key)
JOIN idempotency_keys k USING (tenant, key)";

/// Records a batch of requests; the answers are in their order. Either all of it is committed, or the call fails.
pub async fn submit(connection: &mut Connection, batch: &[Submission]) -> StoreResult<Vec<Submitted>> {
    let recorded: Vec<RecordedRequest> = insert(batch).load(connection).await?;
    let mut answers: Vec<Option<Submitted>> = vec![None; batch.len()];
    for row in recorded {
        answers[row.request as usize] = Some(Submitted::Recorded);
    }
    if answers.iter().any(Option::is_none) {
        answer_repeats(connection, batch, &mut answers).await?;
    }
    // A key that vanished between the two statements was swept by retention: its day is over, so the request is told to come again.
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Submitted::KeyReused)).collect())
}

/// What would be answered to a key that may have been used before, if nothing were recorded; `None`: it was not used.
pub async fn look_up(
    connection: &mut Connection,
    tenant: &str,
    key: &IdempotencyKey,
) -> StoreResult<Option<Submitted>> {
    let asked = Submission { tenant: tenant.to_owned(), idempotency: Some(key.clone()), executions: Vec::new() };
    let mut answers = [None];
    answer_repeats(connection, &[asked], &mut answers).await?;
    let [answer] = answers;
    Ok(answer)
}

async fn answer_repeats(
    connection: &mut Connection,
    batch: &[Submission],
    answers: &mut [Option<Submitted>],
) -> StoreResult<()> {
    let keyed = || {
        batch.iter().zip(answers.iter()).enumerate().filter(|(_, (_, answer))| answer.is_none()).filter_map(
            |(n, (submission, _))| submission.idempotency.as_ref().map(|key| (n as i32, &submission.tenant, &key.key)),
        )
    };
    let known: Vec<KnownKey> = statement(KNOWN_KEYS)
        .bind::<Array<Integer>, Vec<i32>>(keyed().map(|k| k.0).collect())
        .bind::<Array<Text>, Vec<String>>(keyed().map(|k| k.1.clone()).collect())
        .bind::<Array<Text>, Vec<String>>(keyed().map(|k| k.2.clone()).collect())
        .load(connection)
        .await?;
    for row in known {
        let submission = &batch[row.request as usize];
        let same = submission.idempotency.as_ref().is_some_and(|key| key.fingerprint == row.fingerprint);
        answers[row.request as usize] = Some(if same {
            let mut found: HashMap<Uuid, Execution> =
                query::get_many(connection, &submission.tenant, &row.execution_ids).await?;
            Submitted::Repeated(row.execution_ids.iter().filter_map(|id| found.remove(id)).collect())
        } else {
            Submitted::KeyReused
        });
    }
    Ok(())
}

fn insert(batch: &[Submission]) -> super::statement::Statement {
    let keys = |pick: fn(&IdempotencyKey) -> &str| -> Vec<Option<String>> {
        batch.iter().map(|s| s.idempotency.as_ref().map(|key| pick(key).to_owned())).collect()
    };
    let rows: Vec<(i32, &str, &NewExecution)> = batch
        .iter()
        .enumerate()
        .flat_map(|(n, s)| s.executions.iter().map(move |e| (n as i32, s.tenant.as_str(), e)))
        .collect();
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows.iter().map(|(_, _, $row)| $value).collect::<Vec<_>>()
        };
    }
    statement(INSERT)
        .bind::<Array<Integer>, Vec<i32>>((0..batch.len() as i32).collect())
        .bind::<Array<Text>, Vec<String>>(batch.iter().map(|s| s.tenant.clone()).collect())
        .bind::<Array<Nullable<Text>>, _>(keys(|key| &key.key))
        .bind::<Array<Nullable<Binary>>, Vec<Option<Vec<u8>>>>(
            batch.iter().map(|s| s.idempotency.as_ref().map(|key| key.fingerprint.clone())).collect(),
        )
        .bind::<Array<Integer>, Vec<i32>>(rows.iter().map(|row| row.0).collect())
        .bind::<Array<Text>, Vec<String>>(rows.iter().map(|row| row.1.to_owned()).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(column!(e => e.id.0))
        .bind::<Array<SmallInt>, Vec<i16>>(column!(e => e.priority.rank()))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(e => e.workflow.as_ref().map(|w| w.0.clone())))
        .bind::<Array<Nullable<Integer>>, Vec<Option<i32>>>(column!(e => e.workflow.as_ref().map(|w| w.1)))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(e => e.spec.clone()))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(e => e.input.clone()))
        .bind::<Array<BigInt>, Vec<i64>>(column!(e => e.input_bytes))
        .bind::<Array<Integer>, Vec<i32>>(column!(e => e.timeout_seconds))
        .bind::<Array<Integer>, Vec<i32>>(column!(e => e.max_attempts))
        .bind::<Array<Nullable<Jsonb>>, Vec<Option<serde_json::Value>>>(column!(e => e.labels.clone()))
        .bind::<Array<Nullable<Text>>, Vec<Option<String>>>(column!(e => e.traceparent.clone()))
        .bind::<Array<Nullable<SqlUuid>>, Vec<Option<Uuid>>>(column!(e => e.retry_of.map(|id| id.0)))
        .bind::<Array<Timestamptz>, Vec<DateTime<Utc>>>(column!(e => e.created_at))
        .bind::<Array<Nullable<Timestamptz>>, Vec<Option<DateTime<Utc>>>>(column!(e => e.run_at))
        .bind::<Array<Nullable<Timestamptz>>, Vec<Option<DateTime<Utc>>>>(column!(e => e.queue_deadline))
        .bind::<Array<Bool>, Vec<bool>>(column!(e => e.enqueued))
}
