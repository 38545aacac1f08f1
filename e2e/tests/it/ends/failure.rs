//! Failures: which are tried again, which are not, and what is told of them.

use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command, shell, steps};
use serde_json::{Value, json};

async fn attempts(scene: &Scene, execution: &Value) -> Vec<Value> {
    scene.items(&format!("/v1/executions/{}/attempts", id(execution))).await
}

#[tokio::test]
async fn a_step_that_always_fails_uses_up_the_attempts() {
    let scene = Scene::new().await;
    let execution =
        scene.run(&shell("echo \"try $ROADSTEAD_ATTEMPT\" >&2; exit 7").with(json!({ "max_retries": 1 }))).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("failed"), &json!(2)));
    assert_eq!(execution["reason"]["code"], "step_failed");
    assert!(execution["reason"]["message"].as_str().unwrap().contains("main"), "{execution}");
    assert!(execution["result"].is_null());
    let attempts = attempts(&scene, &execution).await;
    assert_eq!(attempts.len(), 2);
    for attempt in &attempts {
        assert_eq!((&attempt["state"], &attempt["reason"]["code"]), (&json!("failed"), &json!("step_failed")));
        assert_eq!((&attempt["steps"][0]["exit_code"], &attempt["steps"][0]["state"]), (&json!(7), &json!("failed")));
    }
    let waited = |n: usize, member: &str| -> chrono::DateTime<chrono::Utc> {
        attempts[n][member].as_str().unwrap().parse().unwrap()
    };
    assert!(
        (waited(1, "started_at") - waited(0, "finished_at")).num_milliseconds() >= 990,
        "a backoff lies between: {attempts:?}"
    );
}

#[tokio::test]
async fn the_steps_that_need_a_failed_one_are_skipped_and_others_go_on() {
    let scene = Scene::new().await;
    let submission = steps(&json!([
        { "id": "bad", "command": ["sh", "-c", "echo kept > $ROADSTEAD_ARTIFACTS/why; kill -9 $$"] },
        { "id": "after", "command": ["true"], "needs": ["bad"] },
        { "id": "beside", "command": ["sh", "-c", "echo '{}' > $ROADSTEAD_RESULT"] },
    ]));
    let execution = scene.run(&submission.with(json!({ "max_retries": 0 }))).await;
    assert_eq!((&execution["state"], &execution["reason"]["code"]), (&json!("failed"), &json!("step_failed")));
    let attempts = attempts(&scene, &execution).await;
    let state = |step: usize| attempts[0]["steps"][step]["state"].as_str().unwrap();
    assert_eq!((state(0), state(1), state(2)), ("failed", "skipped", "succeeded"));
    assert_eq!(attempts[0]["steps"][0]["signal"], 9);
    let artifacts = scene.items(&format!("/v1/executions/{}/artifacts", id(&execution))).await;
    assert_eq!(artifacts[0]["path"], "why", "what there is may explain it");
}

#[tokio::test]
async fn what_would_fail_again_is_not_tried_again() {
    let scene = Scene::new().await;
    for (submission, code) in [
        (command(&["/no/such/program"]), "step_failed"),
        (shell("echo 'no JSON' > $ROADSTEAD_RESULT"), "result_invalid"),
        (shell("printf '\"\\377\"' > $ROADSTEAD_RESULT"), "result_invalid"),
        (shell("ln -s /etc/passwd $ROADSTEAD_ARTIFACTS/x"), "artifact_invalid"),
    ] {
        let execution = scene.run(&submission.with(json!({ "max_retries": 3 }))).await;
        assert_eq!((&execution["state"], &execution["attempt"]), (&json!("failed"), &json!(1)), "{execution}");
        assert_eq!(execution["reason"]["code"], code, "{execution}");
    }
}

#[tokio::test]
async fn what_exceeds_a_bound_is_refused_and_says_so() {
    let scene = Scene::with(&[
        ("MAX_RESULT_BYTES", "1000"),
        ("MAX_ARTIFACTS", "2"),
        ("MAX_ARTIFACT_BYTES", "1000"),
        ("MAX_LOG_BYTES", "1000"),
    ])
    .await;
    let large = "printf '\"%02000d\"' 0";
    for (script, code) in [
        (format!("{large} > $ROADSTEAD_RESULT"), "result_too_large"),
        (format!("{large} > $ROADSTEAD_ARTIFACTS/x"), "artifact_limit"),
        ("cd $ROADSTEAD_ARTIFACTS; touch a b c".to_owned(), "artifact_limit"),
    ] {
        let execution = scene.run(&shell(&script)).await;
        assert_eq!(
            (&execution["state"], &execution["reason"]["code"]),
            (&json!("failed"), &json!(code)),
            "{execution}"
        );
    }
    let execution = scene.succeed("for n in $(seq 1000); do echo \"line $n\"; done").await;
    let log = scene.log(&id(&execution)).await;
    assert!(log.len() < 2_000 && log.starts_with("line 1\nline 2\n"), "{log}");
    let last = log.lines().last().unwrap();
    assert!(!last.starts_with("line"), "the last line tells that the log was cut: {last}");
}

#[tokio::test]
async fn an_executor_that_ends_without_a_word_is_a_failed_or_lost_attempt_at_once() {
    let scene = Scene::new().await;
    let script = "[ $ROADSTEAD_ATTEMPT = 2 ] || kill -9 $PPID; echo survived";
    let execution = scene.run(&shell(script)).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("succeeded"), &json!(2)), "{execution}");
    let attempts = attempts(&scene, &execution).await;
    assert_eq!(attempts[0]["state"], "lost", "{attempts:?}");
    assert!(attempts[0]["reason"]["code"].is_string(), "{attempts:?}");
}
