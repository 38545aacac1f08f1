//! A key makes a submission the same however often it is sent.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::json;
use std::collections::HashSet;

const KEY: &[(&str, &str)] = &[("idempotency-key", "order-1")];

#[tokio::test]
async fn the_same_submission_has_the_same_answer() {
    let scene = Scene::new().await;
    let body = command(&["true"]).with(json!({ "labels": { "n": "1" } })).to_string();
    let first = scene.submit_text(KEY, &body).await;
    let id = id(&first.ok(202));
    scene.ended(&id).await;
    let second = scene.submit_text(KEY, &body).await;
    assert_eq!((second.status, second.text()), (first.status, first.text()), "also after its end");
    assert_eq!(second.value("location"), first.value("location"));
    let other = command(&["false"]).to_string();
    scene.submit_text(KEY, &other).await.problem(422, "idempotency-key-reused");
    scene.client_of("other", "submit").await.submit_text(KEY, &other).await.ok(202);
    scene.api.terminate().await;
    scene.api.start_again().await;
    assert_eq!(scene.submit_text(KEY, &body).await.text(), first.text(), "the database remembers");
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions").await, "2");
}

#[tokio::test]
async fn twenty_at_once_are_one() {
    let scene = Scene::idle(&[]).await;
    let body = command(&["true"]).to_string();
    let asked = (0..20).map(|_| {
        let (client, body) = (scene.client.clone(), body.clone());
        tokio::spawn(async move { client.submit_text(KEY, &body).await })
    });
    let mut ids = HashSet::new();
    for answer in asked.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        if answer.status == 409 {
            answer.problem(409, "idempotency-in-flight");
        } else {
            ids.insert(id(&answer.ok(202)));
        }
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions").await, "1");
}

#[tokio::test]
async fn a_batch_has_a_key_as_a_whole() {
    let scene = Scene::idle(&[]).await;
    let headers = [("idempotency-key", "fleet"), ("content-type", "application/json")];
    let batch = |count: usize| json!({ "executions": vec![command(&["true"]); count] }).to_string();
    let first = scene.send_with(Method::POST, "/v1/executions/batch", &headers, &batch(3)).await;
    let again = scene.send_with(Method::POST, "/v1/executions/batch", &headers, &batch(3)).await;
    assert_eq!((first.ok(202), first.text()), (again.ok(202), again.text()));
    scene
        .send_with(Method::POST, "/v1/executions/batch", &headers, &batch(4))
        .await
        .problem(422, "idempotency-key-reused");
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions").await, "3");
}

#[tokio::test]
async fn a_large_input_may_be_sent_again() {
    let scene = Scene::idle(&[]).await;
    let input = "x".repeat(300_000);
    let body = command(&["true"]).with(json!({ "input": input })).to_string();
    let first = scene.submit_text(KEY, &body).await;
    let again = scene.submit_text(KEY, &body).await;
    assert_eq!((first.ok(202), first.text()), (again.ok(202), again.text()));
    let other = command(&["true"]).with(json!({ "input": format!("{input}y") })).to_string();
    scene.submit_text(KEY, &other).await.problem(422, "idempotency-key-reused");
    wait_for("what was refused to be removed", PATIENCE, async || {
        let payloads = scene.stack.s3.keys(&scene.stack.content_bucket);
        if payloads.len() == 1 { Ok(()) } else { Err(format!("{payloads:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_key_that_can_not_be_one_is_refused() {
    let scene = Scene::idle(&[]).await;
    let body = command(&["true"]).to_string();
    let before = scene.rows().await;
    for key in ["", &"k".repeat(256), "a b\tc"] {
        scene.submit_text(&[("idempotency-key", key)], &body).await.problem(400, "invalid-request");
    }
    assert_eq!(scene.rows().await, before);
}
