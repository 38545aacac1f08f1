//! Workers come and go; what they had started goes on.

use roadstead_e2e::processes::{self, Census};
use roadstead_e2e::scene::{Executions, Scene, appears};
use roadstead_e2e::submission::{command, shell, wait_for_file};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::json;
use std::path::Path;

fn held(mark: &Path, go: &Path) -> serde_json::Value {
    shell(&format!("echo \"start $ROADSTEAD_ATTEMPT\" >> {}; {}", mark.display(), wait_for_file(go)))
}

#[tokio::test]
async fn a_killed_workers_run_goes_on_and_is_not_started_again() {
    let settings = [("MAX_CONCURRENT_JOBS", "1"), ("KUBERNETES_RECONCILE_INTERVAL", "2s")];
    let mut scene = Scene::with(&settings).await;
    let (mark, go) = (scene.file("mark"), scene.file("go"));
    let id = scene.submit(&held(&mark, &go)).await;
    appears(&mark).await;
    scene.workers[0].kill();
    scene.add_worker(&settings).await;
    let next = scene.submit(&command(&["true"])).await;
    std::fs::write(&go, "").unwrap();
    let execution = scene.ended(&id).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("succeeded"), &json!(1)), "{execution}");
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "start 1\n");
    assert_eq!(scene.ended(&next).await["state"], "succeeded", "the berth was given back, though its worker is dead");
}

#[tokio::test]
async fn what_died_with_its_machine_is_tried_again_after_its_lease() {
    let settings =
        [("ATTEMPT_LEASE_SECONDS", "6"), ("KILL_GRACE_SECONDS", "1"), ("KUBERNETES_RECONCILE_INTERVAL", "2s")];
    let mut scene = Scene::with(&settings).await;
    let (mark, go) = (scene.file("mark"), scene.file("go"));
    let id = scene.submit(&held(&mark, &go)).await;
    appears(&mark).await;
    let executors: Vec<u32> = Census::of(scene.executor_path()).take().iter().map(|process| process.pid).collect();
    assert_eq!(executors.len(), 1);
    let family = processes::with_descendants(&executors);
    scene.workers[0].kill();
    processes::kill(&family);
    std::fs::write(&go, "").unwrap();
    scene.add_worker(&settings).await;
    let execution = scene.ended(&id).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("succeeded"), &json!(2)), "{execution}");
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "start 1\nstart 2\n");
    let attempts = scene.items(&format!("/v1/executions/{id}/attempts")).await;
    assert_eq!(attempts[0]["state"], "lost", "{attempts:?}");
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_takes_nothing_new_and_leaves_nothing_undone() {
    let settings = [("SHUTDOWN_TIMEOUT", "20s")];
    let mut scene = Scene::with(&settings).await;
    let (mark, go) = (scene.file("mark"), scene.file("go"));
    let id = scene.submit(&held(&mark, &go)).await;
    appears(&mark).await;
    scene.workers[0].signal(rustix::process::Signal::TERM);
    wait_for("the worker to take nothing more", PATIENCE, async || {
        let ready = scene.workers[0].anonymous();
        match ready.try_send(ready.request(reqwest::Method::GET, "/readyz")).await {
            Ok(answer) if answer.status == 200 => Err("it is ready".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let next = scene.submit(&command(&["true"])).await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(scene.ended(&id).await["state"], "succeeded");
    assert!(scene.workers[0].ended().await.success(), "{}", scene.workers[0].log());
    assert_eq!(scene.execution(&next).await["state"], "queued");
    scene.add_worker(&settings).await;
    assert_eq!(scene.ended(&next).await["state"], "succeeded");
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "start 1\n");
}

#[tokio::test]
async fn several_workers_share_one_cap() {
    let settings = [("MAX_CONCURRENT_JOBS", "3")];
    let mut scene = Scene::with(&settings).await;
    for _ in 0..2 {
        scene.add_worker(&settings).await;
    }
    let sampler = processes::Sampler::start(scene.executor_path());
    let batch = json!({ "executions": vec![shell("sleep 0.15"); 24] });
    let answer = scene.post("/v1/executions/batch", &batch).await.expect(202).json();
    for execution in answer["executions"].as_array().unwrap() {
        assert_eq!(scene.ended(execution["id"].as_str().unwrap()).await["state"], "succeeded");
    }
    let sample = sampler.stop();
    assert_eq!(sample.most, 3, "{sample:?}");
}
