//! Submission: rows and idempotency keys of a whole batch of requests in one statement, hence one commit.

use super::query::{self, Execution};
use super::statement::{Statement, statement};
use super::{Connection, StoreError, StoreResult};
use chrono::{DateTime, Utc};
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::ExecutionId;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// One execution to record.
#[derive(Clone, Debug)]
pub struct NewExecution {
    pub id: ExecutionId,
    pub priority: Priority,
    pub workflow: Option<(String, i32)>,
    /// Canonical JSON of a definition that came with the submission.
    pub spec: Option<Arc<str>>,
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
    /// The key was used before with the same body, and retention has removed what was recorded then.
    Forgotten,
    /// The key was used before; with what could not be read. The rest of the batch stands.
    Unread(StoreError),
}

#[derive(diesel::QueryableByName)]
struct KeptKey {
    #[diesel(sql_type = SqlUuid)]
    first_id: Uuid,
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

/// A row an array's element. In a target list, not in `FROM`: there each array would become a table of its own, written and read back. A column that is
/// empty in every row is sent as an empty array, which is filled up with NULLs.
macro_rules! rows {
    ($($more:literal)?) => {
        concat!(
            "SELECT unnest({}::text[]) AS tenant, unnest({}::uuid[]) AS id, unnest({}::int2[]) AS priority,
            unnest({}::text[]) AS workflow, unnest({}::int[]) AS version, unnest({}::text[]) AS spec,
            unnest({}::text[]) AS input, unnest({}::int8[]) AS input_bytes, unnest({}::int[]) AS timeout_seconds,
            unnest({}::int[]) AS max_attempts, unnest({}::jsonb[]) AS labels, unnest({}::text[]) AS traceparent,
            unnest({}::uuid[]) AS retry_of, unnest({}::timestamptz[]) AS created_at, unnest({}::timestamptz[]) AS run_at,
            unnest({}::timestamptz[]) AS queue_deadline, unnest({}::bool[]) AS enqueued",
            $($more)?
        )
    };
}

macro_rules! insert_from {
    ($rows:expr) => {
        concat!(
            "INSERT INTO executions (tenant, id, state, priority, workflow, version, spec, input, input_bytes, timeout_seconds,
                         max_attempts, labels, traceparent, retry_of, created_at, run_at, queued_at, queue_deadline, enqueued)
            SELECT tenant, id, CASE WHEN run_at IS NULL THEN 'queued' ELSE 'scheduled' END, priority, workflow, version, spec, input,
                   input_bytes, timeout_seconds, max_attempts, labels, traceparent, retry_of, created_at, run_at,
                   CASE WHEN run_at IS NULL THEN created_at END, queue_deadline, enqueued AND run_at IS NULL
            FROM (",
            $rows,
            ") AS item"
        )
    };
}

/// The rows of requests without a key.
const INSERT: &str = insert_from!(rows!());

/// The rows of requests of which some have a key. A request goes by its smallest id: `first_id`, which its rows carry if it has a key; the ids of those
/// with a key come sorted and one request behind the other, each knowing its place among them. One whose key is taken inserts nothing. Keys come sorted,
/// so that two such statements never wait for each other both ways, and each once.
const INSERT_KEYED: &str = concat!(
    "WITH kept AS (
        INSERT INTO idempotency_keys (tenant, key, fingerprint, execution_ids)
        SELECT tenant, key, fingerprint, ({}::uuid[])[first:last]
        FROM (SELECT unnest({}::text[]) AS tenant, unnest({}::text[]) AS key, unnest({}::bytea[]) AS fingerprint,
                     unnest({}::int[]) AS first, unnest({}::int[]) AS last) AS request
        ON CONFLICT DO NOTHING
        RETURNING execution_ids[1] AS first_id
    ), recorded AS (",
    insert_from!(rows!(", unnest({}::uuid[]) AS first_id")),
    " WHERE first_id IS NULL OR first_id IN (SELECT first_id FROM kept)
    )
    SELECT first_id FROM kept"
);

const KNOWN_KEYS: &str = "
SELECT r.request, k.fingerprint, k.execution_ids
FROM UNNEST({}::int[], {}::text[], {}::text[]) AS r (request, tenant, key)
JOIN idempotency_keys k ON k.tenant = ANY(ARRAY[r.tenant]) AND k.key = r.key";

/// Records a batch of requests; the answers are in their order. Either all of it is committed, or the call fails.
pub async fn submit(connection: &mut Connection, batch: &[Submission]) -> StoreResult<Vec<Submitted>> {
    let keyed = keyed(batch);
    if keyed.is_empty() {
        bind_rows(statement(INSERT), batch).execute(connection).await?;
        return Ok(vec![Submitted::Recorded; batch.len()]);
    }
    let kept: Vec<KeptKey> =
        bind_first_ids(bind_rows(bind_keys(statement(INSERT_KEYED), &keyed), batch), batch).load(connection).await?;
    let kept: HashSet<Uuid> = kept.into_iter().map(|row| row.first_id).collect();
    let mut answers: Vec<Option<Submitted>> = batch
        .iter()
        .map(|s| {
            (s.idempotency.is_none() || first_id(s).is_some_and(|id| kept.contains(&id))).then_some(Submitted::Recorded)
        })
        .collect();
    // What is new is committed by now, whatever happens from here on.
    if answers.iter().any(Option::is_none)
        && let Err(error) = answer_repeats(connection, batch, &mut answers).await
    {
        return Ok(answers.into_iter().map(|answer| answer.unwrap_or(Submitted::Unread(error.clone()))).collect());
    }
    // A key that vanished between the two statements was swept by retention: its day is over, so the request is told to come again.
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Submitted::KeyReused)).collect())
}

fn first_id(submission: &Submission) -> Option<Uuid> {
    submission.executions.iter().map(|row| row.id.0).min()
}

/// The requests that have a key and something to record, sorted by it; of those with the same key the first.
fn keyed(batch: &[Submission]) -> Vec<(&IdempotencyKey, &Submission)> {
    let mut keyed: Vec<_> = batch
        .iter()
        .filter(|s| !s.executions.is_empty())
        .filter_map(|s| s.idempotency.as_ref().map(|key| (key, s)))
        .collect();
    // Stable, so the first of equals stays first.
    keyed.sort_by(|(a, s), (b, t)| (&s.tenant, &a.key).cmp(&(&t.tenant, &b.key)));
    keyed.dedup_by(|(a, s), (b, t)| (&s.tenant, &a.key) == (&t.tenant, &b.key));
    keyed
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
            let executions: Vec<_> = row.execution_ids.iter().filter_map(|id| found.remove(id)).collect();
            if executions.len() == row.execution_ids.len() {
                Submitted::Repeated(executions)
            } else {
                Submitted::Forgotten
            }
        } else {
            Submitted::KeyReused
        });
    }
    Ok(())
}

fn bind_rows<'a>(statement: Statement<'a>, batch: &'a [Submission]) -> Statement<'a> {
    let rows = || batch.iter().flat_map(|s| s.executions.iter().map(move |row| (s, row)));
    macro_rules! column {
        ($row:ident => $value:expr) => {
            rows().map(|(_, $row)| $value).collect::<Vec<_>>()
        };
    }
    statement
        .bind::<Array<Text>, Vec<&str>>(rows().map(|(s, _)| s.tenant.as_str()).collect())
        .bind::<Array<SqlUuid>, Vec<Uuid>>(column!(e => e.id.0))
        .bind::<Array<SmallInt>, Vec<i16>>(column!(e => e.priority.rank()))
        .bind::<Array<Nullable<Text>>, _>(sparse(rows().map(|(_, e)| e.workflow.as_ref().map(|w| w.0.as_str()))))
        .bind::<Array<Nullable<Integer>>, _>(sparse(rows().map(|(_, e)| e.workflow.as_ref().map(|w| w.1))))
        .bind::<Array<Nullable<Text>>, _>(sparse(rows().map(|(_, e)| e.spec.as_deref())))
        .bind::<Array<Nullable<Text>>, _>(sparse(rows().map(|(_, e)| e.input.as_deref())))
        .bind::<Array<BigInt>, Vec<i64>>(column!(e => e.input_bytes))
        .bind::<Array<Integer>, Vec<i32>>(column!(e => e.timeout_seconds))
        .bind::<Array<Integer>, Vec<i32>>(column!(e => e.max_attempts))
        .bind::<Array<Nullable<Jsonb>>, _>(sparse(rows().map(|(_, e)| e.labels.as_ref())))
        .bind::<Array<Nullable<Text>>, _>(sparse(rows().map(|(_, e)| e.traceparent.as_deref())))
        .bind::<Array<Nullable<SqlUuid>>, _>(sparse(rows().map(|(_, e)| e.retry_of.map(|id| id.0))))
        .bind::<Array<Timestamptz>, Vec<DateTime<Utc>>>(column!(e => e.created_at))
        .bind::<Array<Nullable<Timestamptz>>, _>(sparse(rows().map(|(_, e)| e.run_at)))
        .bind::<Array<Nullable<Timestamptz>>, _>(sparse(rows().map(|(_, e)| e.queue_deadline)))
        .bind::<Array<Bool>, Vec<bool>>(column!(e => e.enqueued))
}

fn bind_keys<'a>(statement: Statement<'a>, keyed: &[(&'a IdempotencyKey, &'a Submission)]) -> Statement<'a> {
    let (mut ids, mut firsts, mut lasts) = (Vec::new(), Vec::new(), Vec::new());
    for (_, submission) in keyed {
        // PostgreSQL counts from 1.
        firsts.push(ids.len() as i32 + 1);
        let begin = ids.len();
        ids.extend(submission.executions.iter().map(|row| row.id.0));
        ids[begin..].sort_unstable();
        lasts.push(ids.len() as i32);
    }
    statement
        .bind::<Array<SqlUuid>, Vec<Uuid>>(ids)
        .bind::<Array<Text>, Vec<&str>>(keyed.iter().map(|(_, s)| s.tenant.as_str()).collect())
        .bind::<Array<Text>, Vec<&str>>(keyed.iter().map(|(key, _)| key.key.as_str()).collect())
        .bind::<Array<Binary>, Vec<&[u8]>>(keyed.iter().map(|(key, _)| key.fingerprint.as_slice()).collect())
        .bind::<Array<Integer>, Vec<i32>>(firsts)
        .bind::<Array<Integer>, Vec<i32>>(lasts)
}

fn bind_first_ids<'a>(statement: Statement<'a>, batch: &[Submission]) -> Statement<'a> {
    let first_ids = batch.iter().flat_map(|s| {
        let first_id = s.idempotency.as_ref().and_then(|_| first_id(s));
        s.executions.iter().map(move |_| first_id)
    });
    statement.bind::<Array<Nullable<SqlUuid>>, Vec<Option<Uuid>>>(first_ids.collect())
}

/// A column that most rows leave empty: nothing at all when all do.
fn sparse<T>(column: impl Iterator<Item = Option<T>>) -> Vec<Option<T>> {
    let column: Vec<Option<T>> = column.collect();
    if column.iter().all(Option::is_none) { Vec::new() } else { column }
}
