//! Deadlines: of a step, a run, a queue and a start.

use roadstead_e2e::processes;
use roadstead_e2e::scene::{Executions, Scene, appears, id};
use roadstead_e2e::submission::{With, command, shell, steps, wait_for_file};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

#[tokio::test]
async fn a_step_that_takes_too_long_is_stopped_and_has_failed() {
    let scene = Scene::new().await;
    let submission = steps(&json!([{ "id": "slow", "command": ["sleep", "1000"], "timeout_seconds": 1 }]));
    let execution = scene.run(&submission.with(json!({ "max_retries": 0 }))).await;
    assert_eq!(
        (&execution["state"], &execution["reason"]["code"]),
        (&json!("failed"), &json!("step_timeout")),
        "{execution}"
    );
    let attempts = scene.items(&format!("/v1/executions/{}/attempts", id(&execution))).await;
    assert_eq!(attempts[0]["steps"][0]["state"], "timed_out");
}

#[tokio::test]
async fn a_run_that_takes_too_long_has_timed_out_and_is_not_tried_again() {
    let scene = Scene::new().await;
    let submission = shell("trap 'echo stopping; exit' TERM; echo going; sleep 1000 & wait")
        .with(json!({ "timeout_seconds": 1, "max_retries": 3 }));
    let execution = scene.run(&submission).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("timed_out"), &json!(1)), "{execution}");
    assert_eq!(execution["reason"]["code"], "run_timeout");
    assert_eq!(scene.log(&id(&execution)).await.lines().take(2).collect::<Vec<_>>(), ["going", "stopping"]);
}

#[tokio::test]
async fn a_queue_deadline_ends_what_waits_and_leaves_what_runs() {
    let scene = Scene::with(&[("MAX_CONCURRENT_JOBS", "1")]).await;
    scene.succeed("true").await;
    let go = scene.file("go");
    let held = shell(&wait_for_file(&go)).with(json!({ "queue_timeout_seconds": 3 }));
    let running = scene.submit(&held).await;
    scene.reaches(&running, "running").await;
    // Submitted later, so that the other's deadline has passed with its own.
    let waiting = scene.run(&command(&["true"]).with(json!({ "queue_timeout_seconds": 3 }))).await;
    assert_eq!((&waiting["state"], &waiting["attempt"]), (&json!("timed_out"), &json!(0)), "{waiting}");
    assert_eq!(waiting["reason"]["code"], "queue_timeout");
    std::fs::write(go, "").unwrap();
    assert_eq!(scene.ended(&running).await["state"], "succeeded");
}

/// An executor of this script.
fn broken_executor(scene: &Scene, script: &str) -> String {
    let path = scene.file("broken-executor");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn an_executor_that_hangs_fails_the_start_and_is_stopped() {
    let mut scene = Scene::idle(&[]).await;
    let pid = scene.file("pid");
    let path = broken_executor(&scene, &format!("echo $$ >> {}; exec sleep 1000", pid.display()));
    scene.add_worker(&[("JOB_START_TIMEOUT_SECONDS", "1"), ("EXECUTOR_PATH", &path)]).await;
    let execution = scene.run(&command(&["true"]).with(json!({ "max_retries": 0 }))).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("failed"), &json!(1)), "{execution}");
    assert_eq!(execution["reason"]["code"], "start_timeout");
    assert!(execution["started_at"].is_null(), "{execution}");
    let pid: u32 = appears(&pid).await.trim().parse().unwrap();
    wait_for("the hanging executor's end", PATIENCE, async || {
        if processes::runs(pid) { Err("it runs".to_owned()) } else { Ok(()) }
    })
    .await;
    wait_for("the berth to be given back", PATIENCE, async || {
        let live = scene.stack.sql_value("SELECT count(*) FROM attempts WHERE released_at IS NULL").await;
        if live == "0" { Ok(()) } else { Err(live) }
    })
    .await;
}

#[tokio::test]
async fn an_executor_that_does_not_come_up_is_told_of_within_seconds() {
    let mut scene = Scene::idle(&[]).await;
    let path = broken_executor(&scene, "exit 3");
    scene.add_worker(&[("EXECUTOR_PATH", &path)]).await;
    let execution = scene.run(&command(&["true"]).with(json!({ "max_retries": 1 }))).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("failed"), &json!(2)), "{execution}");
    assert!(execution["reason"]["code"].is_string() && execution["started_at"].is_null(), "{execution}");
}
