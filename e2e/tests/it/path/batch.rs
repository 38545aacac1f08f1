//! Batches: up to a thousand, all or none.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command};
use serde_json::{Value, json};
use std::collections::HashSet;

const PATH: &str = "/v1/executions/batch";

fn batch(count: usize) -> Value {
    json!({ "executions": vec![command(&["true"]); count] })
}

#[tokio::test]
async fn a_thousand_are_accepted_and_run() {
    let scene = Scene::idle(&[]).await;
    let answer = scene.post(PATH, &batch(1_000)).await.ok(202);
    let executions = answer["executions"].as_array().unwrap();
    let ids: HashSet<String> = executions.iter().map(id).collect();
    assert_eq!(ids.len(), 1_000);
    assert!(executions.iter().all(|execution| execution["state"] == "queued"));
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions WHERE state = 'queued'").await, "1000");
}

#[tokio::test]
async fn the_order_of_the_answer_is_the_order_of_the_request() {
    let scene = Scene::new().await;
    let items: Vec<Value> =
        (0..6).map(|n| command(&["true"]).with(json!({ "labels": { "n": n.to_string() } }))).collect();
    let answer = scene.post(PATH, &json!({ "executions": items })).await.ok(202);
    for (n, execution) in answer["executions"].as_array().unwrap().iter().enumerate() {
        assert_eq!(execution["labels"]["n"], n.to_string());
        assert_eq!(scene.ended(&id(execution)).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn one_mistake_refuses_all() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let mut items = vec![command(&["true"]); 4];
    items[2] =
        json!({ "spec": { "steps": [{ "id": "a", "command": ["true"], "needs": ["b"] }] }, "priority": "urgent" });
    let answer = scene.post(PATH, &json!({ "executions": items })).await;
    answer.problem(400, "invalid-request");
    assert!(answer.error_at("/executions/2/spec/steps/0/needs/0").contains("`b`"));
    answer.error_at("/executions/2/priority");
    let answer = scene.post(PATH, &json!({ "executions": [{ "workflow": "nobody-knows" }, command(&["true"])] })).await;
    answer.problem(400, "unknown-workflow");
    assert!(answer.error_at("/executions/0/workflow").contains("nobody-knows"));
    for body in
        [batch(0), batch(1_001), json!({}), json!([]), json!({ "executions": {} }), json!({ "executions": [1] })]
    {
        scene.post(PATH, &body).await.problem(400, "invalid-request");
    }
    let large = json!({ "executions": [command(&["true"]).with(json!({ "input": "x".repeat(70_000) }))] });
    scene.post(PATH, &large).await.problem(413, "too-large");
    assert_eq!(scene.rows().await, before);
}
