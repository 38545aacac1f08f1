//! Redis is a hint: wiped, away or wrong, nothing is lost.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command, shell, wait_for_file};
use roadstead_testkit::{PATIENCE, Stack, wait_for};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn redis_may_be_absent_at_the_start() {
    let stack = Stack::builder().own_redis().start().await;
    stack.redis.process().kill();
    let scene = Scene::on(stack, &[]).await;
    let worker = scene.stack.worker().spawn();
    scene.api.anonymous().get("/readyz").await.expect(200);
    let ids = [scene.submit(&command(&["true"])).await, scene.submit(&command(&["true"])).await];
    assert_eq!(scene.execution(&ids[0]).await["state"], "queued");
    assert!(worker.is_running(), "{}", worker.log());
    scene.stack.redis.restart().await;
    for id in &ids {
        assert_eq!(scene.ended(id).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn what_a_wipe_took_is_found_again_within_seconds() {
    let settings = [("MAX_CONCURRENT_JOBS", "2")];
    let mut scene = Scene::on(Stack::builder().own_redis().start().await, &settings).await;
    scene.add_worker(&settings).await;
    let go = scene.file("go");
    for _ in 0..2 {
        let id = scene.submit(&shell(&wait_for_file(&go))).await;
        scene.reaches(&id, "running").await;
    }
    let batch = json!({ "executions": vec![command(&["true"]); 30] });
    let answer = scene.post("/v1/executions/batch", &batch).await.ok(202);
    let _: String = scene.stack.redis.command(&["FLUSHALL"]).await;
    let began = Instant::now();
    std::fs::write(&go, "").unwrap();
    let first = id(&answer["executions"][0]);
    scene.ended(&first).await;
    assert!(began.elapsed() < Duration::from_secs(8), "5 s, and a busy machine's time: {:?}", began.elapsed());
    for execution in answer["executions"].as_array().unwrap() {
        assert_eq!(scene.ended(&id(execution)).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn a_row_that_never_came_into_its_stream_is_found() {
    let mut scene = Scene::idle(&[]).await;
    scene.add_worker(&[("KUBERNETES_RECONCILE_INTERVAL", "2s")]).await;
    // As an API leaves it that dies between the commit and the XADD.
    let id = scene.submit(&command(&["true"]).with(json!({ "run_at": "2100-01-01T00:00:00Z" }))).await;
    let lost = "UPDATE executions SET state = 'queued', enqueued = true, queued_at = now() - interval '1 minute', run_at = NULL";
    scene.stack.sql(lost).await;
    assert_eq!(scene.ended(&id).await["state"], "succeeded");
}

#[tokio::test]
async fn an_outage_of_redis_stops_no_submission_and_no_run() {
    let mut scene = Scene::on(Stack::builder().own_redis().start().await, &[]).await;
    scene.add_worker(&[]).await;
    let go = scene.file("go");
    let running = scene.submit(&shell(&wait_for_file(&go))).await;
    scene.reaches(&running, "running").await;
    scene.stack.redis.process().kill();
    let submitted = scene.submit(&command(&["true"])).await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(scene.ended(&running).await["state"], "succeeded");
    let health = scene.api.anonymous().get("/readyz").await;
    assert_eq!(health.status, 200, "{}", health.text());
    scene.stack.redis.restart().await;
    assert_eq!(scene.ended(&submitted).await["state"], "succeeded");
}

#[tokio::test]
async fn ids_that_mean_nothing_are_swept_away() {
    let mut scene = Scene::on(Stack::builder().own_redis().start().await, &[]).await;
    scene.add_worker(&[]).await;
    scene.succeed("true").await;
    // An id that nobody has, and the same id twice.
    let stream = format!("{{{}}}:q:{}:1", scene.stack.redis_prefix, roadstead_e2e::scene::TENANT);
    let stranger = uuid::Uuid::now_v7().to_string();
    let known = scene.submit(&command(&["true"]).with(json!({ "run_at": "2100-01-01T00:00:00Z" }))).await;
    for id in [&stranger, &known, &known] {
        let _: String = scene.stack.redis.command(&["XADD", &stream, "*", "id", id]).await;
    }
    assert_eq!(scene.succeed("true").await["attempt"], 1);
    wait_for("the stream to be empty", PATIENCE, async || {
        let length: i64 = scene.stack.redis.command(&["XLEN", &stream]).await;
        if length == 0 { Ok(()) } else { Err(length.to_string()) }
    })
    .await;
    assert_eq!(scene.execution(&known).await["state"], "scheduled", "it was not claimed before its time");
}
