//! PostgreSQL is the truth: without it nothing is promised, and nothing that was promised is lost with a crash of its.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene};
use roadstead_e2e::submission::{command, shell, wait_for_file};
use roadstead_testkit::{PATIENCE, Stack, wait_for};

#[tokio::test]
async fn a_crash_of_postgresql_is_an_outage_and_nothing_more() {
    let mut scene = Scene::on(Stack::builder().own_postgres().start().await, &[("MAX_CONCURRENT_JOBS", "1")]).await;
    scene.add_worker(&[("MAX_CONCURRENT_JOBS", "1")]).await;
    let (go, runs) = (scene.file("go"), scene.file("runs"));
    let script = format!("echo run >> {}; {}", runs.display(), wait_for_file(&go));
    let running = scene.submit(&shell(&script)).await;
    scene.reaches(&running, "running").await;
    let queued = scene.submit(&command(&["true"])).await;

    scene.stack.postgres.crash().await;
    let refused = scene.post("/v1/executions", &command(&["true"])).await;
    refused.problem(503, "unavailable");
    assert!(refused.value("retry-after").parse::<u32>().is_ok(), "{:?}", refused.headers);
    let anonymous = scene.api.anonymous();
    anonymous.get("/livez").await.expect(200);
    assert_eq!(anonymous.get("/readyz").await.status, 503);
    // The step ends while nobody can be told.
    std::fs::write(&go, "").unwrap();

    scene.stack.postgres.restart().await;
    scene.api.ready().await;
    assert_eq!(scene.ended(&running).await["state"], "succeeded");
    assert_eq!(scene.ended(&queued).await["state"], "succeeded");
    assert_eq!(std::fs::read_to_string(runs).unwrap(), "run\n");
    wait_for("a submission to be accepted again", PATIENCE, async || {
        let answer = scene.post("/v1/executions", &command(&["true"])).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
}

#[tokio::test]
async fn the_api_waits_for_postgresql_at_its_start() {
    let stack = Stack::builder().own_postgres().start().await;
    let key = stack.key("acme", "submit").await;
    stack.postgres.stop().await;
    let api = stack.api().spawn();
    let worker = stack.worker().spawn();
    wait_for("the API to be alive", PATIENCE, async || {
        let client = api.anonymous();
        let answer =
            client.try_send(client.request(reqwest::Method::GET, "/livez")).await.map_err(|e| e.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    assert_eq!(api.anonymous().get("/readyz").await.status, 503);
    stack.postgres.restart().await;
    api.ready().await;
    let client = api.client(&key);
    assert_eq!(client.run(&command(&["true"])).await["state"], "succeeded");
    assert!(worker.is_running(), "{}", worker.log());
}
