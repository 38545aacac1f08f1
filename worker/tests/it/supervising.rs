//! What must happen without anybody's asking for it.

use crate::fixture::*;
use chrono::{TimeDelta, Utc};
use roadstead_backend::dispatch::{Group, Share, Stream, WINDOW};
use roadstead_backend::secrets;
use roadstead_backend::store::claim::{self, Claim, Wanted};
use roadstead_backend::store::overdue;
use roadstead_backend::store::query;
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::submit::{NewExecution, Submission, submit};
use roadstead_backend::telemetry::install_metrics;
use roadstead_domain::attempt::protocol::Status;
use roadstead_domain::execution::{Priority, Reason, State};
use roadstead_worker::launch::{End, Launcher};
use roadstead_worker::worker::Settings;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn what_becomes_due_is_launched() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    let later = NewExecution { run_at: Some(Utc::now() + TimeDelta::milliseconds(300)), ..execution() };
    world.submit(vec![later]).await;
    patient(async || world.dispatch().ring_supervisor().await).await;
    let orders = running.launcher.launched(1).await;
    assert_eq!(orders[0].attempt.attempt, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_too_long_for_a_berth_ends() {
    let world = World::new().await;
    let running = world.start("one", settings(0));
    let impatient = NewExecution { queue_deadline: Some(Utc::now() + TimeDelta::milliseconds(300)), ..execution() };
    let id = world.submit(vec![impatient]).await[0];
    patient(async || world.dispatch().ring_supervisor().await).await;
    let execution = world.wait_for_state(id, State::TimedOut).await;
    assert_eq!(execution.reason.unwrap().code, "queue_timeout");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_wait_in_postgresql_fill_the_window_and_no_more() {
    let world = World::new().await;
    let waiting = (0..WINDOW + 50).map(|_| NewExecution { enqueued: false, ..execution() }).collect();
    world.submit(waiting).await;
    let running = world.start("one", settings(0));
    let dispatch = world.dispatch();
    let filled = async {
        while patient(async || dispatch.depth(&stream()).await).await < WINDOW {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), filled).await.expect("the window fills");
    let share = Share { weight: 1, max_concurrent: None };
    let late = [Group { stream: stream(), share, ids: vec![execution().id] }];
    let accepted = patient(async || dispatch.enqueue(&late).await).await;
    assert_eq!(accepted, [0], "who comes later waits behind them");
    assert_eq!(patient(async || dispatch.depth(&stream()).await).await, WINDOW);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_never_appended_is_found() {
    let world = World::new().await;
    // Its API died between the commit and the append.
    let forgotten = NewExecution { created_at: Utc::now() - TimeDelta::seconds(10), ..execution() };
    let id = forgotten.id;
    let submission = Submission { tenant: "t".to_owned(), idempotency: None, executions: vec![forgotten] };
    submit(&mut *world.connection().await, &[submission], &Repeats::default()).await.unwrap();
    let running = world.start("one", settings(4));
    assert_eq!(running.launcher.launched(1).await[0].attempt.execution_id, id);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_never_appended_is_found_behind_a_thousand_streams_that_are_in_order() {
    const PRIORITIES: [Priority; 3] = [Priority::High, Priority::Normal, Priority::Low];
    let world = World::new().await;
    let created_at = Utc::now() - TimeDelta::seconds(10);
    world.sql("INSERT INTO tenants (name) SELECT 'a' || n FROM generate_series(1001, 1334) AS n").await;
    let submissions: Vec<_> = (1001..=1334)
        .map(|n| Submission {
            tenant: format!("a{n}"),
            idempotency: None,
            executions: PRIORITIES.map(|priority| NewExecution { priority, created_at, ..execution() }).into(),
        })
        .collect();
    submit(&mut *world.connection().await, &submissions, &Repeats::default()).await.unwrap();
    let share = Share { weight: 1, max_concurrent: None };
    let mut groups: Vec<_> = submissions
        .iter()
        .flat_map(|submission| submission.executions.iter().map(|e| (submission.tenant.clone(), e.priority, e.id)))
        .map(|(tenant, priority, id)| Group { stream: Stream { tenant, priority }, share, ids: vec![id] })
        .collect();
    let forgotten = groups.pop().unwrap().stream;
    let dispatch = world.dispatch();
    patient(async || dispatch.enqueue(&groups).await).await;
    let running = world.start("one", Settings { reconcile_interval: Duration::from_secs(1), ..settings(0) });
    let found = async {
        while patient(async || dispatch.depth(&forgotten).await).await == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("it is appended");
    let first = patient(async || dispatch.depth(&groups[0].stream).await).await;
    assert_eq!(first, 1, "the others were left alone");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_lost_is_tried_again() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    let id = world.submit(vec![execution()]).await[0];
    let order = running.launcher.launched(1).await.remove(0);
    world.start_attempt(&order).await;
    running.launcher.end(order.attempt, End::Lost(Reason::new("executor_lost", "killed")));
    assert_eq!(running.launcher.launched(2).await[1].attempt.attempt, 2);
    let attempts = roadstead_backend::store::query::attempts(&mut *world.connection().await, "t", id).await.unwrap();
    assert_eq!(attempts[0].reason_code.as_deref(), Some("executor_lost"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_a_later_look_does_not_find_was_lost_unseen() {
    let world = World::new().await;
    let often = Settings { reconcile_interval: Duration::from_millis(100), ..settings(1) };
    let running = world.start_in_a_cluster("one", often);
    let (ids, launcher) = (world.submit(vec![execution(), execution()]).await, &running.launcher);
    let first = launcher.launched(1).await.remove(0).attempt;
    while overdue::berthed(&mut *world.connection().await).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    launcher.vanish(first);
    // Each a later one, until the supervisor has seen two.
    let looking = async {
        loop {
            *launcher.looked_at.lock().unwrap() = Some(tokio::time::Instant::now());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let second = tokio::select! {
        () = looking => unreachable!(),
        orders = launcher.launched(2) => orders[1].attempt,
    };
    assert_eq!((first.execution_id, second.execution_id), (ids[0], ids[1]), "the berth is free");
    let lost = world.wait_for_state(ids[0], State::Scheduled).await;
    assert_eq!(lost.reason.unwrap().code, "job_deleted");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_berth_of_a_missed_start_stays_taken_while_nobody_sees_whether_its_job_lives() {
    let world = World::new().await;
    let running = world.start_in_a_cluster("one", settings(1));
    let (ids, launcher) = (world.submit(vec![execution()]).await, &running.launcher);
    // It has looked, but before there was anything.
    *launcher.looked_at.lock().unwrap() = Some(tokio::time::Instant::now());
    let attempt = launcher.launched(1).await.remove(0).attempt;
    launcher.is_blind.store(true, Ordering::SeqCst);
    launcher.vanish(attempt);
    world.sql("UPDATE attempts SET start_deadline = now() - interval '1 second'").await;
    let missed = world.wait_for_state(ids[0], State::Scheduled).await;
    assert_eq!(missed.reason.unwrap().code, "start_timeout");
    assert_eq!(claim::berths(&mut *world.connection().await).await.unwrap().live, 1);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_reported_to_the_object_store_alone_has_ended_as_it_says() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    let id = world.submit(vec![execution()]).await[0];
    let order = running.launcher.launched(1).await.remove(0);
    world.start_attempt(&order).await;
    *world.outcome.lock().unwrap() = Some(serde_json::to_string(&finished(Status::Succeeded)).unwrap());
    // The executor says that its end is known, and the API knows nothing of it.
    running.launcher.end(order.attempt, End::Reported);
    world.wait_for_state(id, State::Succeeded).await;
    assert_eq!(claim::berths(&mut *world.connection().await).await.unwrap().live, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_lease_ran_out_is_ended_by_its_own_worker() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    let id = world.submit(vec![execution()]).await[0];
    let order = running.launcher.launched(1).await.remove(0);
    world.start_attempt(&order).await;
    world.sql("UPDATE attempts SET lease_expires_at = now() - interval '1 second'").await;
    assert_eq!(running.launcher.launched(2).await[1].attempt.attempt, 2);
    let attempts = roadstead_backend::store::query::attempts(&mut *world.connection().await, "t", id).await.unwrap();
    assert_eq!(attempts[0].reason_code.as_deref(), Some("lease_expired"));
    assert!(!running.launcher.holds(order.attempt));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_was_settled_without_its_worker_is_ended_there_too() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    world.submit(vec![execution()]).await;
    let order = running.launcher.launched(1).await.remove(0);
    world.start_attempt(&order).await;
    world.report(order.attempt).await;
    world.sql("UPDATE attempts SET released_at = now()").await;
    let ended = async {
        while running.launcher.holds(order.attempt) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("it is stopped");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_attempt_of_a_dead_worker_is_settled() {
    let world = World::new().await;
    let dead = world.start("dead", settings(4));
    let id = world.submit(vec![execution()]).await[0];
    let order = dead.launcher.launched(1).await.remove(0);
    world.start_attempt(&order).await;
    dead.kill().await;
    world.sql("UPDATE attempts SET lease_expires_at = now() - interval '1 second'; UPDATE leases SET expires_at = now() - interval '1 second'").await;
    let running = world.start("alive", settings(4));
    let next = running.launcher.launched(1).await.remove(0);
    assert_eq!((next.attempt.execution_id, next.attempt.attempt), (id, 2));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_its_worker_did_not_get_done_is_done_by_another() {
    let world = World::new().await;
    let id = world.submit(vec![execution()]).await[0];
    let wanted = [Wanted { tenant: "t".to_owned(), id, launch_hash: Some(secrets::hash("lost")) }];
    let claims = claim::claim(&mut *world.connection().await, &wanted, "dead", 4, settings(4).launch).await.unwrap();
    assert!(matches!(claims[&id], Claim::Claimed { attempt: 1, .. }));
    world.sql("UPDATE attempts SET launch_lease_expires_at = now() - interval '1 second'").await;
    let running = world.start("alive", settings(4));
    let order = running.launcher.launched(1).await.remove(0);
    assert_eq!((order.attempt.execution_id, order.attempt.attempt), (id, 1), "the same attempt");
    world.start_attempt(&order).await;
    world.report(order.attempt).await;
    running.launcher.end(order.attempt, End::Reported);
    world.wait_for_state(id, State::Succeeded).await;
    running.stop().await;
}

fn quota_is_full() -> Reason {
    Reason::new(Reason::QUOTA_EXCEEDED, "jobs.batch is forbidden: exceeded quota")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_was_put_off_is_tried_again_as_the_same_attempt() {
    let world = World::new().await;
    let running = world.start("one", settings(1));
    *running.launcher.putting_off.lock().unwrap() = Some(quota_is_full());
    let ids = world.submit(vec![execution(), execution()]).await;
    let first = running.launcher.launched(1).await[0].attempt;
    *running.launcher.putting_off.lock().unwrap() = None;
    world.sql("UPDATE attempts SET launch_lease_expires_at = now() - interval '1 second'").await;
    let again = running.launcher.launched(2).await.remove(1);
    assert_eq!((again.attempt, again.attempt.attempt, again.is_taken_over), (first, 1, true), "it kept its berth");
    assert!(ids.contains(&first.execution_id));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_is_put_off_until_its_start_deadline_fails_for_the_reason_why() {
    let world = World::new().await;
    let running = world.start("one", settings(1));
    *running.launcher.putting_off.lock().unwrap() = Some(quota_is_full());
    let id = world.submit(vec![NewExecution { max_attempts: 1, ..execution() }]).await[0];
    running.launcher.launched(1).await;
    assert_eq!(query::get(&mut *world.connection().await, "t", id).await.unwrap().unwrap().state, State::Launching);
    world.sql("UPDATE attempts SET start_deadline = now() - interval '1 second'").await;
    let execution = world.wait_for_state(id, State::Failed).await;
    assert_eq!(execution.reason, Some(quota_is_full()));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_is_put_off_again_and_again_is_one_failure() {
    let metrics = install_metrics();
    let world = World::new().await;
    let running = world.start("one", settings(1));
    // No other test's launches fail for this.
    *running.launcher.putting_off.lock().unwrap() = Some(Reason::new(Reason::RUNTIME_CLASS_MISSING, "not now"));
    let id = world.submit(vec![NewExecution { max_attempts: 1, ..execution() }]).await[0];
    for tries in 1..=3 {
        running.launcher.launched(tries).await;
        world.sql("UPDATE attempts SET launch_lease_expires_at = now() - interval '1 second'").await;
    }
    running.launcher.launched(4).await;
    world.sql("UPDATE attempts SET start_deadline = now() - interval '1 second'").await;
    world.wait_for_state(id, State::Failed).await;
    let counted = || {
        let text = metrics.render();
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix("roadstead_launch_failures_total{reason=\"runtime_class_missing\"} "));
        found.map(ToOwned::to_owned)
    };
    let told = async {
        while counted().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.expect("it is counted");
    assert_eq!(counted().unwrap(), "1");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_start_in_time_ends_the_process_and_counts_as_a_failed_start() {
    let world = World::new().await;
    let running = world.start("one", settings(4));
    let id = world.submit(vec![NewExecution { max_attempts: 1, ..execution() }]).await[0];
    running.launcher.launched(1).await;
    world.sql("UPDATE attempts SET start_deadline = now() - interval '1 second'").await;
    let execution = world.wait_for_state(id, State::Failed).await;
    assert_eq!(execution.reason.unwrap().code, "start_timeout");
    assert!(running.launcher.held().is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_elses_queue_holds_back_is_not_ended_by_who_launched_it() {
    let world = World::new().await;
    let running = world.start("alive", settings(4));
    let once = || NewExecution { max_attempts: 1, ..execution() };
    let ids = world.submit(vec![once(), once()]).await;
    let orders = running.launcher.launched(2).await;
    let other = orders.iter().find(|order| order.attempt.execution_id == ids[1]).unwrap();
    world.start_attempt(other).await;
    *running.launcher.begun.lock().unwrap() = Some(Duration::ZERO);
    world
        .sql(
            "UPDATE attempts SET start_deadline = now() - interval '1 second', run_deadline = now() - interval '1 hour'",
        )
        .await;
    world.wait_for_state(ids[1], State::TimedOut).await;
    world.wait_for_state(ids[0], State::Launching).await;
    assert_eq!(running.launcher.held().len(), 1, "who looked at the other looked at this");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_elses_queue_holds_back_is_late_only_after_its_own_time() {
    let world = World::new().await;
    let dead = world.start("dead", settings(4));
    let id = world.submit(vec![NewExecution { max_attempts: 1, ..execution() }]).await[0];
    dead.launcher.launched(1).await;
    dead.kill().await;
    world
        .sql("UPDATE attempts SET launched_at = now(); UPDATE leases SET expires_at = now() - interval '1 second'")
        .await;
    let running = world.start("alive", settings(4));
    *running.launcher.begun.lock().unwrap() = Some(Duration::ZERO);
    const LATE: &str = "UPDATE attempts SET start_deadline = now() - interval '1 second'";
    world.sql(LATE).await;
    roadstead_testkit::wait_for("its deadline to be put off", Duration::from_secs(30), async || {
        let late = overdue::overdue(&mut *world.connection().await, &[], 1).await.map_err(|error| error.to_string())?;
        if late.is_empty() { Ok(()) } else { Err(format!("{late:?}")) }
    })
    .await;
    world.wait_for_state(id, State::Launching).await;
    *running.launcher.begun.lock().unwrap() = Some(settings(4).launch.start_timeout);
    world.sql(LATE).await;
    let execution = world.wait_for_state(id, State::Failed).await;
    assert_eq!(execution.reason.unwrap().code, "start_timeout");
    running.stop().await;
}
