//! Submission: rows and idempotency keys of a whole batch of requests in one statement, hence one commit.

use super::query::{self, Execution};
use super::repeats::Repeats;
use super::statement::{Statement, statement};
use super::{Connection, StoreError, StoreResult};
use chrono::{DateTime, Utc};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
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

/// The rows of a batch. A value that all of them have comes once, by itself; otherwise a column is an array with an element a row, unnested in a target list,
/// not in `FROM`: there each array would become a table of its own, written and read back. An array that is empty is filled up with NULLs.
macro_rules! rows {
    ($($more:literal)?) => {
        concat!(
            "SELECT COALESCE(tenant, {}::text) AS tenant, id, COALESCE(priority, {}::int2) AS priority,
            COALESCE(workflow, {}::text) AS workflow, COALESCE(version, {}::int) AS version, COALESCE(spec, {}::text) AS spec,
            COALESCE(input, {}::text) AS input, COALESCE(input_bytes, {}::int8) AS input_bytes,
            COALESCE(timeout_seconds, {}::int) AS timeout_seconds, COALESCE(max_attempts, {}::int) AS max_attempts,
            COALESCE(labels, {}::jsonb) AS labels, COALESCE(traceparent, {}::text) AS traceparent,
            COALESCE(retry_of, {}::uuid) AS retry_of, COALESCE(created_at, {}::timestamptz) AS created_at,
            COALESCE(run_at, {}::timestamptz) AS run_at, COALESCE(queue_deadline, {}::timestamptz) AS queue_deadline,
            COALESCE(enqueued, {}::bool) AS enqueued", $(", ", $more,)?
            " FROM (SELECT unnest({}::uuid[]) AS id, unnest({}::text[]) AS tenant, unnest({}::int2[]) AS priority,
            unnest({}::text[]) AS workflow, unnest({}::int[]) AS version, unnest({}::text[]) AS spec,
            unnest({}::text[]) AS input, unnest({}::int8[]) AS input_bytes, unnest({}::int[]) AS timeout_seconds,
            unnest({}::int[]) AS max_attempts, unnest({}::jsonb[]) AS labels, unnest({}::text[]) AS traceparent,
            unnest({}::uuid[]) AS retry_of, unnest({}::timestamptz[]) AS created_at, unnest({}::timestamptz[]) AS run_at,
            unnest({}::timestamptz[]) AS queue_deadline, unnest({}::bool[]) AS enqueued",
            $(", unnest({}::uuid[]) AS ", $more,)?
            ") AS sent"
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

macro_rules! insert_keys {
    () => {
        "INSERT INTO idempotency_keys (tenant, key, fingerprint, execution_ids)
        SELECT tenant, key, fingerprint, ({}::uuid[])[first:last]
        FROM (SELECT unnest({}::text[]) AS tenant, unnest({}::text[]) AS key, unnest({}::bytea[]) AS fingerprint,
                     unnest({}::int[]) AS first, unnest({}::int[]) AS last) AS request"
    };
}

/// The rows of requests whose keys are all new: it fails, with nothing inserted, where one is not. PostgreSQL carries out a `WITH` that nobody reads from
/// last, so that what fails has cost the keys alone. They come sorted, so that two such statements never wait for each other both ways.
const INSERT_NEW_KEYS: &str = concat!("WITH recorded AS (", insert_from!(rows!()), ") ", insert_keys!());

/// The rows of requests of which some have a key. A request goes by its smallest id: `first_id`, which its rows carry if it has a key; the ids of those
/// with a key come sorted and one request behind the other, each knowing its place among them. One whose key is taken inserts nothing. Keys come sorted,
/// as above, and each once.
const INSERT_KEYED: &str = concat!(
    "WITH kept AS (",
    insert_keys!(),
    " ON CONFLICT DO NOTHING
        RETURNING execution_ids[1] AS first_id
    ), recorded AS (",
    insert_from!(rows!("first_id")),
    " WHERE first_id IS NULL OR first_id IN (SELECT first_id FROM kept)
    )
    SELECT first_id FROM kept"
);

const KNOWN_KEYS: &str = "
SELECT r.request, k.fingerprint, k.execution_ids
FROM UNNEST({}::int[], {}::text[], {}::text[]) AS r (request, tenant, key)
JOIN idempotency_keys k ON k.tenant = ANY(ARRAY[r.tenant]) AND k.key = r.key";

/// Records a batch of requests; the answers are in their order. Either all of it is committed, or the call fails.
pub async fn submit(
    connection: &mut Connection,
    batch: &[Submission],
    repeats: &Repeats,
) -> StoreResult<Vec<Submitted>> {
    let keyed = keyed(batch);
    if keyed.is_empty() {
        bind_rows(statement(INSERT), batch).execute(connection).await?;
        return Ok(vec![Submitted::Recorded; batch.len()]);
    }
    let with_key = batch.iter().filter(|s| s.idempotency.is_some()).count();
    if keyed.len() == with_key && !repeats.take_wary() {
        if record_new(connection, batch, &keyed).await? {
            return Ok(vec![Submitted::Recorded; batch.len()]);
        }
        repeats.met();
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
    if answers.iter().all(Option::is_some) {
        return Ok(answers.into_iter().flatten().collect());
    }
    repeats.met();
    // What is new is committed by now, whatever happens from here on.
    if let Err(error) = answer_repeats(connection, batch, &mut answers).await {
        return Ok(answers.into_iter().map(|answer| answer.unwrap_or(Submitted::Unread(error.clone()))).collect());
    }
    // A key that vanished between the two statements was swept by retention: its day is over, and the request is told to take a new one.
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Submitted::KeyReused)).collect())
}

/// Records requests whose keys are different from each other; `false`: nothing is recorded, mostly because one of them was used before.
async fn record_new(
    connection: &mut Connection,
    batch: &[Submission],
    keyed: &[(&IdempotencyKey, &Submission)],
) -> StoreResult<bool> {
    match bind_keys(bind_rows(statement(INSERT_NEW_KEYS), batch), keyed).execute(connection).await {
        Ok(_) => Ok(true),
        Err(DieselError::DatabaseError(DatabaseErrorKind::UniqueViolation, _)) => Ok(false),
        Err(error) => Err(error.into()),
    }
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
            Column::of(rows().map(|(_, $row)| $value))
        };
    }
    let tenant = Column::of(rows().map(|(s, _)| Some(s.tenant.as_str())));
    let priority = column!(e => Some(e.priority.rank()));
    let workflow = column!(e => e.workflow.as_ref().map(|w| w.0.as_str()));
    let version = column!(e => e.workflow.as_ref().map(|w| w.1));
    let spec = column!(e => e.spec.as_deref());
    let input = column!(e => e.input.as_deref());
    let input_bytes = column!(e => Some(e.input_bytes));
    let timeout_seconds = column!(e => Some(e.timeout_seconds));
    let max_attempts = column!(e => Some(e.max_attempts));
    let labels = column!(e => e.labels.as_ref());
    let traceparent = column!(e => e.traceparent.as_deref());
    let retry_of = column!(e => e.retry_of.map(|id| id.0));
    let created_at = column!(e => Some(e.created_at));
    let run_at = column!(e => e.run_at);
    let queue_deadline = column!(e => e.queue_deadline);
    let enqueued = column!(e => Some(e.enqueued));
    statement
        .bind::<Nullable<Text>, _>(tenant.same)
        .bind::<Nullable<SmallInt>, _>(priority.same)
        .bind::<Nullable<Text>, _>(workflow.same)
        .bind::<Nullable<Integer>, _>(version.same)
        .bind::<Nullable<Text>, _>(spec.same)
        .bind::<Nullable<Text>, _>(input.same)
        .bind::<Nullable<BigInt>, _>(input_bytes.same)
        .bind::<Nullable<Integer>, _>(timeout_seconds.same)
        .bind::<Nullable<Integer>, _>(max_attempts.same)
        .bind::<Nullable<Jsonb>, _>(labels.same)
        .bind::<Nullable<Text>, _>(traceparent.same)
        .bind::<Nullable<SqlUuid>, _>(retry_of.same)
        .bind::<Nullable<Timestamptz>, _>(created_at.same)
        .bind::<Nullable<Timestamptz>, _>(run_at.same)
        .bind::<Nullable<Timestamptz>, _>(queue_deadline.same)
        .bind::<Nullable<Bool>, _>(enqueued.same)
        .bind::<Array<SqlUuid>, Vec<Uuid>>(rows().map(|(_, e)| e.id.0).collect())
        .bind::<Array<Nullable<Text>>, _>(tenant.each)
        .bind::<Array<Nullable<SmallInt>>, _>(priority.each)
        .bind::<Array<Nullable<Text>>, _>(workflow.each)
        .bind::<Array<Nullable<Integer>>, _>(version.each)
        .bind::<Array<Nullable<Text>>, _>(spec.each)
        .bind::<Array<Nullable<Text>>, _>(input.each)
        .bind::<Array<Nullable<BigInt>>, _>(input_bytes.each)
        .bind::<Array<Nullable<Integer>>, _>(timeout_seconds.each)
        .bind::<Array<Nullable<Integer>>, _>(max_attempts.each)
        .bind::<Array<Nullable<Jsonb>>, _>(labels.each)
        .bind::<Array<Nullable<Text>>, _>(traceparent.each)
        .bind::<Array<Nullable<SqlUuid>>, _>(retry_of.each)
        .bind::<Array<Nullable<Timestamptz>>, _>(created_at.each)
        .bind::<Array<Nullable<Timestamptz>>, _>(run_at.each)
        .bind::<Array<Nullable<Timestamptz>>, _>(queue_deadline.each)
        .bind::<Array<Nullable<Bool>>, _>(enqueued.each)
}

/// A column of the batch: what all its rows have, or what each has.
struct Column<T> {
    same: Option<T>,
    each: Vec<Option<T>>,
}

impl<T: PartialEq> Column<T> {
    fn of(values: impl Iterator<Item = Option<T>>) -> Self {
        let mut each: Vec<Option<T>> = values.collect();
        if each.windows(2).all(|pair| pair[0] == pair[1]) {
            each.truncate(1);
            return Self { same: each.pop().flatten(), each };
        }
        Self { same: None, each }
    }
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
