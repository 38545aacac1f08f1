//! The API goes away, in order or not, and there may be several of it.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::events::Events;
use roadstead_e2e::scene::{Executions, Scene, appears, id};
use roadstead_e2e::submission::{command, shell, wait_for_file};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A lease that an absence of some seconds comes near to.
const SHORT_LEASE: &[(&str, &str)] =
    &[("ATTEMPT_LEASE_SECONDS", "8"), ("KILL_GRACE_SECONDS", "1"), ("JOB_MAX_RETRIES", "0")];

#[tokio::test]
async fn a_run_survives_an_api_that_is_away_for_most_of_its_lease() {
    let scene = Scene::with(SHORT_LEASE).await;
    let (begun, go) = (scene.file("begun"), scene.file("go"));
    let script = format!(
        "echo before; echo begun > {}; {}; echo after; echo 1 > $ROADSTEAD_RESULT",
        begun.display(),
        wait_for_file(&go)
    );
    let id = scene.submit(&shell(&script)).await;
    appears(&begun).await;
    scene.api.kill();
    tokio::time::sleep(Duration::from_secs(4)).await;
    scene.api.start_again().await;
    std::fs::write(&go, "").unwrap();
    let execution = scene.ended(&id).await;
    assert_eq!(
        (&execution["state"], &execution["attempt"], &execution["result"]),
        (&json!("succeeded"), &json!(1), &json!(1)),
        "{execution}"
    );
    assert_eq!(scene.log(&id).await, "before\nafter\n");
}

#[tokio::test]
async fn a_run_that_ends_while_the_api_is_away_reports_when_it_is_back() {
    let scene = Scene::new().await;
    let (begun, go, done) = (scene.file("begun"), scene.file("go"), scene.file("done"));
    let script = format!(
        "echo begun > {}; {}; echo 1 > $ROADSTEAD_RESULT; echo x > $ROADSTEAD_ARTIFACTS/x; echo done > {}",
        begun.display(),
        wait_for_file(&go),
        done.display()
    );
    let id = scene.submit(&shell(&script)).await;
    appears(&begun).await;
    scene.api.kill();
    std::fs::write(&go, "").unwrap();
    appears(&done).await;
    scene.api.start_again().await;
    let execution = scene.ended(&id).await;
    assert_eq!(
        (&execution["state"], &execution["attempt"], &execution["result"]),
        (&json!("succeeded"), &json!(1), &json!(1)),
        "{execution}"
    );
    assert_eq!(scene.items(&format!("/v1/executions/{id}/artifacts")).await.len(), 1);
}

#[tokio::test]
async fn an_attempt_that_lost_the_api_for_too_long_stops_and_another_follows() {
    let mut settings = SHORT_LEASE.to_vec();
    settings.push(("JOB_MAX_RETRIES", "1"));
    let scene = Scene::with(&settings).await;
    let marks = scene.file("marks");
    let script = format!(
        "echo \"start $ROADSTEAD_ATTEMPT\" >> {0}; trap 'echo \"stopped $ROADSTEAD_ATTEMPT\" >> {0}; exit 1' TERM; [ $ROADSTEAD_ATTEMPT = 2 ] || {{ sleep 1000 & wait; }}",
        marks.display()
    );
    let id = scene.submit(&shell(&script)).await;
    appears(&marks).await;
    scene.api.kill();
    roadstead_testkit::wait_for("the attempt to stop itself", roadstead_testkit::PATIENCE, async || {
        let marks = std::fs::read_to_string(&marks).unwrap();
        if marks.contains("stopped 1") { Ok(()) } else { Err(marks) }
    })
    .await;
    scene.api.start_again().await;
    let execution = scene.ended(&id).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("succeeded"), &json!(2)), "{execution}");
    assert_eq!(std::fs::read_to_string(&marks).unwrap(), "start 1\nstopped 1\nstart 2\n");
}

#[tokio::test]
async fn requests_that_are_under_way_are_answered_before_the_api_ends() {
    let scene = Scene::idle(&[]).await;
    let waiting = scene.submit(&command(&["true"])).await;
    let (client, path) = (scene.client.clone(), format!("/v1/executions/{waiting}?wait=60s"));
    let held = tokio::spawn(async move { client.get(&path).await });
    let mut log = Events::of(&scene, &format!("/v1/executions/{waiting}/logs?follow=true"), &[]).await;

    let body = command(&["true"]).to_string();
    let key = scene.stack.key(roadstead_e2e::scene::TENANT, "submit").await;
    let mut slow = TcpStream::connect(scene.api.url().strip_prefix("http://").unwrap()).await.unwrap();
    let head = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        body.len(),
        &body[..body.len() / 2]
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    // A request that is answered shows that the others have been read.
    scene.get("/v1/executions").await.ok(200);

    scene.api.signal(rustix::process::Signal::TERM);
    roadstead_testkit::wait_for("the listener to be closed", roadstead_testkit::PATIENCE, async || {
        match TcpStream::connect(scene.api.url().strip_prefix("http://").unwrap()).await {
            Ok(_) => Err("it listens".to_owned()),
            Err(_) => Ok(()),
        }
    })
    .await;
    slow.write_all(&body.as_bytes()[body.len() / 2..]).await.unwrap();
    let mut answer = vec![0; 12];
    slow.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 202");
    assert_eq!(id(&held.await.unwrap().ok(200)), waiting, "a held request is answered with what is known");
    while let Some(event) = log.next().await {
        assert_ne!(event.event, "end", "the execution has not ended, so neither has its log: {event:?}");
    }
    assert!(scene.api.ended().await.success(), "{}", scene.api.log());
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions").await, "2");
}

#[tokio::test]
async fn two_apis_are_one() {
    let mut scene = Scene::idle(&[]).await;
    let second = scene.stack.api().start().await;
    scene.add_worker(&[]).await;
    let key = scene.stack.key(roadstead_e2e::scene::TENANT, "submit").await;
    let other = second.client(&key);
    let id = scene.submit(&shell("echo here; sleep 1000")).await;
    let (waiter, path) = (other.clone(), format!("/v1/executions/{id}?wait=60s"));
    let held = tokio::spawn(async move { waiter.get(&path).await.ok(200) });
    scene.reaches(&id, "running").await;
    let mut log = Events::of(&other, &format!("/v1/executions/{id}/logs?follow=true"), &[]).await;
    assert_eq!(log.next().await.unwrap().json()["line"], "here");
    other.ask(&format!("/v1/executions/{id}/cancel")).await.ok(202);
    assert_eq!(held.await.unwrap()["state"], "cancelled");
    assert_eq!(log.rest().await.last().unwrap().json()["state"], "cancelled");

    let headers = [("idempotency-key", "one"), ("content-type", "application/json")];
    let body = command(&["true"]).to_string();
    let answers = tokio::join!(
        scene.send_with(Method::POST, "/v1/executions", &headers, &body),
        other.send_with(Method::POST, "/v1/executions", &headers, &body),
    );
    assert_eq!(answers.0.ok(202)["id"], answers.1.ok(202)["id"]);
    scene.put("/v1/workflows/greet", &command(&["true"])["spec"]).await.ok(201);
    other.post("/v1/executions", &json!({ "workflow": "greet" })).await.ok(202);
}
