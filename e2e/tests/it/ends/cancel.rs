//! Cancelling, in every state, down to the last process.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::processes;
use roadstead_e2e::scene::{Executions, Scene, appears, id};
use roadstead_e2e::submission::{With, command, shell};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

async fn gone(what: &str, pid: u32) {
    wait_for(&format!("the end of {what}"), PATIENCE, async || {
        if processes::runs(pid) { Err("it runs".to_owned()) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn what_waits_is_cancelled_at_once_and_never_starts() {
    let mut scene = Scene::idle(&[]).await;
    let mark = scene.file("mark");
    let script = format!("echo ran >> {}", mark.display());
    let queued = scene.submit(&shell(&script)).await;
    let scheduled = scene.submit(&shell(&script).with(json!({ "run_at": "2100-01-01T00:00:00Z" }))).await;
    for id in [&queued, &scheduled] {
        let first = scene.ask(&format!("/v1/executions/{id}/cancel")).await;
        let told = first.ok(202);
        assert_eq!(
            (&told["state"], &told["cancel_requested"], &told["attempt"]),
            (&json!("cancelled"), &json!(true), &json!(0))
        );
        assert_eq!(told["reason"]["code"], "cancelled");
        let second = scene.ask(&format!("/v1/executions/{id}/cancel")).await;
        assert_eq!((second.status, second.text()), (first.status, first.text()), "asking again gives the same answer");
        assert_eq!(scene.kinds(id).await, ["submitted", "cancelled"]);
    }
    scene.add_worker(&[]).await;
    assert_eq!(scene.succeed("true").await["state"], "succeeded");
    assert!(!mark.exists(), "what was cancelled before it ran never runs");
}

#[tokio::test]
async fn a_launch_that_hangs_can_be_cancelled() {
    let mut scene = Scene::idle(&[]).await;
    let (executor, pid) = (scene.file("hanging"), scene.file("pid"));
    std::fs::write(&executor, format!("#!/bin/sh\necho $$ >> {}; exec sleep 1000\n", pid.display())).unwrap();
    std::fs::set_permissions(&executor, std::fs::Permissions::from_mode(0o755)).unwrap();
    scene.add_worker(&[("EXECUTOR_PATH", &executor.display().to_string())]).await;
    let id = scene.submit(&command(&["true"])).await;
    let pid: u32 = appears(&pid).await.trim().parse().unwrap();
    scene.reaches(&id, "launching").await;
    assert_eq!(scene.ask(&format!("/v1/executions/{id}/cancel")).await.ok(202)["cancel_requested"], true);
    let execution = scene.ended(&id).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("cancelled"), &json!(1)), "{execution}");
    assert_eq!(execution["reason"]["code"], "cancelled");
    gone("the hanging executor", pid).await;
}

/// A step with a child, a daemon in a session of its own, and one that ignores every polite word.
const FAMILY: &str = "
echo $$ > pids
sleep 1000 & echo $! >> pids
setsid sh -c 'echo $$ >> pids; exec sleep 1000' &
setsid sh -c '(trap \"\" TERM HUP INT; echo $(sh -c \"echo \\$PPID\") >> pids; while :; do sleep 1; done) &'
while [ $(wc -l < pids) -lt 4 ]; do sleep 0.02; done
";

#[tokio::test]
async fn a_cancel_ends_the_whole_family_of_processes() {
    let scene = Scene::with(&[("KILL_GRACE_SECONDS", "1")]).await;
    let told = scene.file("told");
    let script = format!(
        "{FAMILY} cp pids {0}.tmp; mv {0}.tmp {0}; trap 'echo asked' TERM; wait; wait; sleep 1000",
        told.display()
    );
    let id = scene.submit(&shell(&script)).await;
    let pids: Vec<u32> = appears(&told).await.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert!(pids.len() == 4 && pids.iter().all(|&pid| processes::runs(pid)), "{pids:?}");
    scene.ask(&format!("/v1/executions/{id}/cancel")).await.ok(202);
    let execution = scene.ended(&id).await;
    assert_eq!(
        (&execution["state"], &execution["reason"]["code"]),
        (&json!("cancelled"), &json!("cancelled")),
        "{execution}"
    );
    for pid in pids {
        assert!(!processes::runs(pid), "process {pid} outlived its execution");
    }
    assert!(scene.log(&id).await.contains("asked"), "SIGTERM came before SIGKILL");
    assert_eq!(scene.kinds(&id).await, ["submitted", "claimed", "started", "cancel_requested", "cancelled"]);
}

#[tokio::test]
async fn background_processes_of_a_step_end_with_it() {
    let scene = Scene::with(&[("KILL_GRACE_SECONDS", "1")]).await;
    let told = scene.file("told");
    let execution = scene.succeed(&format!("{FAMILY} cp pids {0}", told.display())).await;
    assert_eq!(execution["attempt"], 1);
    for line in appears(&told).await.lines() {
        let pid = line.trim().parse().unwrap();
        assert!(!processes::runs(pid), "process {pid} outlived its execution {}", id(&execution));
    }
}

#[tokio::test]
async fn a_backoff_can_be_cancelled() {
    let scene = Scene::new().await;
    let id = scene.submit(&shell("exit 1").with(json!({ "max_retries": 5 }))).await;
    wait_for("a backoff", PATIENCE, async || {
        let execution = scene.execution(&id).await;
        let waits = execution["state"] == "scheduled" && execution["queue"]["waiting_for"] == "backoff";
        // The second one lasts two seconds: time enough to be seen in it.
        if waits && execution["attempt"] == 2 { Ok(()) } else { Err(execution.to_string()) }
    })
    .await;
    let told = scene.ask(&format!("/v1/executions/{id}/cancel")).await.ok(202);
    assert_eq!((&told["state"], &told["attempt"]), (&json!("cancelled"), &json!(2)), "{told}");
}

#[tokio::test]
async fn a_cancel_at_any_moment_leaves_one_end() {
    let scene = Scene::with(&[("KILL_GRACE_SECONDS", "1"), ("MAX_CONCURRENT_JOBS", "4")]).await;
    let batch = json!({ "executions": vec![shell("sleep 0.3"); 24] });
    let accepted = scene.post("/v1/executions/batch", &batch).await.ok(202);
    let ids: Vec<String> = accepted["executions"].as_array().unwrap().iter().map(id).collect();
    // One after the other, while they are queued, launched, run and end.
    for id in ids.iter().rev() {
        let answer = scene.ask(&format!("/v1/executions/{id}/cancel")).await;
        assert!([202, 409].contains(&answer.status.as_u16()), "{}", answer.text());
        tokio::time::sleep(std::time::Duration::from_millis(40)).await;
    }
    for id in &ids {
        let execution = scene.ended(id).await;
        assert!(execution["state"] == "succeeded" || execution["state"] == "cancelled", "{execution}");
        let kinds = scene.kinds(id).await;
        let ends = kinds.iter().filter(|kind| *kind == "succeeded" || *kind == "cancelled").count();
        assert_eq!((ends, kinds.last()), (1, execution["state"].as_str().map(str::to_owned).as_ref()), "{kinds:?}");
    }
}
