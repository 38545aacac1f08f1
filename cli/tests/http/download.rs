//! Downloads: where the key goes and does not go, what is kept, and what lands where.

use crate::server::{Answer, ID, Server, answer, problem};
use sha2::{Digest, Sha256};

fn sha256(content: &str) -> String {
    hex::encode(Sha256::digest(content))
}

fn artifacts(entries: &[(&str, &str)]) -> String {
    let items: Vec<String> = entries
        .iter()
        .map(|(path, content)| {
            format!(r#"{{"path":"{path}","size_bytes":{},"sha256":"{}"}}"#, content.len(), sha256(content))
        })
        .collect();
    format!(r#"{{"items":[{}],"next_cursor":null}}"#, items.join(","))
}

fn redirect(to: String) -> Answer {
    Answer { headers: vec![("location", to)], ..answer(307, "") }
}

#[tokio::test]
async fn artifacts_come_through_presigned_urls_without_the_key() {
    let store = Server::start(|_, _| answer(200, "a,b\n1,2\n")).await;
    let place = format!("{}/bucket/key?X-Amz-Signature=secret", store.url);
    let list = artifacts(&[("out/table 1.csv", "a,b\n1,2\n")]);
    let server = Server::start(move |_, asked| {
        if asked.path.ends_with("/artifacts") { answer(200, list.clone()) } else { redirect(place.clone()) }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("new");
    let ran = server.run(&["artifacts", ID, "--download", target.to_str().unwrap()]).await;
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    let file = target.join("out/table 1.csv");
    assert_eq!(ran.stdout, format!("{}\n", file.display()));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "a,b\n1,2\n");
    assert_eq!(server.asked()[1].path, format!("/v1/executions/{ID}/artifacts/out/table%201.csv"));
    assert_eq!(store.asked()[0].header("authorization"), None);
}

#[tokio::test]
async fn content_that_is_not_what_was_announced_is_not_kept() {
    let list = artifacts(&[("x", "right")]);
    let server = Server::start(move |_, asked| {
        if asked.path.ends_with("/artifacts") { answer(200, list.clone()) } else { answer(200, "wrong") }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let ran = server.run(&["artifacts", ID, "--download", folder.path().to_str().unwrap()]).await;
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains(&sha256("right")), "{}", ran.stderr);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_path_that_leads_outside_is_refused() {
    let list = artifacts(&[("../escaped", "x")]);
    let server =
        Server::start(
            move |_, asked| {
                if asked.path.ends_with("/artifacts") { answer(200, list.clone()) } else { answer(200, "x") }
            },
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    let ran = server.run(&["artifacts", ID, "--download", inside.to_str().unwrap()]).await;
    assert_eq!(ran.status, 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside the folder");
    assert_eq!(std::fs::read_dir(inside).unwrap().count(), 0);
}

#[tokio::test]
async fn an_expired_url_is_told_without_its_signature() {
    let store = Server::start(|_, _| problem(403, "expired")).await;
    let place = format!("{}/bucket/key?X-Amz-Signature=secret", store.url);
    let server = Server::start(move |_, _| redirect(place.clone())).await;
    let ran = server.run(&["result", ID]).await;
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("/bucket/key") && !ran.stderr.contains("secret"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_result_is_printed_byte_for_byte() {
    let server = Server::start(|_, _| answer(200, r#"{"b": 1.50,  "a":[]}"#)).await;
    assert_eq!(server.run(&["result", ID]).await.stdout, "{\"b\": 1.50,  \"a\":[]}\n");
    assert_eq!(server.run(&["result", ID, "--format", "json"]).await.stdout, "{\"b\": 1.50,  \"a\":[]}\n");
    assert_eq!(server.run(&["result", ID, "--format", "yaml"]).await.stdout, "b: 1.5\na: []\n");
}
