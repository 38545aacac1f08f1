//! What Kubernetes finds nothing wrong with, and yet does not start in time.

use crate::lab::{RUN, script};
use crate::outside::{MACHINE, Outside};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpListener;

const START_TIMEOUT_SECONDS: &str = "6";
/// From the deadline to the end of the attempt that missed it.
const PROMPT: Duration = Duration::from_secs(5);

async fn outside() -> Outside {
    Outside::new(&[("JOB_START_TIMEOUT_SECONDS", START_TIMEOUT_SECONDS), ("KILL_GRACE_SECONDS", "2")]).await
}

/// An attempt misses its start, is told promptly, and leaves nothing; answers what is told.
async fn misses_its_start(outside: &Outside, spec: Value) -> String {
    let id = outside.submit(spec, 0).await;
    let execution = outside.sees(&id, "its end", RUN, |execution| !execution["finished_at"].is_null()).await;
    assert_eq!(
        (&execution["state"], &execution["reason"]["code"], &execution["started_at"]),
        (&json!("failed"), &json!("start_timeout"), &Value::Null),
        "{execution}"
    );
    let attempt = outside.attempts(&id).await.remove(0);
    let at = |name: &str| attempt[name].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let deadline = at("claimed_at") + Duration::from_secs(START_TIMEOUT_SECONDS.parse().unwrap());
    let late = (at("finished_at") - deadline).to_std().expect("not before its deadline");
    println!("failed {late:?} after the deadline: {}", attempt["reason"]);
    assert!(late < PROMPT, "{late:?}: {attempt}");
    outside.nothing_is_left(RUN).await;
    attempt["reason"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn an_executor_that_can_not_reach_the_api_misses_its_start() {
    let outside = outside().await;
    outside.to_api.cut();
    let told = misses_its_start(&outside, script("true")).await;
    assert_eq!(told, "no start was granted in time", "its image was there");
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_registry_that_never_answers_is_a_missed_start() {
    let outside = outside().await;
    // Connections are made, and nobody says a word.
    let registry = TcpListener::bind((MACHINE, 0)).await.unwrap();
    let mut spec = script("true");
    spec["image"] = json!(format!("{}/silent:1", registry.local_addr().unwrap()));
    let told = misses_its_start(&outside, spec).await;
    assert!(told.contains("waits for its images"), "{told}");
}
