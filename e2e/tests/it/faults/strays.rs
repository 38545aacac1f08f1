//! What runs on when both an executor and its worker are gone: it must not meet the next attempt.

use roadstead_e2e::processes::{self, Census};
use roadstead_e2e::scene::{Executions, Scene, appears};
use roadstead_e2e::submission::shell;
use roadstead_testkit::{PATIENCE, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const SETTINGS: [(&str, &str); 3] =
    [("ATTEMPT_LEASE_SECONDS", "6"), ("KILL_GRACE_SECONDS", "1"), ("KUBERNETES_RECONCILE_INTERVAL", "2s")];

/// One execution whose first attempt beats into `beats` until it dies, and whose second one notes whether the first still does.
async fn started(scene: &Scene) -> String {
    let (mark, beats, met) = (scene.file("mark"), scene.file("beats"), scene.file("met"));
    let (mark, beats, met) = (mark.display(), beats.display(), met.display());
    let first = format!("echo up > {mark}; while :; do echo . >> {beats}; sleep 0.02; done");
    let second = format!("a=$(wc -c < {beats}); sleep 0.5; b=$(wc -c < {beats}); echo \"$a $b\" > {met}");
    let id = scene.submit(&shell(&format!("if [ $ROADSTEAD_ATTEMPT = 1 ]; then {first}; else {second}; fi"))).await;
    appears(&scene.file("mark")).await;
    id
}

fn executor(scene: &Scene) -> u32 {
    let executors = Census::of(scene.executor_path()).take();
    assert_eq!(executors.len(), 1, "{executors:?}");
    executors[0].pid
}

async fn second_met_nobody(scene: &Scene, id: &str) {
    let execution = scene.ended(id).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("succeeded"), &json!(2)), "{execution}");
    let met = std::fs::read_to_string(scene.file("met")).unwrap();
    let (before, after) = met.trim().split_once(' ').unwrap();
    assert_eq!(before, after, "the first attempt's step was at work beside the second's");
}

#[tokio::test]
async fn the_steps_of_a_killed_executor_whose_worker_was_killed_too_end_before_the_next_attempt_starts() {
    let mut scene = Scene::with(&SETTINGS).await;
    let id = started(&scene).await;
    let executor = executor(&scene);
    scene.workers[0].kill();
    processes::kill(&[executor]);
    scene.add_worker(&SETTINGS).await;
    second_met_nobody(&scene, &id).await;
}

#[tokio::test]
async fn the_steps_of_a_stopped_executor_whose_worker_is_gone_end_before_the_next_attempt_starts() {
    let mut scene = Scene::with(&SETTINGS).await;
    let id = started(&scene).await;
    let executor = executor(&scene);
    scene.workers[0].kill();
    let pid = Pid::from_raw(executor.cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    scene.add_worker(&SETTINGS).await;
    second_met_nobody(&scene, &id).await;
    kill_process(pid, Signal::CONT).unwrap();
    wait_for("the executor to hear that it is over", PATIENCE, async || {
        if processes::runs(executor) { Err("it runs".to_owned()) } else { Ok(()) }
    })
    .await;
    assert_eq!(scene.execution(&id).await["state"], "succeeded");
}
