//! Tenants see nothing of each other, on every route; roles allow what they say.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command, shell};
use serde_json::json;
use uuid::Uuid;

const SUFFIXES: &[(&str, &str)] = &[
    ("GET", ""),
    ("HEAD", ""),
    ("GET", "?wait=5s"),
    ("POST", "/cancel"),
    ("POST", "/retry"),
    ("GET", "/attempts"),
    ("GET", "/events"),
    ("GET", "/logs"),
    ("GET", "/logs?follow=true"),
    ("GET", "/result"),
    ("GET", "/artifacts"),
    ("GET", "/artifacts/file"),
];

#[tokio::test]
async fn an_id_of_another_tenant_is_as_unknown_as_one_that_never_was() {
    let scene = Scene::new().await;
    let script = "echo 1 > $ROADSTEAD_RESULT; echo x > $ROADSTEAD_ARTIFACTS/file; echo hush";
    let ended = id(&scene.succeed(script).await);
    let waiting = scene.submit(&command(&["true"]).with(json!({ "run_at": "2100-01-01T00:00:00Z" }))).await;
    scene.put("/v1/workflows/greet", &command(&["true"])["spec"]).await.ok(201);
    let before = scene.rows().await;

    let stranger = scene.client_of("other", "admin").await;
    let never = Uuid::now_v7().to_string();
    for (method, suffix) in SUFFIXES {
        let ask = async |id: &str| {
            let accept = if suffix.contains("follow") { "text/event-stream" } else { "*/*" };
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = stranger.request(method, &format!("/v1/executions/{id}{suffix}")).header("accept", accept);
            stranger.send(request.header("x-request-id", "same")).await
        };
        let unknown = ask(&never).await;
        if *method != "HEAD" {
            unknown.problem(404, "not-found");
        }
        for id in [&ended, &waiting, "no-id", "%00", "..%2f.."] {
            let answer = ask(id).await;
            assert_eq!((answer.status, answer.text()), (unknown.status, unknown.text()), "{method} {id}{suffix}");
        }
    }
    assert!(stranger.items("/v1/executions").await.is_empty());
    assert!(stranger.items("/v1/workflows").await.is_empty());
    for path in ["/v1/workflows/greet", "/v1/workflows/greet/versions/1"] {
        stranger.get(path).await.problem(404, "not-found");
    }
    stranger.post("/v1/executions", &json!({ "workflow": "greet" })).await.problem(400, "unknown-workflow");
    assert_eq!(scene.rows().await, before, "and nothing was changed by asking");
    assert_eq!(scene.execution(&waiting).await["state"], "scheduled");
    stranger.put("/v1/workflows/greet", &command(&["false"])["spec"]).await.ok(201);
    assert_eq!(scene.get("/v1/workflows/greet").await.ok(200)["definition"], command(&["true"])["spec"]);
}

#[tokio::test]
async fn a_key_that_may_read_may_do_nothing_else() {
    let scene = Scene::new().await;
    let execution = id(&scene.succeed("echo 1 > $ROADSTEAD_RESULT").await);
    scene.put("/v1/workflows/greet", &command(&["true"])["spec"]).await.ok(201);
    let reader = scene.client_of(roadstead_e2e::scene::TENANT, "read").await;
    let path = format!("/v1/executions/{execution}");
    for path in [path.as_str(), "/v1/executions", "/v1/workflows", "/v1/workflows/greet", "/v1/capacity"] {
        reader.get(path).await.ok(200);
    }
    for suffix in ["/attempts", "/events", "/logs", "/result", "/artifacts"] {
        reader.get(&format!("{path}{suffix}")).await.expect(200);
    }
    let before = scene.rows().await;
    for (path, body) in [
        ("/v1/executions", shell("true")),
        ("/v1/executions/batch", json!({ "executions": [shell("true")] })),
        (format!("{path}/cancel").as_str(), json!(null)),
        (format!("{path}/retry").as_str(), json!(null)),
    ] {
        reader.post(path, &body).await.problem(403, "forbidden");
    }
    reader.put("/v1/workflows/greet", &command(&["false"])["spec"]).await.problem(403, "forbidden");
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn a_users_key_is_no_attempts_key() {
    let scene = Scene::new().await;
    let go = scene.file("go");
    let running = scene.submit(&shell(&roadstead_e2e::submission::wait_for_file(&go))).await;
    scene.reaches(&running, "running").await;
    let path = format!("/v1/attempts/{running}/1");
    let finish = json!({ "outcome": { "status": "failed", "retryable": false }, "steps": [] });
    for (route, body) in [
        ("start", json!({ "session_token": "0".repeat(64) })),
        ("heartbeat", json!({})),
        ("finish", finish),
        ("uploads", json!({ "objects": [{ "object": "result", "size_bytes": 1 }] })),
        ("uploads/parts", json!({ "path": "x", "upload_id": "x", "parts": [1] })),
        ("uploads/complete", json!({ "path": "x", "upload_id": "x", "etags": ["x"] })),
    ] {
        let admin = scene.client_of(roadstead_e2e::scene::TENANT, "admin").await;
        for client in [&scene.client, &admin, &scene.api.anonymous()] {
            let answer = client.post(&format!("{path}/{route}"), &body).await;
            assert!(
                [401, 403, 404, 410].contains(&answer.status.as_u16()),
                "{route}: {} {}",
                answer.status,
                answer.text()
            );
        }
    }
    std::fs::write(go, "").unwrap();
    assert_eq!(scene.ended(&running).await["state"], "succeeded");
}
