//! What runs, runs as in any other place: any image, a clean environment, and an end that leaves nothing.

use crate::lab::{Lab, script, variable};
use serde_json::json;
use std::time::Instant;

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn an_image_without_a_shell_runs() {
    let lab = Lab::new().await;
    let id = lab
        .submit(json!({"image": variable("ROADSTEAD_IMAGE_HELLO"), "steps": [{"id": "hello", "command": ["/hello"]}],
        "resources": {"cpu": "100m", "memory": "64Mi", "ephemeral_storage": "64Mi"}}))
        .await;
    let execution = lab.ended(&id).await;
    assert_eq!(execution["state"], "succeeded", "{execution}");
    assert!(!lab.log(&id).await.is_empty());
    lab.is_cleared(&id).await;
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn results_and_artifacts_go_to_s3_from_a_pod() {
    let lab = Lab::new().await;
    let id = lab
        .submit(script("echo '{\"n\": 1.50}' > $ROADSTEAD_RESULT; echo kept > $ROADSTEAD_ARTIFACTS/file; echo seen"))
        .await;
    let execution = lab.ended(&id).await;
    assert_eq!((&execution["state"], &execution["result"]["n"]), (&json!("succeeded"), &json!(1.5)), "{execution}");
    assert_eq!(lab.log(&id).await.trim(), "seen");
    let link = lab.client.get(&format!("/v1/executions/{id}/artifacts/file")).await.expect(307);
    let object = reqwest::get(link.header("location").unwrap()).await.unwrap();
    assert_eq!(object.text().await.unwrap().trim(), "kept", "this machine reads what the pod wrote");
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_cancel_ends_what_runs_and_what_waits() {
    let lab = Lab::new().await;
    let (running, pending) = (
        lab.submit(script("echo begun; sleep 300")).await,
        lab.submit(json!({"image": crate::lab::busybox(), "steps": [{"id": "a", "command": ["true"]}], "resources": {"cpu": "4"}})).await,
    );
    lab.says(&pending, "unschedulable").await;
    lab.runs(&running).await;
    let asked = Instant::now();
    for id in [&running, &pending] {
        lab.cancel(id).await;
    }
    for id in [&running, &pending] {
        let execution = lab.ended(id).await;
        assert_eq!(execution["state"], "cancelled", "{execution}");
        lab.is_cleared(id).await;
    }
    println!("both cancelled and cleared after {:?}", asked.elapsed());
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_timeout_ends_the_pod() {
    let lab = Lab::new().await;
    let mut spec = script("sleep 300");
    spec["timeout_seconds"] = json!(3);
    let id = lab.submit(spec).await;
    assert_eq!(lab.ended(&id).await["state"], "timed_out");
    lab.is_cleared(&id).await;
}
