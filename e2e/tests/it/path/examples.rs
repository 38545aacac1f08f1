//! The other examples do what they say.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::{Value, json};

fn example(name: &str) -> Value {
    let file = format!("{}/../examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(file).unwrap();
    json!(roadstead_domain::workflow::from_text(&text).unwrap())
}

#[tokio::test]
async fn hello_greets_with_its_input() {
    let scene = Scene::new().await;
    let execution = scene.run(&json!({ "spec": example("hello"), "input": { "name": "Ada" } })).await;
    assert_eq!(execution["result"], json!({ "greeting": "hello", "input": { "name": "Ada" } }), "{execution}");
    let id = execution["id"].as_str().unwrap();
    assert_eq!(scene.log(id).await, format!("Hello from execution {id}, attempt 1.\n"));
    assert_eq!(scene.kinds(id).await, ["submitted", "claimed", "started", "succeeded"]);
}

#[tokio::test]
async fn the_diamonds_branches_run_side_by_side() {
    let scene = Scene::new().await;
    let execution = scene.run(&json!({ "spec": example("diamond") })).await;
    assert_eq!(execution["result"]["lights"], json!(["red", "green"]), "{execution}");
    let attempts = scene.items(&format!("/v1/executions/{}/attempts", execution["id"].as_str().unwrap())).await;
    let step = |id: &str| {
        let steps = attempts[0]["steps"].as_array().unwrap();
        let step = steps.iter().find(|step| step["id"] == id).unwrap_or_else(|| panic!("{attempts:?}"));
        (step["started_at"].as_str().unwrap().to_owned(), step["finished_at"].as_str().unwrap().to_owned())
    };
    let (port, starboard, arrive) = (step("port"), step("starboard"), step("arrive"));
    assert!(port.0 < starboard.1 && starboard.0 < port.1, "both at once: {port:?} {starboard:?}");
    assert!(arrive.0 >= port.1 && arrive.0 >= starboard.1, "after both: {arrive:?}");
}

#[tokio::test]
async fn a_step_is_started_again_in_the_same_attempt() {
    let scene = Scene::new().await;
    let execution = scene.run(&json!({ "spec": example("retry") })).await;
    assert_eq!((&execution["result"], &execution["attempt"]), (&json!({ "throws": 3 }), &json!(1)), "{execution}");
    let attempts = scene.items(&format!("/v1/executions/{}/attempts", execution["id"].as_str().unwrap())).await;
    assert_eq!(attempts[0]["steps"][0]["tries"], 3);
}

#[tokio::test]
async fn a_voyage_can_be_called_back() {
    let scene = Scene::new().await;
    let id = scene.submit(&json!({ "spec": example("cancel-me") })).await;
    // Also before its end is near the log can be read, and while somebody follows within a second.
    wait_for("the first mile in the log", PATIENCE, async || {
        let log = scene.get_as(&format!("/v1/executions/{id}/logs?follow=false"), "text/plain").await.text();
        if log.contains("mile 1 of 300") { Ok(()) } else { Err(log) }
    })
    .await;
    let asked = scene.ask(&format!("/v1/executions/{id}/cancel")).await.ok(202);
    assert_eq!((&asked["id"], &asked["cancel_requested"]), (&json!(id), &json!(true)));
    let execution = scene.ended(&id).await;
    assert_eq!(
        (&execution["state"], &execution["reason"]["code"]),
        (&json!("cancelled"), &json!("cancelled")),
        "{execution}"
    );
    assert!(scene.log(&id).await.contains("called back after"), "the trap had its time");
    let again = scene.ask(&format!("/v1/executions/{id}/cancel")).await.ok(202);
    assert_eq!(again["state"], "cancelled");
}
