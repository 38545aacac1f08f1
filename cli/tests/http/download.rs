//! Downloads: where the key goes and does not go, what is kept, and what lands where.

use crate::server::{Answer, ID, Server, answer, problem, program};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use std::process::Stdio;

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
async fn one_that_can_not_be_saved_does_not_keep_the_others_from_it() {
    let list = artifacts(&[("../escaped", "x"), ("a", "a"), ("wrong", "x"), (r"b\\c", "a"), ("gone", "x")]);
    let server = Server::start(move |_, asked| match asked.path.rsplit('/').next().unwrap() {
        "artifacts" => answer(200, list.clone()),
        "gone" => problem(404, "it was removed"),
        _ => answer(200, "a"),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let ran = server.run(&["artifacts", ID, "--download", folder.path().to_str().unwrap()]).await;
    assert_eq!(ran.status, 1);
    let place = folder.path().display();
    assert_eq!(ran.stdout, format!("{place}/a\n{place}/b\\c\n"));
    for part in ["../escaped", "wrong: 1 bytes", "it was removed", "3 of 5 artifacts"] {
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn an_object_store_that_is_away_is_not_asked_for_the_others() {
    let list = artifacts(&[("a", "a"), ("b", "b")]);
    let server = Server::start(move |_, asked| {
        if asked.path.ends_with("/artifacts") {
            answer(200, list.clone())
        } else {
            redirect("http://127.0.0.1:9/a".to_owned())
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let ran = server.run(&["artifacts", ID, "--download", folder.path().to_str().unwrap()]).await;
    assert_eq!((ran.status, ran.stdout.as_str(), server.asked().len()), (5, "", 2), "{}", ran.stderr);
}

#[tokio::test]
async fn an_interrupted_download_leaves_no_unfinished_file() {
    // It takes connections and never answers.
    let store = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = format!("http://{}/key", store.local_addr().unwrap());
    let list = artifacts(&[("a", "a"), ("b", "b")]);
    let server = Server::start(move |_, asked| match asked.path.rsplit('/').next().unwrap() {
        "artifacts" => answer(200, list.clone()),
        "a" => answer(200, "a"),
        _ => redirect(place.clone()),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = program(&server.url);
    command.args(["artifacts", ID, "--download"]).arg(folder.path());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let files = || std::fs::read_dir(folder.path()).unwrap().count();
    let _connection = store.accept().await.unwrap();
    assert_eq!(files(), 2, "one is complete and one is not");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}/a\n", folder.path().display()));
    assert_eq!(files(), 1);
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
