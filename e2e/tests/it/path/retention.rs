//! What has ended is kept for its time, and then nothing of it.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::json;

#[tokio::test]
async fn an_execution_past_its_retention_is_gone_with_all_that_belongs_to_it() {
    let mut scene = Scene::new().await;
    let input = "x".repeat(100_000);
    let script = "echo hello; echo x > $ROADSTEAD_ARTIFACTS/x; echo 1 > $ROADSTEAD_RESULT";
    let ended = scene.run(&command(&["sh", "-c", script]).with(json!({ "input": input }))).await;
    assert_eq!(ended["state"], "succeeded");
    let waiting = scene.submit(&command(&["true"]).with(json!({ "run_at": "2100-01-01T00:00:00Z" }))).await;
    assert!(scene.stack.s3.keys(&scene.stack.content_bucket).len() >= 4);
    scene.workers[0].terminate().await;
    // A day later.
    scene
        .stack
        .sql("UPDATE executions SET finished_at = finished_at - interval '1 day' WHERE finished_at IS NOT NULL")
        .await;
    scene.add_worker(&[("RETENTION", "12h")]).await;
    wait_for("the execution to be gone", PATIENCE, async || {
        let answer = scene.get(&format!("/v1/executions/{}", id(&ended))).await;
        if answer.status == 404 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    wait_for("its objects to be gone", PATIENCE, async || {
        let keys = scene.stack.s3.keys(&scene.stack.content_bucket);
        if keys.is_empty() { Ok(()) } else { Err(format!("{keys:?}")) }
    })
    .await;
    assert_eq!(scene.rows().await, "1 0 0 0 0", "rows of its attempts and its timeline are gone too");
    assert_eq!(scene.get(&format!("/v1/executions/{waiting}")).await.ok(200)["state"], "scheduled");
}
