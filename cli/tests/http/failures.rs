//! Exit statuses, and what a person is told.

use crate::server::{ID, KEY, Server, answer, execution, problem, program, run};
use std::process::Stdio;

#[tokio::test]
async fn every_status_has_its_exit_status() {
    for (status, expected) in [(400, 2), (401, 4), (403, 4), (404, 3), (409, 1), (500, 5)] {
        let server = Server::start(move |_, _| problem(status, "that is why")).await;
        let ran = server.run(&["get", ID]).await;
        assert_eq!(ran.status, expected, "{status}: {ran:?}");
        assert_eq!(ran.stdout, "");
        for part in ["error: that is why", &server.url, "req-1", &status.to_string()] {
            assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
        }
        assert_eq!(server.asked().len(), 1, "{status} is not asked for again");
    }
}

#[tokio::test]
async fn what_is_refused_as_it_was_written_is_wrong_usage() {
    for status in [400, 413, 415, 422] {
        let server = Server::start(move |_, _| problem(status, "bad input")).await;
        for arguments in [vec!["submit", "count"], vec!["list"], vec!["logs", ID, "-f"], vec!["workflow", "list"]] {
            assert_eq!(server.run(&arguments).await.status, 2, "{status} to {arguments:?}");
        }
    }
}

#[tokio::test]
async fn a_workflow_that_is_not_there_is_not_found_and_the_way_to_those_that_are_is_told() {
    let server = Server::start(|_, _| {
        answer(
            400,
            r#"{"type":"https://roadstead.dev/problems/unknown-workflow","status":400,"detail":"there is no workflow `count`",
                "errors":[{"pointer":"/workflow","detail":"there is no workflow `count`"}]}"#,
        )
    })
    .await;
    let ran = server.run(&["submit", "count@99"]).await;
    assert_eq!(ran.status, 3);
    assert!(ran.stderr.contains("no workflow `count`") && ran.stderr.contains("roadstead workflow list"), "{ran:?}");
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again_but_not_for_ever() {
    for status in [429, 503] {
        let server = Server::start(move |number, _| match number {
            0 => problem(status, "busy"),
            _ => answer(200, execution("queued")),
        })
        .await;
        assert_eq!(server.run(&["get", ID]).await.status, 0);
        let server = Server::start(move |_, _| problem(status, "busy")).await;
        assert_eq!(server.run(&["get", ID]).await.status, 5);
        assert_eq!(server.asked().len(), 4);
    }
}

#[tokio::test]
async fn a_long_retry_after_is_told_instead_of_waited_for() {
    let server = Server::start(|_, _| {
        let mut answer = problem(429, "quota");
        answer.headers.push(("retry-after", "3600".to_owned()));
        answer
    })
    .await;
    let ran = server.run(&["submit", "count"]).await;
    assert_eq!((ran.status, server.asked().len()), (5, 1));
    assert!(ran.stderr.contains("again in 3600 s"), "{}", ran.stderr);
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_says_what_to_try() {
    let ran = run("http://127.0.0.1:9", &["list"], b"").await;
    assert_eq!(ran.status, 5);
    for part in ["http://127.0.0.1:9/v1/executions", "refused", "ROADSTEAD_URL", "roadstead dev"] {
        assert!(ran.stderr.contains(part), "{part} in {}", ran.stderr);
    }
}

#[tokio::test]
async fn mistakes_in_a_definition_are_told_without_asking() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wf.yaml");
    std::fs::write(&file, "steps:\n - {id: a, command: [x], need: [b]}\n").unwrap();
    let server = Server::start(|_, _| problem(500, "asked")).await;
    for command in [vec!["submit"], vec!["workflow", "apply"]] {
        let ran = server.run(&[command, vec![file.to_str().unwrap()]].concat()).await;
        assert_eq!(ran.status, 2);
        assert!(ran.stderr.contains("/steps/0/need: unknown field `need`; did you mean `needs`?"), "{}", ran.stderr);
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_reader_who_leaves_early_is_no_error() {
    let items: Vec<String> = (0..5_000).map(|_| execution("succeeded")).collect();
    let page = format!(r#"{{"items":[{}],"next_cursor":null}}"#, items.join(","));
    let server = Server::start(move |_, _| answer(200, page.clone())).await;
    for arguments in [
        ["list", "--limit", "5000", "--format", "json"].as_slice(),
        &["completion", "bash"],
        &["--help"],
        &["--version"],
    ] {
        assert_eq!(run_unread(&server.url, arguments).await, (0, String::new()), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_reader_who_leaves_early_does_not_change_how_an_execution_ended() {
    for (state, expected) in [("failed", 1), ("succeeded", 0)] {
        let server = Server::start(move |_, asked| {
            let attempts = asked.path.ends_with("/attempts");
            answer(200, if attempts { r#"{"items":[]}"#.to_owned() } else { execution(state) })
        })
        .await;
        for arguments in [["submit", "count", "--watch"], ["watch", ID, "--exit-status"]] {
            let (status, stderr) = run_unread(&server.url, &arguments).await;
            assert_eq!(status, expected, "{state}: {stderr}");
            assert_eq!(stderr.contains("error: "), expected == 1, "{stderr}");
        }
    }
}

/// The exit status and standard error of the program whose standard output is closed.
async fn run_unread(url: &str, arguments: &[&str]) -> (i32, String) {
    let mut command = program(url);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    (output.status.code().expect("ended by a signal"), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let server = Server::start(|_, _| problem(401, "unknown key")).await;
    let ran = server.run(&["list"]).await;
    assert_eq!(server.asked()[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert!(!ran.stderr.contains(KEY) && ran.stderr.contains("ROADSTEAD_API_KEY"), "{}", ran.stderr);
}

#[tokio::test]
async fn json_is_what_the_api_answered() {
    let body = r#"{"id":"x","state":"queued","z":1.50,"a":12345678901234567890123}"#;
    let server = Server::start(move |_, _| answer(200, body)).await;
    assert_eq!(server.run(&["get", ID, "--format", "json"]).await.stdout, format!("{body}\n"));
    let yaml = server.run(&["get", ID, "--format", "yaml"]).await.stdout;
    assert!(yaml.contains("state: queued\n"), "{yaml}");
}
