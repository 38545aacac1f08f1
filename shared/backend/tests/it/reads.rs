//! What statements may cost: one looks at the rows that it is about, however many others there are, and by the plan that it got while the tables were
//! empty.

use crate::fixture::*;
use chrono::{DateTime, TimeDelta, Utc};
use roadstead_backend::secrets;
use roadstead_backend::store::finish::Finished;
use roadstead_backend::store::heartbeat::{Beat, heartbeat};
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::submit::{NewExecution, submit};
use roadstead_backend::store::uploads::tenant_of_session;
use roadstead_backend::store::{Connection, capacity, claim, launch, overdue, query, relay, retain};
use roadstead_domain::attempt::protocol::Status;
use roadstead_domain::execution::Priority;
use roadstead_domain::ids::ExecutionId;
use std::time::Duration;
use uuid::Uuid;

/// Many, beside the handful that an answer takes.
const CROWD: i64 = 500;

/// Has `ask` planned on this connection.
async fn planned<T>(c: &mut Connection, ask: impl AsyncFn(&mut Connection) -> T) {
    sql(c, "VACUUM ANALYZE executions").await;
    ask(c).await;
}

/// The answer, and that few rows were looked at for it.
async fn cheaply<T>(c: &mut Connection, ask: impl AsyncFn(&mut Connection) -> T) -> T {
    let before = rows_read(c).await;
    let answer = ask(c).await;
    let read = rows_read(c).await - before;
    assert!(read < CROWD / 10, "{read} rows were looked at");
    answer
}

async fn crowd(c: &mut Connection, tenant: &str, make: impl Fn() -> NewExecution) {
    submit(c, &[of(tenant, (0..CROWD).map(|_| make()).collect())], &Repeats::default()).await.unwrap();
}

/// One that was submitted then.
fn made_at(time: DateTime<Utc>) -> NewExecution {
    let random = *Uuid::new_v4().as_bytes().last_chunk().unwrap();
    let id = uuid::Builder::from_unix_timestamp_millis(time.timestamp_millis().unsigned_abs(), &random).into_uuid();
    NewExecution { id: ExecutionId(id), created_at: time, ..execution() }
}

fn scheduled() -> NewExecution {
    NewExecution { run_at: Some(Utc::now() + TimeDelta::hours(1)), enqueued: false, ..execution() }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_that_were_made_for_empty_tables_hold_when_they_are_full() {
    plans_hold(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_that_were_made_for_a_single_row_hold_when_there_are_many() {
    plans_hold(1).await;
}

/// What becomes of an execution, planned after an analysis of tables of so many rows.
async fn plans_hold(rows: usize) {
    async fn one(c: &mut Connection) {
        let attempt = running(c).await;
        relay::mark(c, "t", &[attempt.execution_id], false).await.unwrap();
        assert!(query::get(c, "t", attempt.execution_id).await.unwrap().is_some());
        assert!(tenant_of_session(c, attempt, &secrets::hash(SESSION)).await.unwrap().is_some());
        let alive = Beat { attempt, session_hash: secrets::hash(SESSION), segments: Vec::new(), steps: None };
        heartbeat(c, &[alive], Duration::from_secs(60)).await.unwrap();
        launch::launched(c, "worker-1", &[attempt]).await.unwrap();
        assert!(matches!(report(c, attempt, SESSION, Status::Succeeded).await, Finished::Settled { .. }));
        assert!(claim::release(c, &by("worker-1"), &[attempt]).await.unwrap().contains(&attempt));
        assert!(!query::events(c, "t", attempt.execution_id).await.unwrap().is_empty());
        retain::delete(c, &[("t".to_owned(), attempt.execution_id)]).await.unwrap();
    }
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    for _ in 0..rows {
        running(c).await;
    }
    for table in ["executions", "attempts", "execution_events", "log_segments"] {
        sql(c, &format!("VACUUM ANALYZE {table}")).await;
    }
    one(c).await;
    sql(c, "INSERT INTO executions (tenant, id, state, priority, max_attempts, enqueued, input_bytes, timeout_seconds, queued_at)
            SELECT 't', gen_random_uuid(), 'queued', 1, 1, true, 0, 60, now() FROM generate_series(1, 3000);
            INSERT INTO attempts (execution_id, attempt, tenant, worker, launch_lease_expires_at, start_deadline, released_at)
            SELECT id, 1, 't', 'worker-1', now(), now(), now() FROM executions WHERE state = 'queued';
            INSERT INTO execution_events (execution_id, kind, attempt) SELECT id, 'queued', 0 FROM executions;
            INSERT INTO log_segments (execution_id, attempt, seq, size_bytes, lines) SELECT id, 1, 0, 1, 1 FROM executions")
    .await;
    let before = rows_read(c).await;
    one(c).await;
    let read = rows_read(c).await - before;
    assert!((1..200).contains(&read), "{read} rows were looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_berth_is_given_back_without_a_look_at_the_others() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    sql(c, "VACUUM ANALYZE attempts").await;
    let (first, second) = (running(c).await, running(c).await);
    for attempt in [first, second] {
        assert!(matches!(report(c, attempt, SESSION, Status::Succeeded).await, Finished::Settled { .. }));
    }
    // The plan is made here, while there are few.
    assert!(claim::release(c, &by("worker-1"), &[first]).await.unwrap().contains(&first));
    sql(
        c,
        "INSERT INTO attempts (execution_id, attempt, tenant, worker, launch_lease_expires_at, start_deadline)
            SELECT gen_random_uuid(), 1, 't', 'worker-1', now(), now() FROM generate_series(1, 10000)",
    )
    .await;
    let before = pages_read(c, "attempts_live").await;
    assert!(claim::release(c, &by("worker-1"), &[second]).await.unwrap().contains(&second));
    let read = pages_read(c, "attempts_live").await - before;
    assert!((1..15).contains(&read), "{read} pages of an index of many were read");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_overdue_costs_a_look_at_each_live_attempt_and_no_more() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let late = async |c: &mut Connection| overdue::overdue(c, &[], 100).await.unwrap().len();
    let left = async |c: &mut Connection| launch::abandoned(c, 100).await.unwrap().len();
    running(c).await;
    planned(c, late).await;
    planned(c, left).await;
    sql(
        c,
        "INSERT INTO executions (tenant, id, state, attempt, priority, max_attempts, enqueued, input_bytes, timeout_seconds)
         SELECT 't', gen_random_uuid(), 'launching', 1, 1, 1, false, 0, 60 FROM generate_series(1, 500);
         INSERT INTO attempts (execution_id, attempt, tenant, worker, launch_lease_expires_at, start_deadline)
         SELECT id, 1, 't', 'worker-1', now() + interval '1 hour', now() + interval '1 hour' FROM executions WHERE state = 'launching'",
    )
    .await;
    let before = rows_read(c).await;
    assert_eq!((late(c).await, left(c).await), (0, 0));
    let read = rows_read(c).await - before;
    assert!(read < 5 * CROWD, "{read} rows were looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_near_the_head_is_found_without_a_look_at_the_rest_of_the_queue() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let first = query::get(c, "t", id).await.unwrap().unwrap();
    let ahead = async |c: &mut Connection| query::ahead(c, &first).await.unwrap();
    planned(c, ahead).await;
    crowd(c, "t", execution).await;
    crowd(c, "t", || NewExecution { enqueued: false, ..execution() }).await;
    assert_eq!(cheaply(c, ahead).await, 0);
    let earlier = first.created_at - TimeDelta::seconds(1);
    submitted(c, NewExecution { created_at: earlier, ..execution() }).await;
    submitted(c, NewExecution { created_at: earlier, enqueued: false, ..execution() }).await;
    submitted(c, NewExecution { priority: Priority::High, ..execution() }).await;
    submitted(c, NewExecution { priority: Priority::Low, created_at: earlier, ..execution() }).await;
    assert_eq!(cheaply(c, ahead).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_of_a_tenant_is_counted_without_its_history_and_without_other_tenants() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let waiting = async |c: &mut Connection| capacity::waiting(c, "t", 1_000).await.unwrap();
    let depths = async |c: &mut Connection| capacity::depths(c, Some("t")).await.unwrap();
    planned(c, waiting).await;
    planned(c, depths).await;
    sql(
        c,
        "INSERT INTO executions (tenant, id, state, priority, max_attempts, enqueued, input_bytes, timeout_seconds, finished_at)
         SELECT 't', gen_random_uuid(), 'succeeded', 1, 1, false, 0, 60, now() FROM generate_series(1, 500)",
    )
    .await;
    crowd(c, "u", scheduled).await;
    crowd(c, "u", execution).await;
    for new in [execution(), NewExecution { enqueued: false, ..execution() }, scheduled()] {
        submitted(c, new).await;
    }
    assert_eq!(cheaply(c, waiting).await, 3);
    let of_tenant = cheaply(c, depths).await;
    assert_eq!(of_tenant.iter().map(|depth| (depth.tenant.as_str(), depth.queued)).collect::<Vec<_>>(), [("t", 2)]);
    let mut of_all = capacity::depths(c, None).await.unwrap();
    of_all.sort_by(|a, b| a.tenant.cmp(&b.tenant));
    assert_eq!(of_all.iter().map(|depth| depth.queued).collect::<Vec<_>>(), [2, CROWD]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_row_that_asks_for_something_is_found_without_those_after_it() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let outlook = async |c: &mut Connection| overdue::outlook(c).await.unwrap();
    planned(c, outlook).await;
    let queue_deadline = Some(Utc::now() + TimeDelta::hours(2));
    crowd(c, "t", || NewExecution { queue_deadline, ..scheduled() }).await;
    assert!(cheaply(c, outlook).await.next_at < queue_deadline);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_what_is_new_does_not_go_through_what_is_old() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let now = Utc::now();
    let after = |time| query::Filter { created_after: Some(time), limit: 10, ..Default::default() };
    let recent = after(now - TimeDelta::minutes(1));
    let listed = async |c: &mut Connection| query::list(c, "t", &recent).await.unwrap();
    planned(c, listed).await;
    crowd(c, "t", || made_at(now - TimeDelta::hours(3))).await;
    let new = submitted(c, execution()).await;
    // Its input took half an hour to arrive.
    let slow = submitted(c, NewExecution { created_at: now, ..made_at(now - TimeDelta::minutes(30)) }).await;
    submitted(c, made_at(now - TimeDelta::minutes(2))).await;
    assert_eq!(cheaply(c, listed).await.iter().map(|e| e.id).collect::<Vec<_>>(), [new, slow]);
    for (time, found) in [(DateTime::UNIX_EPOCH, 10), (DateTime::<Utc>::MAX_UTC - TimeDelta::days(366 * 2_000), 0)] {
        assert_eq!(query::list(c, "t", &after(time)).await.unwrap().len(), found, "{time}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn launches_that_are_due_cost_a_look_at_each_and_no_more() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let left = async |c: &mut Connection| launch::abandoned(c, 10).await.unwrap().len();
    planned(c, left).await;
    sql(
        c,
        "INSERT INTO executions (tenant, id, state, attempt, priority, max_attempts, enqueued, input_bytes, timeout_seconds)
         SELECT 't', gen_random_uuid(), 'launching', 1, 1, 1, false, 0, 60 FROM generate_series(1, 500);
         INSERT INTO attempts (execution_id, attempt, tenant, worker, launch_lease_expires_at, start_deadline)
         SELECT id, 1, 't', 'worker-1', now() - interval '1 minute', now() + interval '1 hour' FROM executions WHERE state = 'launching'",
    )
    .await;
    let before = rows_read(c).await;
    assert_eq!(left(c).await, 10);
    let read = rows_read(c).await - before;
    assert!(read < 3 * CROWD, "{read} rows were looked at");
}
