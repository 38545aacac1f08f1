//! A database, a Redis prefix and the objects of a story, fresh for each test.

use chrono::Utc;
use roadstead_backend::config::{LaunchTimes, PostgresConfig, RedisConfig, Secret};
use roadstead_backend::dispatch::{Dispatch, Share, Stream};
use roadstead_backend::secrets;
use roadstead_backend::store::claim::{self, Claim, Wanted};
use roadstead_backend::store::finish::{self as finishing, Finished, Report};
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::submit::{NewExecution, Submission, Submitted, submit};
use roadstead_backend::store::{Connection, Database, database, query, start, tenants};
use roadstead_domain::attempt::protocol::{Finish, Outcome, Status};
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use std::time::Duration;
use uuid::Uuid;

pub const TIMES: LaunchTimes =
    LaunchTimes { launch_lease: Duration::from_secs(15), start_timeout: Duration::from_secs(300) };
pub const LEASE: Duration = Duration::from_secs(90);
pub const SHARE: Share = Share { weight: 1, max_concurrent: None };

/// A migrated database of this test's own, with the tenants `t` and `u`.
pub async fn database() -> Database {
    let config = PostgresConfig {
        url: Secret::new(roadstead_testkit::servers().await.new_database().await),
        max_connections: 8,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
    };
    database::migrate(&config).await.unwrap();
    let database = Database::new(&config);
    let mut connection = database.get().await.unwrap();
    for tenant in ["t", "u"] {
        tenants::set(&mut connection, tenant, tenants::Change::default()).await.unwrap();
    }
    drop(connection);
    database
}

/// Streams of this test's own, their epoch begun.
pub async fn dispatch() -> Dispatch {
    let dispatch = unborn_dispatch().await;
    dispatch.begin_epoch().await.unwrap();
    dispatch
}

/// The same, as a Redis that was wiped.
pub async fn unborn_dispatch() -> Dispatch {
    let url = roadstead_testkit::servers().await.redis_url().to_owned();
    let prefix = format!("test-{}", Uuid::new_v4().simple());
    Dispatch::new(&RedisConfig { url: Secret::new(url), prefix }).unwrap()
}

pub fn stream(tenant: &str, priority: Priority) -> Stream {
    Stream { tenant: tenant.to_owned(), priority }
}

pub fn execution() -> NewExecution {
    NewExecution {
        id: ExecutionId::new(),
        priority: Priority::Normal,
        workflow: None,
        spec: Some(r#"{"steps":[{"id":"a","command":["true"]}]}"#.into()),
        input: Some("{\"a\": 1.50}".to_owned()),
        input_bytes: 11,
        timeout_seconds: 60,
        max_attempts: 3,
        labels: None,
        traceparent: None,
        retry_of: None,
        created_at: Utc::now(),
        run_at: None,
        queue_deadline: None,
        enqueued: true,
    }
}

pub fn of(tenant: &str, executions: Vec<NewExecution>) -> Submission {
    Submission { tenant: tenant.to_owned(), idempotency: None, executions }
}

/// Records one execution of tenant `t`.
pub async fn submitted(connection: &mut Connection, new: NewExecution) -> ExecutionId {
    let id = new.id;
    let answers = submit(connection, &[of("t", vec![new])], &Repeats::default()).await.unwrap();
    assert!(matches!(answers[..], [Submitted::Recorded]));
    id
}

pub async fn state(connection: &mut Connection, id: ExecutionId) -> String {
    query::get(connection, "t", id).await.unwrap().expect("the execution").state.to_string()
}

pub const CREDENTIAL: &str = "credential";
pub const SESSION: &str = "session";

pub async fn try_claim(connection: &mut Connection, ids: &[ExecutionId], cap: i64) -> Vec<Claim> {
    let wanted: Vec<Wanted> = ids
        .iter()
        .map(|&id| Wanted { tenant: "t".to_owned(), id, launch_hash: Some(secrets::hash(CREDENTIAL)) })
        .collect();
    let answers = claim::claim(connection, &wanted, "worker-1", cap, TIMES).await.unwrap();
    ids.iter().map(|id| answers[id]).collect()
}

/// Claims one execution and answers the attempt.
pub async fn claimed(connection: &mut Connection, id: ExecutionId) -> AttemptId {
    match try_claim(connection, &[id], 1_000).await[..] {
        [Claim::Claimed { attempt, .. }] => AttemptId { execution_id: id, attempt },
        ref other => panic!("{other:?}"),
    }
}

pub fn start_claim(attempt: AttemptId, credential: &str, session: &str) -> start::StartClaim {
    start::StartClaim { attempt, launch_hash: Some(secrets::hash(credential)), session_hash: secrets::hash(session) }
}

/// Asks for one start.
pub async fn ask_start(
    connection: &mut Connection,
    attempt: AttemptId,
    credential: &str,
    session: &str,
) -> start::Start {
    start::start(connection, &[start_claim(attempt, credential, session)], LEASE).await.unwrap().remove(0)
}

/// A submitted, claimed and started execution.
pub async fn running(connection: &mut Connection) -> AttemptId {
    let id = submitted(connection, execution()).await;
    let attempt = claimed(connection, id).await;
    assert!(matches!(ask_start(connection, attempt, CREDENTIAL, SESSION).await, start::Start::Granted(_)));
    attempt
}

pub fn finish(status: Status) -> Finish {
    Finish {
        outcome: Outcome { status, reason: None, retryable: true },
        steps: Vec::new(),
        result: None,
        artifacts: Vec::new(),
        segments: Vec::new(),
    }
}

/// Reports an attempt's end as its executor does.
pub async fn report(connection: &mut Connection, attempt: AttemptId, session: &str, status: Status) -> Finished {
    let report = Report { attempt, session_hash: secrets::hash(session), finish: finish(status) };
    finishing::finish(connection, &[report]).await.unwrap().remove(0)
}

/// A worker's own word about its attempts.
pub fn by(worker: &str) -> roadstead_backend::store::settle::Observer {
    roadstead_backend::store::settle::Observer::Launcher { worker: worker.to_owned() }
}

/// Runs SQL for its effect: the clock can't be waited for, so stories set times back.
pub async fn sql(connection: &mut Connection, text: &str) {
    diesel_async::SimpleAsyncConnection::batch_execute(connection, text).await.unwrap();
}

/// Rows that indexes have led to in the tables of executions, up to now.
pub async fn rows_read(connection: &mut Connection) -> i64 {
    counted(
        connection,
        "SELECT COALESCE(sum(idx_tup_read), 0)::int8 AS count FROM pg_stat_user_indexes
         WHERE relname IN ('executions', 'attempts', 'execution_events', 'log_segments')",
    )
    .await
}

/// Pages that were read of an index, up to now.
pub async fn pages_read(connection: &mut Connection, index: &str) -> i64 {
    let pages = format!(
        "SELECT (idx_blks_read + idx_blks_hit)::int8 AS count FROM pg_statio_user_indexes WHERE indexrelname = '{index}'"
    );
    counted(connection, &pages).await
}

async fn counted(connection: &mut Connection, statistics: &str) -> i64 {
    #[derive(diesel::QueryableByName)]
    struct Counted {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        count: i64,
    }
    sql(connection, "SELECT pg_stat_force_next_flush()").await;
    sql(connection, "SELECT pg_stat_clear_snapshot()").await;
    let counted: Counted =
        diesel_async::RunQueryDsl::get_result(diesel::sql_query(statistics), connection).await.unwrap();
    counted.count
}
