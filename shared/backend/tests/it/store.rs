//! The store against a real PostgreSQL: each transition, and each way it can be late, doubled or overtaken.

use crate::fixture::*;
use chrono::Utc;
use roadstead_backend::secrets;
use roadstead_backend::store::cancel::{Cancel, cancel};
use roadstead_backend::store::claim::{self, Claim};
use roadstead_backend::store::finish::{Finished, Report};
use roadstead_backend::store::follow::{self, AttemptLog};
use roadstead_backend::store::heartbeat::{Beat, heartbeat};
use roadstead_backend::store::overdue::{self, Overdue};
use roadstead_backend::store::repeats::Repeats;
use roadstead_backend::store::settle::{Observer, Witness, settle_one};
use roadstead_backend::store::start::{self, Start};
use roadstead_backend::store::submit::{IdempotencyKey, NewExecution, Submission, Submitted, look_up, submit};
use roadstead_backend::store::{
    Connection, finish as finishing, keys, launch, lease, promote, query, relay, retain, tenants, workflows,
};
use roadstead_domain::attempt::protocol::{Artifact, ResultReport, Segment, Status};
use roadstead_domain::execution::{Priority, Reason, State};
use roadstead_domain::ids::{AttemptId, ExecutionId};
use roadstead_domain::workflow::validate::MAX_STEPS;
use std::time::Duration;

fn reason() -> Reason {
    Reason::new("executor_lost", "gone")
}

async fn beat(connection: &mut Connection, attempt: AttemptId, session: &str) -> Option<(bool, bool)> {
    let beat = Beat { attempt, session_hash: secrets::hash(session), steps: None, segments: Vec::new() };
    heartbeat(connection, &[beat], LEASE).await.unwrap()[0].map(|reply| (reply.cancel, reply.following))
}

async fn kinds(connection: &mut Connection, id: ExecutionId) -> Vec<String> {
    query::events(connection, "t", id).await.unwrap().into_iter().map(|event| event.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_limits_are_set_kept_and_removed_one_by_one() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let mut set = async |change| {
        let tenant = tenants::set(c, "t", change).await.unwrap();
        (tenant.weight, tenant.max_concurrent, tenant.max_queued)
    };
    let kept = tenants::Change::default();
    assert_eq!(
        set(tenants::Change { weight: Some(3), max_concurrent: Some(Some(0)), ..kept }).await,
        (3, Some(0), None)
    );
    assert_eq!(set(tenants::Change { max_queued: Some(Some(9)), ..kept }).await, (3, Some(0), Some(9)));
    assert_eq!(set(tenants::Change { max_concurrent: Some(None), ..kept }).await, (3, None, Some(9)));
    assert_eq!(set(kept).await, (3, None, Some(9)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_execution_goes_all_the_way_and_its_timeline_says_so() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    launch::launched(c, "worker-1", &[attempt]).await.unwrap();
    let Start::Granted(granted) = ask_start(c, attempt, CREDENTIAL, SESSION).await else { panic!() };
    assert_eq!(granted.input.as_deref(), Some("{\"a\": 1.50}"), "the bytes that were submitted");
    let mut finish = finish(Status::Succeeded);
    finish.result = Some(ResultReport {
        size_bytes: 7,
        inline: Some(serde_json::value::RawValue::from_string("[1, 2 ]".into()).unwrap()),
    });
    finish.segments = vec![Segment { seq: 0, size_bytes: 10, lines: 1 }];
    let reports = [Report { attempt, session_hash: secrets::hash(SESSION), finish }];
    assert!(matches!(
        finishing::finish(c, &reports).await.unwrap()[0],
        Finished::Settled { state: State::Succeeded, .. }
    ));
    let row = query::get(c, "t", id).await.unwrap().unwrap();
    assert_eq!((row.state, row.attempt, row.result.as_deref()), (State::Succeeded, 1, Some("[1, 2 ]")));
    assert_eq!(kinds(c, id).await, ["submitted", "claimed", "launched", "started", "succeeded"]);
    assert_eq!(query::log_segments(c, "t", id, 1, 0).await.unwrap().len(), 1);
    assert_eq!(query::attempts(c, "t", id).await.unwrap()[0].state, "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_tenant_sees_nothing() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let AttemptId { execution_id: id, .. } = running(c).await;
    assert!(query::get(c, "u", id).await.unwrap().is_none());
    assert!(query::attempts(c, "u", id).await.unwrap().is_empty());
    assert!(query::events(c, "u", id).await.unwrap().is_empty());
    assert!(query::definition(c, "u", id).await.unwrap().is_none());
    assert!(query::list(c, "u", &query::Filter { limit: 10, ..Default::default() }).await.unwrap().is_empty());
    assert!(matches!(cancel(c, "u", id).await.unwrap(), Cancel::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cap_holds_however_many_claim_at_once() {
    let database = database().await;
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(submitted(&mut database.get().await.unwrap(), execution()).await);
    }
    let claims = ids.chunks(5).map(|chunk| {
        let (database, chunk) = (database.clone(), chunk.to_vec());
        tokio::spawn(async move { try_claim(&mut database.get().await.unwrap(), &chunk, 7).await })
    });
    let mut claimed = 0;
    for task in claims.collect::<Vec<_>>() {
        claimed += task.await.unwrap().iter().filter(|claim| matches!(claim, Claim::Claimed { .. })).count();
    }
    assert_eq!(claimed, 7);
    assert_eq!(claim::berths(&mut database.get().await.unwrap()).await.unwrap().live, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_own_limit_holds_below_the_cap() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let change = tenants::Change { max_concurrent: Some(Some(2)), ..tenants::Change::default() };
    tenants::set(c, "t", change).await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(submitted(c, execution()).await);
    }
    let answers = try_claim(c, &ids, 100).await;
    assert_eq!(answers.iter().filter(|a| matches!(a, Claim::TenantFull)).count(), 2, "{answers:?}");
    assert!(matches!(answers[0], Claim::Claimed { attempt: 1, .. }), "in the order given");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_berth_is_held_until_the_process_is_seen_to_end() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    let waiting = submitted(c, execution()).await;
    report(c, attempt, SESSION, Status::Succeeded).await;
    assert_eq!(try_claim(c, &[waiting], 1).await, [Claim::NoBerth]);
    claim::release(c, &by("worker-1"), &[attempt]).await.unwrap();
    assert!(matches!(try_claim(c, &[waiting], 1).await[..], [Claim::Claimed { .. }]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_berth_whose_launcher_died_is_given_back_after_a_grace() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let (done, live) = (running(c).await, running(c).await);
    report(c, done, SESSION, Status::Succeeded).await;
    assert_eq!(overdue::release_forgotten(c, Duration::from_secs(2)).await.unwrap(), 0);
    sql(c, "UPDATE attempts SET finished_at = finished_at - interval '3 seconds'").await;
    let presence = overdue::presence("worker-1");
    assert!(lease::acquire(c, &presence, "worker-1", Duration::from_secs(6)).await.unwrap());
    assert_eq!(
        overdue::release_forgotten(c, Duration::from_secs(2)).await.unwrap(),
        0,
        "its worker is there to see it"
    );
    lease::release(c, &presence, "worker-1").await.unwrap();
    assert_eq!(overdue::release_forgotten(c, Duration::from_secs(2)).await.unwrap(), 1);
    assert_eq!(claim::berths(c).await.unwrap().live, 1, "the live one {live} keeps its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_id_is_claimed_once() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    assert!(matches!(try_claim(c, &[id, id], 10).await[..], [Claim::Claimed { attempt: 1, .. }, _]));
    assert_eq!(try_claim(c, &[id], 10).await, [Claim::NotQueued]);
    assert_eq!(try_claim(c, &[ExecutionId::new()], 10).await, [Claim::NotQueued], "an id that is nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_granted_once_and_again_only_to_the_one_whose_reply_was_lost() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    assert!(matches!(ask_start(c, attempt, "wrong", SESSION).await, Start::NotCurrent));
    assert!(matches!(ask_start(c, attempt, CREDENTIAL, SESSION).await, Start::Granted(_)));
    assert!(matches!(ask_start(c, attempt, CREDENTIAL, SESSION).await, Start::Granted(_)), "the reply was lost");
    assert!(matches!(ask_start(c, attempt, CREDENTIAL, "another").await, Start::NotCurrent), "a second process");
    assert_eq!(kinds(c, id).await.iter().filter(|kind| *kind == "started").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_without_a_credential_is_started_by_the_clusters_word_alone() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let (id, other) = (submitted(c, execution()).await, submitted(c, execution()).await);
    let wanted = [claim::Wanted { tenant: "t".to_owned(), id, launch_hash: None }];
    assert!(matches!(claim::claim(c, &wanted, "worker-1", 10, TIMES).await.unwrap()[&id], Claim::Claimed { .. }));
    let (attempt, with_credential) = (AttemptId { execution_id: id, attempt: 1 }, claimed(c, other).await);
    assert_eq!(start::tenant_of(c, attempt).await.unwrap().as_deref(), Some("t"));
    assert_eq!(start::tenant_of(c, AttemptId { attempt: 2, ..attempt }).await.unwrap(), None);

    let ask = |attempt, launch_hash: Option<Vec<u8>>, session: &str| start::StartClaim {
        attempt,
        launch_hash,
        session_hash: secrets::hash(session),
    };
    let unproven = [Some(secrets::hash(CREDENTIAL)), Some(secrets::hash("")), Some(Vec::new())];
    for launch_hash in unproven {
        let answers = start::start(c, &[ask(attempt, launch_hash, SESSION)], LEASE).await.unwrap();
        assert!(matches!(answers[..], [Start::NotCurrent]));
    }
    // In one batch, what is proven for one attempt proves nothing for another.
    let unproven = ask(attempt, Some(secrets::hash(CREDENTIAL)), "s");
    let answers = start::start(c, &[ask(with_credential, None, "s"), unproven, ask(attempt, None, "s")], LEASE).await;
    assert!(matches!(answers.unwrap()[..], [Start::NotCurrent, Start::NotCurrent, Start::Again]));
    let mut proven = async |session| start::start(c, &[ask(attempt, None, session)], LEASE).await.unwrap().remove(0);
    assert!(matches!(proven(SESSION).await, Start::Granted(_)));
    assert!(matches!(proven(SESSION).await, Start::Granted(_)), "the reply was lost");
    assert!(matches!(proven("another").await, Start::NotCurrent), "the same token in another process");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_of_one_attempt_asking_together_start_one() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    let both = [start_claim(attempt, CREDENTIAL, "one"), start_claim(attempt, CREDENTIAL, "two")];
    let answers = start::start(c, &both, LEASE).await.unwrap();
    assert!(matches!(answers[..], [Start::Granted(_), Start::Again]));
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let database = database.clone();
            tokio::spawn(async move {
                ask_start(&mut database.get().await.unwrap(), attempt, CREDENTIAL, &format!("s{n}")).await
            })
        })
        .collect();
    for task in tasks {
        assert!(matches!(task.await.unwrap(), Start::NotCurrent));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_race_for_one_start_exactly_one_wins() {
    let database = database().await;
    let id = submitted(&mut database.get().await.unwrap(), execution()).await;
    let attempt = claimed(&mut database.get().await.unwrap(), id).await;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let database = database.clone();
            tokio::spawn(async move {
                ask_start(&mut database.get().await.unwrap(), attempt, CREDENTIAL, &format!("s{n}")).await
            })
        })
        .collect();
    let mut granted = 0;
    for task in tasks {
        granted += usize::from(matches!(task.await.unwrap(), Start::Granted(_)));
    }
    assert_eq!(granted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_attempt_can_change_nothing() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let first = running(c).await;
    assert_eq!(
        settle_one(c, first, &Observer::Anyone, Witness::Lost(reason()), true).await.unwrap(),
        Some(State::Scheduled)
    );
    assert_eq!(beat(c, first, SESSION).await, None);
    assert_eq!(report(c, first, SESSION, Status::Succeeded).await, Finished::Before);
    assert_eq!(state(c, first.execution_id).await, "scheduled");
    sql(c, "UPDATE executions SET run_at = now()").await;
    assert_eq!(promote::promote(c, 10).await.unwrap(), 1);
    let second = claimed(c, first.execution_id).await;
    assert_eq!(second.attempt, 2);
    assert!(matches!(ask_start(c, first, CREDENTIAL, SESSION).await, Start::NotCurrent));
    assert!(matches!(ask_start(c, second, CREDENTIAL, "other").await, Start::Granted(_)));
    assert_eq!(report(c, first, SESSION, Status::Succeeded).await, Finished::Before);
    assert_eq!(report(c, second, SESSION, Status::Succeeded).await, Finished::NotCurrent, "the first one's session");
    assert_eq!(settle_one(c, first, &Observer::Anyone, Witness::Lost(reason()), true).await.unwrap(), None);
    assert_eq!(state(c, first.execution_id).await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_whose_reply_was_lost_is_answered_again() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    assert!(matches!(
        report(c, attempt, SESSION, Status::Failed).await,
        Finished::Settled { state: State::Scheduled, .. }
    ));
    assert_eq!(report(c, attempt, SESSION, Status::Failed).await, Finished::Before);
    assert_eq!(report(c, attempt, "another", Status::Succeeded).await, Finished::NotCurrent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_tried_again_until_no_attempt_is_left() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let mut new = execution();
    new.max_attempts = 2;
    let id = submitted(c, new).await;
    for (attempt, after) in [(1, "scheduled"), (2, "failed")] {
        let claimed = claimed(c, id).await;
        assert_eq!(claimed.attempt, attempt);
        ask_start(c, claimed, CREDENTIAL, SESSION).await;
        report(c, claimed, SESSION, Status::Failed).await;
        assert_eq!(state(c, id).await, after);
        sql(c, "UPDATE executions SET run_at = now()").await;
        if promote::promote(c, 10).await.unwrap() > 0 {
            let queued = query::get(c, "t", id).await.unwrap().unwrap();
            assert_eq!(queued.run_at, None, "the backoff is over");
        }
    }
    assert_eq!(query::attempts(c, "t", id).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_is_immediate_while_nothing_is_live() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let Cancel::Done(row) = cancel(c, "t", id).await.unwrap() else { panic!() };
    assert_eq!((row.state, row.cancel_requested), (State::Cancelled, true));
    let Cancel::Noted(row) = cancel(c, "t", id).await.unwrap() else { panic!("it ends once") };
    assert_eq!((row.state, row.cancel_requested), (State::Cancelled, true));
    assert_eq!(try_claim(c, &[id], 10).await, [Claim::NotQueued]);
    assert_eq!(kinds(c, id).await, ["submitted", "cancelled"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_one_hears_of_the_cancel_and_is_not_tried_again() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    assert_eq!(beat(c, attempt, SESSION).await, Some((false, false)));
    for _ in 0..2 {
        let Cancel::Noted(row) = cancel(c, "t", attempt.execution_id).await.unwrap() else { panic!() };
        assert_eq!((row.state, row.cancel_requested), (State::Running, true));
    }
    assert_eq!(beat(c, attempt, SESSION).await, Some((true, false)));
    report(c, attempt, SESSION, Status::Cancelled).await;
    assert_eq!(state(c, attempt.execution_id).await, "cancelled");
    assert!(matches!(cancel(c, "t", attempt.execution_id).await.unwrap(), Cancel::Noted(_)), "the same answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_before_the_start_refuses_the_start() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    assert!(matches!(cancel(c, "t", id).await.unwrap(), Cancel::Noted(_)));
    assert!(matches!(ask_start(c, attempt, CREDENTIAL, SESSION).await, Start::NotCurrent));
    assert_eq!(
        settle_one(c, attempt, &Observer::Anyone, Witness::Lost(reason()), true).await.unwrap(),
        Some(State::Cancelled)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_in_another_way_can_not_be_cancelled() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    report(c, attempt, SESSION, Status::Succeeded).await;
    assert!(matches!(cancel(c, "t", attempt.execution_id).await.unwrap(), Cancel::Ended(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_refuses_to_leave_a_terminal_state() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    cancel(c, "t", id).await.unwrap();
    let refused = diesel_async::SimpleAsyncConnection::batch_execute(
        &mut **c,
        "UPDATE executions SET state = 'queued' WHERE state = 'cancelled'",
    )
    .await;
    assert!(refused.unwrap_err().to_string().contains("a terminal state is never left"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_are_found_and_settle_by_kind() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let unstarted = claimed(c, id).await;
    let silent = running(c).await;
    let fresh = running(c).await;
    sql(c, &format!("UPDATE attempts SET start_deadline = now() - interval '1 second', lease_expires_at = now() - interval '1 second' WHERE execution_id <> '{}'", fresh.execution_id)).await;
    let mut found: Vec<_> =
        overdue::overdue(c, &[], 10).await.unwrap().into_iter().map(|late| (late.attempt, late.why)).collect();
    found.sort_by_key(|(id, _)| *id != unstarted);
    assert_eq!(found, [(unstarted, Overdue::Start), (silent, Overdue::Lease)]);
    let failed = Witness::StartFailed { reason: Reason::new("start_timeout", "…"), retryable: true };
    assert_eq!(settle_one(c, unstarted, &Observer::Anyone, failed, true).await.unwrap(), Some(State::Scheduled));
    assert_eq!(
        settle_one(c, silent, &Observer::Anyone, Witness::Lost(reason()), true).await.unwrap(),
        Some(State::Scheduled)
    );
    assert_eq!(claim::berths(c).await.unwrap().live, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_renews_the_lease_and_keeps_reports() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    sql(c, "UPDATE attempts SET lease_expires_at = now() + interval '10 seconds'").await;
    let full = Beat {
        attempt,
        session_hash: secrets::hash(SESSION),
        steps: Some(r#"[{"id":"a"}]"#.into()),
        segments: vec![Segment { seq: 0, size_bytes: 5, lines: 1 }],
    };
    for _ in 0..2 {
        assert!(
            heartbeat(c, std::slice::from_ref(&full), LEASE).await.unwrap()[0].is_some(),
            "also when the reply was lost"
        );
    }
    assert_eq!(overdue::overdue(c, &[], 10).await.unwrap().len(), 0);
    assert_eq!(query::log_segments(c, "t", attempt.execution_id, 1, 0).await.unwrap().len(), 1);
    assert_eq!(
        query::attempts(c, "t", attempt.execution_id).await.unwrap()[0].steps.as_deref(),
        Some(r#"[{"id":"a"}]"#)
    );
    assert_eq!(beat(c, attempt, "another").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_steps_new_report_takes_the_place_of_its_old_one() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    for steps in [r#"[{"id":"a","n":1},{"id":"b","n":1}]"#, r#"[{"id":"c","n":2},{"id":"a","n":2}]"#] {
        let beat =
            Beat { attempt, session_hash: secrets::hash(SESSION), steps: Some(steps.into()), segments: Vec::new() };
        assert!(heartbeat(c, &[beat], LEASE).await.unwrap()[0].is_some());
    }
    let steps = query::attempts(c, "t", attempt.execution_id).await.unwrap().remove(0).steps.unwrap();
    let expected = serde_json::json!([{"id": "a", "n": 2}, {"id": "b", "n": 1}, {"id": "c", "n": 2}]);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&steps).unwrap(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_steps_are_kept_than_a_workflow_may_have() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    for beat in 0..3 {
        let steps: Vec<_> = (0..MAX_STEPS * 2 / 3).map(|n| serde_json::json!({"id": format!("{beat}-{n}")})).collect();
        let steps = Some(serde_json::to_string(&steps).unwrap());
        let beat = Beat { attempt, session_hash: secrets::hash(SESSION), steps, segments: Vec::new() };
        assert!(heartbeat(c, &[beat], LEASE).await.unwrap()[0].is_some());
    }
    let steps = query::attempts(c, "t", attempt.execution_id).await.unwrap().remove(0).steps.unwrap();
    let steps: Vec<serde_json::Value> = serde_json::from_str(&steps).unwrap();
    assert_eq!((steps.len(), &steps[0]["id"]), (MAX_STEPS, &"0-0".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_answered_heartbeat_the_lease_lasts_as_long_as_the_executor_counts_on() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    for left in [89, 61, 31, 1] {
        sql(c, &format!("UPDATE attempts SET lease_expires_at = now() + interval '{left} seconds'")).await;
        assert!(beat(c, attempt, SESSION).await.is_some());
        let promised =
            "DO $$ BEGIN ASSERT (SELECT lease_expires_at >= now() + interval '89.5 seconds' FROM attempts); END $$";
        sql(c, promised).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_lasts_as_long_as_its_start_said_whatever_the_setting_is_now() {
    const LOWERED: Duration = Duration::from_secs(20);
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    let repeated = start::start(c, &[start_claim(attempt, CREDENTIAL, SESSION)], LOWERED).await.unwrap().remove(0);
    assert!(matches!(repeated, Start::Granted(granted) if granted.lease_seconds == 90));
    for steps in [Some("[]".to_owned()), None] {
        sql(c, "UPDATE attempts SET lease_expires_at = now() + interval '1 second'").await;
        let beat = Beat { attempt, session_hash: secrets::hash(SESSION), steps, segments: Vec::new() };
        assert!(heartbeat(c, &[beat], LOWERED).await.unwrap()[0].is_some());
        let promised =
            "DO $$ BEGIN ASSERT (SELECT lease_expires_at >= now() + interval '89.5 seconds' FROM attempts); END $$";
        sql(c, promised).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ran_out_is_not_renewed() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    sql(c, "UPDATE attempts SET lease_expires_at = now() - interval '1 millisecond'").await;
    assert_eq!(beat(c, attempt, SESSION).await, None);
    assert_eq!(overdue::overdue(c, &[], 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waited_while_its_launch_was_taken_over_is_refused() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    // Somebody holds the execution's row, so that the start has read everything and waits for its write.
    let mut holder = database.get().await.unwrap();
    sql(&mut holder, &format!("BEGIN; SELECT 1 FROM executions WHERE id = '{id}' FOR UPDATE")).await;
    let starting = tokio::spawn({
        let database = database.clone();
        async move { ask_start(&mut database.get().await.unwrap(), attempt, CREDENTIAL, SESSION).await }
    });
    let waiting = "DO $$ BEGIN WHILE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock') LOOP PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot(); END LOOP; END $$";
    sql(c, waiting).await;
    sql(c, "SET lock_timeout = '300ms'").await;
    sql(&mut holder, "SELECT 1").await;
    let expired = diesel_async::SimpleAsyncConnection::batch_execute(
        &mut **c,
        "UPDATE attempts SET launch_lease_expires_at = now() - interval '1 second'",
    )
    .await;
    let taken_over = match expired {
        Ok(()) => launch::take_over(c, "worker-2", attempt, Some(secrets::hash("new")), TIMES).await.unwrap(),
        // The start has the attempt locked: who takes over waits for it.
        Err(_) => false,
    };
    sql(&mut holder, "COMMIT").await;
    let granted = matches!(starting.await.unwrap(), Start::Granted(_));
    assert!(granted != taken_over, "granted: {granted}, taken over: {taken_over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_held_back_is_late_only_after_its_own_time() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    let late = async |c: &mut Connection| overdue::overdue(c, &[], 10).await.unwrap().len();
    let timeout = Duration::from_secs(60);
    let put_off = async |c: &mut Connection, begun| {
        overdue::put_off_start(c, "t", attempt, Duration::from_secs(begun), timeout).await.unwrap()
    };
    sql(c, "UPDATE attempts SET start_deadline = now() - interval '1 second'").await;
    assert!(put_off(c, 59).await);
    assert_eq!(late(c).await, 0);
    assert!(put_off(c, 61).await);
    assert_eq!(late(c).await, 1);
    sql(c, "UPDATE executions SET cancel_requested_at = now()").await;
    assert!(!put_off(c, 0).await, "it is to be cancelled");
    sql(c, "UPDATE executions SET cancel_requested_at = NULL").await;
    assert!(put_off(c, 0).await);
    assert!(matches!(ask_start(c, attempt, CREDENTIAL, SESSION).await, Start::Granted(_)));
    assert!(!put_off(c, 0).await, "it has started");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_granted_while_it_was_read_as_late_stands() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    sql(c, "UPDATE attempts SET start_deadline = now() - interval '1 second'").await;
    assert_eq!(overdue::overdue(c, &[], 10).await.unwrap()[0].why, Overdue::Start);
    assert!(matches!(ask_start(c, attempt, CREDENTIAL, SESSION).await, Start::Granted(_)));
    let late = Witness::StartFailed { reason: Reason::new("start_timeout", "…"), retryable: true };
    assert_eq!(settle_one(c, attempt, &Observer::Anyone, late, true).await.unwrap(), None);
    assert_eq!(state(c, id).await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_launch_is_taken_over_by_one_and_the_old_credential_is_void() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    let new = || Some(secrets::hash("new"));
    assert!(launch::abandoned(c, 10).await.unwrap().is_empty());
    assert!(!launch::take_over(c, "worker-2", attempt, new(), TIMES).await.unwrap(), "its worker still has it");
    sql(c, "UPDATE attempts SET launch_lease_expires_at = now() - interval '1 second'").await;
    assert_eq!(launch::abandoned(c, 10).await.unwrap()[0].attempt, attempt);
    assert!(launch::take_over(c, "worker-2", attempt, new(), TIMES).await.unwrap());
    assert!(!launch::take_over(c, "worker-3", attempt, new(), TIMES).await.unwrap());
    assert!(matches!(ask_start(c, attempt, CREDENTIAL, SESSION).await, Start::NotCurrent), "the first process is late");
    assert!(matches!(ask_start(c, attempt, "new", SESSION).await, Start::Granted(_)));
    launch::launched(c, "worker-1", &[attempt]).await.unwrap();
    assert_eq!(kinds(c, id).await.iter().filter(|k| *k == "launched").count(), 0, "worker-1 no longer speaks for it");
    let late = Observer::Launcher { worker: "worker-1".into() };
    assert_eq!(
        settle_one(c, attempt, &late, Witness::Lost(reason()), true).await.unwrap(),
        None,
        "its own process ended"
    );
    claim::release(c, &by("worker-1"), &[attempt]).await.unwrap();
    assert_eq!((state(c, id).await.as_str(), claim::berths(c).await.unwrap().live), ("running", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_answers_the_same_and_refuses_another_body() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let request = |fingerprint: u8, tenant: &str| Submission {
        idempotency: Some(IdempotencyKey { key: "k".into(), fingerprint: vec![fingerprint; 32] }),
        ..of(tenant, vec![execution(), execution()])
    };
    let (first, repeats) = (request(1, "t"), Repeats::default());
    assert!(matches!(submit(c, std::slice::from_ref(&first), &repeats).await.unwrap()[..], [Submitted::Recorded]));
    let batch = [request(1, "t"), request(2, "t"), request(1, "u")];
    let answers = submit(c, &batch, &repeats).await.unwrap();
    let [Submitted::Repeated(again), Submitted::KeyReused, Submitted::Recorded] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(
        again.iter().map(|e| e.id).collect::<Vec<_>>(),
        first.executions.iter().map(|e| e.id).collect::<Vec<_>>()
    );
    assert_eq!(query::list(c, "t", &query::Filter { limit: 10, ..Default::default() }).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_with_and_without_a_key_share_a_commit_and_keep_their_columns() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let key = |name: &str| Some(IdempotencyKey { key: name.into(), fingerprint: vec![1; 32] });
    let labelled = || NewExecution { labels: Some(serde_json::json!({"a": "b"})), ..execution() };
    let batch = [
        of("t", vec![execution()]),
        Submission { idempotency: key("z"), ..of("t", vec![labelled(), execution()]) },
        Submission { idempotency: key("a"), ..of("t", vec![labelled()]) },
        Submission { idempotency: key("z"), ..of("t", vec![execution()]) },
    ];
    let answers = submit(c, &batch, &Repeats::default()).await.unwrap();
    assert!(
        matches!(
            &answers[..],
            [Submitted::Recorded, Submitted::Recorded, Submitted::Recorded, Submitted::Repeated(twin)] if twin.len() == 2
        ),
        "{answers:?}"
    );
    for (request, labels) in [(0, vec![false]), (1, vec![true, false]), (2, vec![true])] {
        for (row, labelled) in batch[request].executions.iter().zip(labels) {
            let found = query::get(c, "t", row.id).await.unwrap().unwrap();
            assert_eq!(found.labels.is_some(), labelled, "request {request}");
        }
    }
    assert!(query::get(c, "t", batch[3].executions[0].id).await.unwrap().is_none(), "the twin recorded nothing");
    let known = look_up(c, "t", &key("a").unwrap()).await.unwrap();
    assert!(matches!(known, Some(Submitted::Repeated(found)) if found[0].id == batch[2].executions[0].id));
    assert!(look_up(c, "u", &key("a").unwrap()).await.unwrap().is_none(), "a key is its tenant's own");
    sql(c, &format!("DELETE FROM executions WHERE id = '{}'", batch[1].executions[1].id)).await;
    let answers = submit(c, &batch[1..2], &Repeats::default()).await.unwrap();
    assert!(matches!(answers[..], [Submitted::Forgotten]), "half of an answer is none: {answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_taken_to_be_new_and_are_not_leave_nothing_twice() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let request = |key: &str| Submission {
        idempotency: Some(IdempotencyKey { key: key.into(), fingerprint: vec![1; 32] }),
        ..of("t", vec![execution(), execution()])
    };
    let repeats = Repeats::default();
    let mut rows = 0;
    // All new, which is taken for granted; one of them is not; and from now on each is looked for.
    let wary = Repeats::WARY;
    for (new, others, wary_left) in
        [("b", ["c", "d"], 0), ("a", ["b", "e"], wary), ("f", ["g", "h"], wary - 1), ("i", ["c", "d"], wary)]
    {
        let batch = [of("t", vec![execution()]), request(new), request(others[0]), request(others[1])];
        let answers = submit(c, &batch, &repeats).await.unwrap();
        for (submission, answer) in batch.iter().zip(&answers) {
            let key = submission.idempotency.as_ref().map(|key| key.key.as_str());
            let expected = key.is_none_or(|key| key == new || new == "b" || ["e", "g", "h"].contains(&key));
            assert_eq!(matches!(answer, Submitted::Recorded), expected, "{new} {key:?}: {answer:?}");
            assert!(expected || matches!(answer, Submitted::Repeated(found) if found.len() == 2), "{answer:?}");
            rows += if expected { submission.executions.len() } else { 0 };
            for row in &submission.executions {
                assert_eq!(query::get(c, "t", row.id).await.unwrap().is_some(), expected, "{new} {key:?}");
            }
        }
        assert_eq!(repeats.wary_left(), wary_left, "{new}");
    }
    let filter = query::Filter { limit: 100, ..Default::default() };
    assert_eq!((rows, query::list(c, "t", &filter).await.unwrap().len()), (22, 22));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_many_times_at_once_makes_one_execution() {
    let database = database().await;
    let request = || Submission {
        idempotency: Some(IdempotencyKey { key: "k".into(), fingerprint: vec![1; 32] }),
        ..of("t", vec![execution()])
    };
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            // Twins within a request are looked for; one alone is taken to be new.
            let (database, batch) = (database.clone(), (0..=n % 2).map(|_| request()).collect::<Vec<_>>());
            tokio::spawn(async move {
                submit(&mut database.get().await.unwrap(), &batch, &Repeats::default()).await.unwrap()
            })
        })
        .collect();
    let mut recorded = 0;
    for task in tasks {
        for answer in task.await.unwrap() {
            match answer {
                Submitted::Recorded => recorded += 1,
                Submitted::Repeated(found) => assert_eq!(found.len(), 1),
                other => panic!("the body is the same: {other:?}"),
            }
        }
    }
    assert_eq!(recorded, 1);
    let c = &mut database.get().await.unwrap();
    assert_eq!(query::list(c, "t", &query::Filter { limit: 10, ..Default::default() }).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scheduled_is_queued_when_due_and_what_waits_too_long_ends() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let mut later = execution();
    later.run_at = Some(Utc::now() + chrono::TimeDelta::hours(1));
    let later = submitted(c, later).await;
    let mut hasty = execution();
    hasty.queue_deadline = Some(Utc::now() - chrono::TimeDelta::seconds(1));
    let hasty = submitted(c, hasty).await;
    assert_eq!((promote::promote(c, 10).await.unwrap(), promote::expire(c, 10).await.unwrap()), (0, 1));
    assert_eq!(state(c, hasty).await, "timed_out");
    let outlook = overdue::outlook(c).await.unwrap();
    assert!(!outlook.busy && outlook.next_at.unwrap() > outlook.now);
    sql(c, "UPDATE executions SET run_at = now() - interval '1 second' WHERE state = 'scheduled'").await;
    assert_eq!(promote::promote(c, 10).await.unwrap(), 1);
    assert_eq!(state(c, later).await, "queued");
    assert!(overdue::outlook(c).await.unwrap().busy);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_finds_what_is_not_in_redis_in_order() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let mut ids = Vec::new();
    for n in 0..5 {
        let mut new = execution();
        new.enqueued = n < 2;
        new.created_at = Utc::now() - chrono::TimeDelta::seconds(60 - n);
        ids.push(submitted(c, new).await);
    }
    assert_eq!(relay::waiting(c, "t", Priority::Normal, 10).await.unwrap(), ids[2..]);
    assert_eq!(relay::backlogs(c).await.unwrap().len(), 1);
    relay::mark(c, "t", &ids[2..4], true).await.unwrap();
    assert_eq!(relay::waiting(c, "t", Priority::Normal, 10).await.unwrap(), ids[4..]);
    let margin = Duration::from_millis(500);
    assert_eq!(
        relay::forget_lost(c, "t", Priority::Normal, Some(ids[2]), margin).await.unwrap(),
        2,
        "older than the head"
    );
    assert_eq!(relay::forget_lost(c, "t", Priority::Normal, None, margin).await.unwrap(), 2, "an empty stream");
    relay::mark(c, "t", &ids, true).await.unwrap();
    assert_eq!(relay::forget_all(c).await.unwrap(), 5);
    assert_eq!(relay::waiting(c, "t", Priority::Normal, 10).await.unwrap(), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_much_is_forgotten_part_by_part_to_the_last_row() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    // In many tenants and priorities, several of them queued in the same moment.
    sql(
        c,
        "INSERT INTO executions (tenant, id, state, priority, max_attempts, enqueued, input_bytes, timeout_seconds, queued_at)
         SELECT 'tenant-' || n % 7, gen_random_uuid(), 'queued', n % 3, 1, n % 10 > 0, 0, 1, now() - n / 100 * interval '1 second'
         FROM generate_series(1, 25000) AS n",
    )
    .await;
    let before = pages_read(c, "executions_enqueued").await;
    assert_eq!(relay::forget_all(c).await.unwrap(), 22_500);
    let pages = pages_read(c, "executions_enqueued").await - before;
    assert!((1..5_000).contains(&pages), "{pages} pages were read to find each row once");
    assert!(relay::believed_streams(c).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_head_is_being_launched_keeps_what_is_in_it() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let mut ids = Vec::new();
    for age in [60, 50, 40] {
        let created_at = Utc::now() - chrono::TimeDelta::seconds(age);
        ids.push(submitted(c, NewExecution { created_at, ..execution() }).await);
    }
    let forget = async |c: &mut Connection, head| {
        relay::forget_lost(c, "t", Priority::Normal, head, Duration::from_secs(5)).await.unwrap()
    };
    let claimed = claimed(c, ids[1]).await;
    assert_eq!(forget(c, Some(ids[1])).await, 1, "the one before it");
    assert_eq!(relay::waiting(c, "t", Priority::Normal, 10).await.unwrap(), ids[..1]);
    assert!(matches!(ask_start(c, claimed, CREDENTIAL, SESSION).await, Start::Granted(_)));
    report(c, claimed, SESSION, Status::Failed).await;
    assert_eq!(forget(c, Some(ids[1])).await, 0, "a head that is about to be acknowledged tells nothing");
    assert_eq!(forget(c, Some(ExecutionId::new())).await, 0, "nor does one without a row");
    assert_eq!(forget(c, None).await, 1, "the stream is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tenant_and_priority_with_a_backlog_is_found() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    for tenant in ["t", "u"] {
        for priority in [Priority::High, Priority::Low] {
            for _ in 0..3 {
                let mut new = execution();
                (new.priority, new.enqueued) = (priority, false);
                submit(c, &[of(tenant, vec![new])], &Repeats::default()).await.unwrap();
            }
        }
    }
    let found: Vec<_> = relay::backlogs(c).await.unwrap().into_iter().map(|b| (b.tenant, b.priority)).collect();
    let expected = [("t", Priority::High), ("t", Priority::Low), ("u", Priority::High), ("u", Priority::Low)];
    assert_eq!(found, expected.map(|(tenant, priority)| (tenant.to_owned(), priority)));
    assert!(relay::believed_streams(c).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_has_one_holder_until_it_ends() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let span = Duration::from_secs(30);
    assert!(lease::acquire(c, "supervisor", "a", span).await.unwrap());
    assert!(lease::acquire(c, "supervisor", "a", span).await.unwrap(), "renewed");
    assert!(!lease::acquire(c, "supervisor", "b", span).await.unwrap());
    lease::release(c, "supervisor", "b").await.unwrap();
    assert!(!lease::acquire(c, "supervisor", "b", span).await.unwrap(), "only its holder gives it back");
    sql(c, "UPDATE leases SET expires_at = now() - interval '1 second'").await;
    assert!(lease::acquire(c, "supervisor", "b", span).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflows_versions_count_up_and_the_same_definition_makes_none() {
    let database = database().await;
    let put = |digest: u8| {
        let database = database.clone();
        async move {
            let c = &mut database.get().await.unwrap();
            workflows::put(c, "t", "w", &[digest; 32], "{}", |_| true).await.unwrap().unwrap()
        }
    };
    assert_eq!((put(1).await.version.version, put(1).await.created), (1, false));
    assert_eq!((put(2).await.version.version, put(1).await.version.version), (2, 3));
    let tasks: Vec<_> = (10..16).map(|digest| tokio::spawn(put(digest))).collect();
    let mut versions = Vec::new();
    for task in tasks {
        versions.push(task.await.unwrap().version.version);
    }
    versions.sort_unstable();
    assert_eq!(versions, [4, 5, 6, 7, 8, 9]);
    let c = &mut database.get().await.unwrap();
    assert_eq!(workflows::get(c, "t", "w", None).await.unwrap().unwrap().version, 9);
    assert!(workflows::get(c, "u", "w", None).await.unwrap().is_none());
    assert_eq!(workflows::list(c, "t", "", 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_by_its_hash_until_it_is_revoked() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let hash = secrets::hash("rsk_x");
    let id = keys::create(c, "newcomer", "submit", "rsk_x", &hash, None).await.unwrap();
    let key = keys::find(c, &hash).await.unwrap().unwrap();
    assert_eq!((key.tenant.name.as_str(), key.role.as_str(), key.revoked), ("newcomer", "submit", false));
    let none = secrets::hash("");
    assert_eq!(keys::revoke(c, &id.to_string(), &none).await.unwrap(), 1);
    assert!(keys::find(c, &hash).await.unwrap().unwrap().revoked);
    keys::create(c, "newcomer", "submit", "rsk_z", &secrets::hash("rsk_z1"), None).await.unwrap();
    assert_eq!(keys::revoke(c, "rsk_z1", &none).await.unwrap(), 0);
    assert_eq!(keys::revoke(c, "rsk_z1", &secrets::hash("rsk_z1")).await.unwrap(), 1, "by the key itself");
    assert!(keys::find(c, &secrets::hash("rsk_y")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_takes_finished_executions_whole_and_leaves_the_others() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let (done, live) = (running(c).await, running(c).await);
    report(c, done, SESSION, Status::Succeeded).await;
    claim::release(c, &by("worker-1"), &[done]).await.unwrap();
    sql(c, "UPDATE executions SET finished_at = finished_at - interval '2 days' WHERE finished_at IS NOT NULL").await;
    let old = retain::outdated(c, Duration::from_secs(86_400), 10).await.unwrap();
    assert_eq!(old, [("t".to_owned(), done.execution_id)]);
    retain::delete(c, &[("t".to_owned(), done.execution_id), ("t".to_owned(), live.execution_id)]).await.unwrap();
    assert!(query::get(c, "t", done.execution_id).await.unwrap().is_none());
    assert!(query::attempts(c, "t", done.execution_id).await.unwrap().is_empty());
    assert_eq!(state(c, live.execution_id).await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_applied_by_several_at_once_are_applied_once_and_can_be_reversed() {
    let config = roadstead_backend::config::PostgresConfig {
        url: roadstead_backend::config::Secret::new(roadstead_testkit::servers().await.new_database().await),
        max_connections: 2,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
    };
    let starters: Vec<_> = (0..4)
        .map(|_| {
            let config = config.clone();
            tokio::spawn(async move { roadstead_backend::store::database::migrate(&config).await.unwrap().len() })
        })
        .collect();
    let mut applied = 0;
    for starter in starters {
        applied += starter.await.unwrap();
    }
    assert!(applied >= 1);
    assert!(roadstead_backend::store::database::is_migrated(&config).await.unwrap());
    let database = roadstead_backend::store::Database::new(&config);
    let c = &mut database.get().await.unwrap();
    for down in glob(concat!(env!("CARGO_MANIFEST_DIR"), "/../../migrations")) {
        sql(c, &std::fs::read_to_string(down.join("down.sql")).unwrap()).await;
    }
    sql(c, "DO $$ BEGIN IF (SELECT count(*) FROM pg_tables WHERE schemaname = 'public') > 1 THEN RAISE 'tables are left'; END IF; END $$").await;
}

/// The migrations' folders, newest first.
fn glob(folder: &str) -> Vec<std::path::PathBuf> {
    let mut folders: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.reverse();
    folders
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_grows_until_its_attempt_is_over() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let queued = submitted(c, execution()).await;
    let growth = follow::growth(c, "t", queued).await.unwrap().unwrap();
    assert_eq!((growth.state, growth.max_attempts, growth.attempts), (State::Queued, execution().max_attempts, vec![]));
    assert!(follow::growth(c, "u", queued).await.unwrap().is_none(), "another tenant's");
    let attempt = running(c).await;
    let id = attempt.execution_id;
    let log = |finished, last_seq| AttemptLog { attempt: 1, started: true, finished, last_seq };
    assert_eq!(follow::growth(c, "t", id).await.unwrap().unwrap().attempts, [log(false, None)]);
    let segments = vec![Segment { seq: 0, size_bytes: 5, lines: 1 }, Segment { seq: 1, size_bytes: 5, lines: 1 }];
    let shipped = Beat { attempt, session_hash: secrets::hash(SESSION), steps: None, segments };
    heartbeat(c, &[shipped], LEASE).await.unwrap();
    assert_eq!(follow::growth(c, "t", id).await.unwrap().unwrap().attempts, [log(false, Some(1))]);
    report(c, attempt, SESSION, Status::Succeeded).await;
    let growth = follow::growth(c, "t", id).await.unwrap().unwrap();
    assert_eq!((growth.state, growth.attempts), (State::Succeeded, vec![log(true, Some(1))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_executor_hears_that_its_log_is_followed() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    follow::follow(c, "u", attempt.execution_id, 1, LEASE).await.unwrap();
    assert_eq!(beat(c, attempt, SESSION).await, Some((false, false)), "by nobody of another tenant");
    follow::follow(c, "t", attempt.execution_id, 1, LEASE).await.unwrap();
    assert_eq!(beat(c, attempt, SESSION).await, Some((false, true)));
    follow::follow(c, "t", attempt.execution_id, 1, Duration::ZERO).await.unwrap();
    assert_eq!(beat(c, attempt, SESSION).await, Some((false, false)), "once nobody follows any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_is_the_current_attempts() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    let id = attempt.execution_id;
    assert_eq!(query::manifest(c, "t", id).await.unwrap().unwrap().artifacts, None, "nothing before its end");
    let mut finish = finish(Status::Succeeded);
    finish.artifacts = vec![Artifact { path: "a.csv".into(), size_bytes: 3, sha256: "00".into() }];
    let reports = [Report { attempt, session_hash: secrets::hash(SESSION), finish }];
    finishing::finish(c, &reports).await.unwrap();
    let manifest = query::manifest(c, "t", id).await.unwrap().unwrap();
    assert_eq!((manifest.attempt, manifest.artifacts.is_some_and(|text| text.contains("a.csv"))), (1, true));
    sql(c, "UPDATE executions SET attempt = 2").await;
    assert_eq!(query::manifest(c, "t", id).await.unwrap().unwrap().artifacts, None, "not an earlier one's");
    assert!(query::manifest(c, "u", id).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_being_settled_or_has_ended_is_not_taken_over() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    let taken = async |c: &mut Connection| launch::take_over(c, "worker-2", attempt, None, TIMES).await.unwrap();
    sql(c, "UPDATE attempts SET launch_lease_expires_at = now() - interval '2 seconds', start_deadline = now() - interval '1 second'")
        .await;
    assert_eq!(overdue::overdue(c, &[], 10).await.unwrap().len(), 1);
    assert!(launch::abandoned(c, 10).await.unwrap().is_empty() && !taken(c).await, "its start deadline has passed");
    sql(c, "UPDATE attempts SET start_deadline = now() + interval '1 minute'").await;
    let found = launch::abandoned(c, 10).await.unwrap();
    assert_eq!(found.iter().map(|a| a.attempt).collect::<Vec<_>>(), [attempt], "it has time left");
    let failed = Witness::StartFailed { reason: Reason::new("create_rejected", "…"), retryable: true };
    assert!(settle_one(c, attempt, &Observer::Anyone, failed, false).await.unwrap().is_some());
    assert!(!taken(c).await, "it ended after it was found, and still has its berth");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_launch_that_was_left_longest_ago_is_found_first_however_often_others_are_put_off() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let mut attempts = Vec::new();
    for _ in 0..3 {
        let id = submitted(c, execution()).await;
        attempts.push(claimed(c, id).await);
    }
    // Against the order of their ids.
    attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.execution_id.0));
    for (attempt, seconds) in attempts.iter().zip([3, 2, 1]) {
        let id = attempt.execution_id;
        sql(c, &format!("UPDATE attempts SET launch_lease_expires_at = now() - interval '{seconds} s' WHERE execution_id = '{id}'"))
            .await;
    }
    for attempt in &attempts {
        assert_eq!(launch::abandoned(c, 1).await.unwrap()[0].attempt, *attempt);
        assert!(launch::take_over(c, "worker-2", *attempt, None, TIMES).await.unwrap());
    }
}
