//! What the store knows of attempts in a cluster: what they ask for, why they wait, and whose word counts when they are seen or not.

use crate::fixture::*;
use roadstead_backend::secrets;
use roadstead_backend::store::explain::explain;
use roadstead_backend::store::finish::{self as finishing, Finished, Report};
use roadstead_backend::store::launch::{self, Waiting, demands, note_waiting};
use roadstead_backend::store::settle::{Observer, live};
use roadstead_backend::store::{Connection, claim, installation, overdue, promote, query};
use roadstead_domain::attempt::protocol::{Finish, Outcome, Status};
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::{AttemptId, ExecutionId};

const SPEC: &str =
    r#"{"image":"python:3","steps":[{"id":"a","command":["x\u0000"]}],"resources":{"cpu":"2","memory":"1Gi"}}"#;

fn waiting(attempt: AttemptId, code: &str, message: &str) -> Waiting {
    Waiting { tenant: "t".into(), attempt, reason: Reason::new(code, message) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_says_what_it_asks_of_a_cluster_wherever_it_is() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let mut own = execution();
    own.spec = Some(SPEC.into());
    let own = submitted(c, own).await;
    let named = submitted(c, execution()).await;
    sql(
        c,
        &format!(
            "INSERT INTO workflows (tenant, name, version, digest, definition) VALUES ('t', 'w', 7, '\\x00', '{}')",
            r#"{"image":"named:1","steps":[]}"#
        ),
    )
    .await;
    sql(c, &format!("UPDATE executions SET spec = NULL, workflow = 'w', version = 7 WHERE id = '{named}'")).await;
    let wanted = [("t".to_owned(), own), ("t".to_owned(), named), ("t".to_owned(), ExecutionId::new())];
    let found = demands(c, &wanted).await.unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[&own].image.as_deref(), Some("python:3"));
    assert_eq!(
        (found[&own].resources.cpu.as_deref(), found[&own].resources.ephemeral_storage.as_deref()),
        (Some("2"), None)
    );
    assert_eq!((found[&named].image.as_deref(), found[&named].resources.is_empty()), (Some("named:1"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn why_it_waits_is_noted_while_it_waits_and_no_longer() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    let stale = AttemptId { attempt: 7, ..attempt };
    note_waiting(c, &[waiting(attempt, "unschedulable", "0/3 nodes"), waiting(stale, "image_pulling", "x")])
        .await
        .unwrap();
    note_waiting(c, &[waiting(attempt, "unschedulable", "0/3 nodes")]).await.unwrap();
    let noted = query::get(c, "t", id).await.unwrap().unwrap();
    assert_eq!(noted.reason, Some(Reason::new("unschedulable", "0/3 nodes")));
    let told = query::events(c, "t", id).await.unwrap();
    assert_eq!(told.iter().filter(|event| event.kind == "waiting").count(), 1, "the same is told once: {told:?}");
    ask_start(c, attempt, CREDENTIAL, SESSION).await;
    assert_eq!(query::get(c, "t", id).await.unwrap().unwrap().reason, None, "it has started");
    note_waiting(c, &[waiting(attempt, "unschedulable", "late")]).await.unwrap();
    assert_eq!(query::get(c, "t", id).await.unwrap().unwrap().reason, None);
}

/// Reports as an executor that was stopped, or whose step failed.
async fn reported_with(c: &mut Connection, attempt: AttemptId, code: &str) {
    let outcome =
        Outcome { status: Status::Cancelled, reason: Some(Reason::new(code, "its own word")), retryable: true };
    let finish = Finish { outcome, ..finish(Status::Cancelled) };
    let report = Report { attempt, session_hash: secrets::hash(SESSION), finish };
    assert!(matches!(finishing::finish(c, &[report]).await.unwrap()[..], [Finished::Settled { .. }]));
}

/// The codes of the execution and of its attempts.
async fn codes(c: &mut Connection, id: ExecutionId) -> (Option<String>, Vec<Option<String>>) {
    let execution = query::get(c, "t", id).await.unwrap().unwrap();
    let attempts = query::attempts(c, "t", id).await.unwrap();
    (execution.reason.map(|reason| reason.code), attempts.into_iter().map(|attempt| attempt.reason_code).collect())
}

fn coded(execution: &str, attempts: &[&str]) -> (Option<String>, Vec<Option<String>>) {
    (Some(execution.to_owned()), attempts.iter().map(|code| Some((*code).to_owned())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn why_an_executor_was_stopped_is_said_by_whoever_stopped_it() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    let id = attempt.execution_id;
    let evicted = Reason::new("evicted", "EvictionByEvictionAPI: evicting");
    explain(c, "t", attempt, &evicted).await.unwrap();
    assert_eq!(codes(c, id).await, (None, vec![None]), "it runs");
    reported_with(c, attempt, "executor_terminated").await;
    let before = query::get(c, "t", id).await.unwrap().unwrap();
    explain(c, "t", AttemptId { attempt: 2, ..attempt }, &evicted).await.unwrap();
    explain(c, "u", attempt, &evicted).await.unwrap();
    assert_eq!(codes(c, id).await, coded("executor_terminated", &["executor_terminated"]));
    explain(c, "t", attempt, &evicted).await.unwrap();
    explain(c, "t", attempt, &Reason::new("node_lost", "late")).await.unwrap();
    assert_eq!(codes(c, id).await, coded("evicted", &["evicted"]));
    let after = query::get(c, "t", id).await.unwrap().unwrap();
    assert_eq!(after.reason, Some(evicted));
    assert_eq!((after.state, after.run_at), (before.state, before.run_at), "what comes next is not disturbed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_executor_knows_itself_is_left_as_it_is() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    reported_with(c, attempt, "run_timeout").await;
    explain(c, "t", attempt, &Reason::new("evicted", "x")).await.unwrap();
    assert_eq!(codes(c, attempt.execution_id).await, coded("run_timeout", &["run_timeout"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_that_comes_late_leaves_the_next_attempt_alone() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let first = running(c).await;
    let id = first.execution_id;
    reported_with(c, first, "executor_terminated").await;
    sql(c, "UPDATE executions SET run_at = now()").await;
    promote::promote(c, 10).await.unwrap();
    let second = claimed(c, id).await;
    ask_start(c, second, CREDENTIAL, SESSION).await;
    reported_with(c, second, "executor_terminated").await;
    explain(c, "t", first, &Reason::new("evicted", "x")).await.unwrap();
    assert_eq!(codes(c, id).await, coded("executor_terminated", &["evicted", "executor_terminated"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_at_the_cluster_speaks_for_every_worker() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let attempt = running(c).await;
    assert!(live(c, &[attempt], &by("another")).await.unwrap().is_empty());
    assert_eq!(live(c, &[attempt], &Observer::Anyone).await.unwrap().len(), 1);
    assert!(overdue::surplus(c, &Observer::Anyone, &[attempt]).await.unwrap().is_empty());
    assert_eq!(overdue::surplus(c, &by("another"), &[attempt]).await.unwrap(), [attempt]);
    report(c, attempt, SESSION, Status::Succeeded).await;
    assert!(claim::release(c, &by("another"), &[attempt]).await.unwrap().is_empty());
    assert!(claim::release(c, &Observer::Anyone, &[attempt]).await.unwrap().contains(&attempt));
    assert_eq!(
        overdue::surplus(c, &Observer::Anyone, &[attempt]).await.unwrap(),
        [attempt],
        "nothing of it should be alive"
    );
    let unknown = AttemptId { execution_id: ExecutionId::new(), attempt: 1 };
    assert_eq!(overdue::surplus(c, &Observer::Anyone, &[unknown]).await.unwrap(), [unknown]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_a_berth_is_looked_for_once_it_was_launched_and_while_nobody_hears_of_it() {
    let database = database().await;
    let c = &mut database.get().await.unwrap();
    let id = submitted(c, execution()).await;
    let attempt = claimed(c, id).await;
    assert!(overdue::berthed(c).await.unwrap().is_empty(), "nobody says that it was launched");
    launch::launched(c, "worker-1", &[attempt]).await.unwrap();
    assert_eq!(overdue::berthed(c).await.unwrap()[0].attempt, attempt);
    ask_start(c, attempt, CREDENTIAL, SESSION).await;
    assert!(overdue::berthed(c).await.unwrap().is_empty(), "it renews its lease");
    sql(c, "UPDATE attempts SET lease_expires_at = now() - interval '1 second'").await;
    assert_eq!(overdue::berthed(c).await.unwrap()[0].attempt, attempt);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_is_its_database() {
    let (one, other) = (database().await, database().await);
    let of = async |database: &roadstead_backend::store::Database| {
        installation::id(&mut database.get().await.unwrap()).await.unwrap()
    };
    assert_eq!(of(&one).await, of(&one).await);
    assert_ne!(of(&one).await, of(&other).await);
}
