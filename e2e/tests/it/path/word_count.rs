//! The example that a newcomer sees first, to the byte.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::events::Events;
use roadstead_e2e::scene::{Executions, Scene, TENANT};
use roadstead_testkit::Client;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

const WORDS_CSV_SHA256: &str = "beabbeb4f0a7d5831e1d4e8b0c0fc96887a4b1da2b971c7ab1dc66bbf7a21897";

fn example(file: &str) -> Vec<u8> {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/word-count"));
    std::fs::read(folder.join(file)).unwrap()
}

/// Applies the workflow and submits it with its input.
async fn submit(client: &Client) -> String {
    let definition = String::from_utf8(example("workflow.yaml")).unwrap();
    let headers = [("content-type", "application/yaml")];
    let applied = client.send_with(Method::PUT, "/v1/workflows/word-count", &headers, &definition).await;
    assert_eq!(applied.ok(201)["version"], 1);
    let input = String::from_utf8(example("input.json")).unwrap();
    let answer = client.submit_text(&[], &format!("{{\"workflow\":\"word-count\",\"input\":{input}}}")).await;
    let execution = answer.ok(202);
    let id = execution["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.value("location"), format!("/v1/executions/{id}"));
    assert_eq!((&execution["workflow"], &execution["version"]), (&"word-count".into(), &1.into()));
    id
}

#[tokio::test]
async fn the_word_count_gives_its_result_its_artifacts_and_its_log() {
    let scene = Scene::new().await;
    let id = submit(&scene).await;
    let execution = scene.ended(&id).await;
    assert_eq!(execution["state"], "succeeded", "{execution}\n{}", scene.log(&id).await);
    assert_eq!(execution["attempt"], 1);
    assert!(execution["started_at"].is_string() && execution["finished_at"].is_string(), "{execution}");

    let result = scene.get(&format!("/v1/executions/{id}/result")).await.expect(200);
    assert_eq!(result.text(), String::from_utf8(example("expected/result.json")).unwrap());
    assert_eq!(result.value("content-type"), "application/json");
    let kept = scene.stack.s3.object(&scene.stack.content_bucket, &format!("{TENANT}/{id}/1/result.json"));
    assert_eq!(kept.unwrap(), result.body, "the result is in S3");

    artifacts(&scene, &id).await;
    logs(&scene, &id).await;
}

async fn artifacts(scene: &Scene, id: &str) {
    let list = scene.items(&format!("/v1/executions/{id}/artifacts")).await;
    let paths: Vec<&str> = list.iter().map(|artifact| artifact["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["words.csv", "words.svg"]);
    assert_eq!(list[0]["sha256"], WORDS_CSV_SHA256);
    for artifact in &list {
        let path = artifact["path"].as_str().unwrap();
        let redirect = scene.get(&format!("/v1/executions/{id}/artifacts/{path}")).await.expect(307);
        let url = redirect.value("location");
        assert!(url.contains("X-Amz-Signature="), "{url}");
        // The URL is the whole permission: no key is sent with it.
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let content = answer.bytes().await.unwrap();
        assert_eq!(artifact["size_bytes"], content.len(), "{path}");
        assert_eq!(artifact["sha256"], hex::encode(Sha256::digest(&content)), "{path}");
        if path == "words.svg" {
            assert_eq!(content, example("expected/words.svg"));
        }
    }
    scene.get(&format!("/v1/executions/{id}/artifacts/words.txt")).await.problem(404, "not-found");
}

/// The three forms of a log tell the same.
async fn logs(scene: &Scene, id: &str) {
    let path = format!("/v1/executions/{id}/logs");
    let text = scene.get_as(&path, "text/plain").await.expect(200);
    assert!(text.value("content-type").starts_with("text/plain"), "{:?}", text.headers);
    assert_eq!(text.value("x-content-type-options"), "nosniff");
    let text = text.text();
    let plain: Vec<&str> = text.lines().collect();
    assert!(plain.len() >= 7, "each of the seven steps says something: {plain:?}");

    let lines = scene.get_as(&path, "application/x-ndjson").await.expect(200);
    assert_eq!(lines.value("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["line"].as_str().unwrap()).collect::<Vec<_>>(), plain);
    assert!(lines.iter().zip(0..).all(|(line, n)| line["n"] == n), "{lines:?}");
    let steps: std::collections::BTreeSet<&str> = lines.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(
        steps.into_iter().collect::<Vec<_>>(),
        ["count-1", "count-2", "count-3", "count-4", "merge", "report", "split"]
    );

    let mut events = Events::of(scene, &format!("{path}?follow=true"), &[]).await.rest().await;
    let end = events.pop().unwrap();
    assert_eq!((end.event.as_str(), &end.json()["state"]), ("end", &"succeeded".into()));
    let told: Vec<String> = events.iter().map(|event| event.json()["line"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, plain);
    assert_eq!(events[0].id, "1-0");

    let again = Events::of(scene, &path, &[("last-event-id", &events[3].id)]).await.rest().await;
    assert_eq!(again[..again.len() - 1], events[4..], "a stream that broke off goes on where it was");

    let tail = scene.get_as(&format!("{path}?tail=2"), "text/plain").await.text();
    assert_eq!(tail.lines().collect::<Vec<_>>(), plain[plain.len() - 2..]);
    let merge = scene.get_as(&format!("{path}?step=merge&stream=stdout"), "application/x-ndjson").await.text();
    let expected = lines.iter().filter(|line| line["step"] == "merge" && line["stream"] == "stdout").count();
    assert_eq!(merge.lines().count(), expected);
    assert!(expected > 0);
}
