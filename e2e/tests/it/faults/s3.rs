//! Without the object store what needs it waits, and what does not goes on.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, appears};
use roadstead_e2e::submission::{With, command, shell, wait_for_file};
use roadstead_testkit::Stack;
use serde_json::json;

#[tokio::test]
async fn an_attempt_that_can_not_ship_waits_for_the_store() {
    let mut scene = Scene::on(Stack::builder().own_s3().start().await, &[]).await;
    scene.add_worker(&[]).await;
    let (begun, go, done) = (scene.file("begun"), scene.file("go"), scene.file("done"));
    let script = format!(
        "echo begun > {}; {}; echo said; echo 7 > $ROADSTEAD_RESULT; echo kept > $ROADSTEAD_ARTIFACTS/x; echo done > {}",
        begun.display(),
        wait_for_file(&go),
        done.display()
    );
    let id = scene.submit(&shell(&script)).await;
    appears(&begun).await;
    scene.stack.s3.process().kill();
    let before = scene.rows().await;
    let large = command(&["true"]).with(json!({ "input": "x".repeat(100_000) }));
    let refused = scene.post("/v1/executions", &large).await;
    refused.problem(503, "unavailable");
    assert!(refused.value("retry-after").parse::<u32>().is_ok(), "{:?}", refused.headers);
    assert_eq!(scene.rows().await, before, "what can't be kept is not promised");
    let small = scene.submit(&command(&["true"])).await;
    scene.api.anonymous().get("/readyz").await.expect(200);
    std::fs::write(&go, "").unwrap();
    appears(&done).await;
    assert_eq!(scene.ended(&small).await["state"], "succeeded", "it has nothing to ship");

    scene.stack.s3.restart().await;
    let execution = scene.ended(&id).await;
    assert_eq!(
        (&execution["state"], &execution["attempt"], &execution["result"]),
        (&json!("succeeded"), &json!(1), &json!(7)),
        "{execution}"
    );
    assert_eq!(scene.log(&id).await, "said\n");
    assert_eq!(scene.items(&format!("/v1/executions/{id}/artifacts")).await.len(), 1);
}
