//! Submitting: what is sent, and that it is one execution however often it is sent.

use crate::server::{ID, Server, answer, execution, problem, program, run, run_command};
use serde_json::{Value, json};
use std::io::Write;

#[tokio::test]
async fn everything_that_was_asked_for_is_sent() {
    let server = Server::start(|_, _| answer(202, execution("queued"))).await;
    let line = "submit count@3 --input {\"b\":1.50} --priority high --label a=b --run-at 2030-01-01T00:00:00Z \
        --timeout-seconds 5 --queue-timeout-seconds 6 --max-retries 7 --idempotency-key mine";
    let ran = server.run(&line.split_whitespace().collect::<Vec<_>>()).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (0, format!("{ID}\n").as_str()), "{ran:?}");
    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/v1/executions"));
    assert_eq!(asked.header("idempotency-key"), Some("mine"));
    assert_eq!(asked.header("content-type"), Some("application/json"));
    assert!(asked.body.ends_with(br#","input":{"b":1.50}}"#), "the input keeps its bytes");
    assert_eq!(
        serde_json::from_slice::<Value>(&asked.body).unwrap(),
        json!({"workflow": "count@3", "input": {"b": 1.5}, "priority": "high", "labels": {"a": "b"},
            "run_at": "2030-01-01T00:00:00.000Z", "timeout_seconds": 5, "queue_timeout_seconds": 6, "max_retries": 7})
    );
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_under_the_same_key() {
    let server = Server::start(|number, _| match number {
        0 => problem(503, "away"),
        _ => answer(202, execution("queued")),
    })
    .await;
    assert_eq!(server.run(&["submit", "count"]).await.status, 0);
    assert_eq!(server.run(&["retry", ID]).await.status, 0);
    let asked = server.asked();
    let key = |number: usize| asked[number].header("idempotency-key").unwrap();
    assert_eq!(asked.len(), 3);
    assert_eq!((key(0), &asked[0].body), (key(1), &asked[1].body));
    assert_ne!(key(1), key(2), "another command is another request");
    assert_eq!(asked[2].path, format!("/v1/executions/{ID}/retry"));
}

#[tokio::test]
async fn a_large_input_is_streamed_from_a_file_and_from_a_pipe() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let document = format!("[{}1]", "1234567,".repeat(500_000));
    file.write_all(document.as_bytes()).unwrap();
    let expected = format!(r#"{{"workflow":"count","input":{document}}}"#);
    let server = Server::start(|number, _| match number {
        0 => problem(503, "away"),
        _ => answer(202, execution("queued")),
    })
    .await;
    let from_file = format!("@{}", file.path().display());
    assert_eq!(server.run(&["submit", "count", "--input", &from_file]).await.status, 0);
    assert_eq!(run(&server.url, &["submit", "count", "--input", "-"], document.as_bytes()).await.status, 0);
    let asked = server.asked();
    assert_eq!(asked.len(), 3, "the first was sent again");
    for asked in asked {
        assert!(asked.body == expected.as_bytes());
        assert_eq!(asked.header("content-length"), Some(expected.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn a_text_is_sent_as_a_string_and_a_file_as_a_definition() {
    let folder = tempfile::tempdir().unwrap();
    let definition = folder.path().join("wf.yml");
    std::fs::write(&definition, "steps: [{id: a, command: [echo, hi]}]").unwrap();
    let server = Server::start(|_, _| answer(202, execution("queued"))).await;
    let arguments = ["submit", definition.to_str().unwrap(), "--input-text", "-"];
    assert_eq!(run(&server.url, &arguments, "to be\n\"or\" not".as_bytes()).await.status, 0);
    assert_eq!(
        serde_json::from_slice::<Value>(&server.asked()[0].body).unwrap(),
        json!({"spec": {"steps": [{"id": "a", "command": ["echo", "hi"]}]}, "input": "to be\n\"or\" not"})
    );
}

#[tokio::test]
async fn what_can_be_a_name_is_a_name_and_what_else_is_there_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let definition = "steps: [{id: a, command: [echo, hi]}]";
    for name in ["count", "tmp_XyZ", "wf.txt"] {
        std::fs::write(folder.path().join(name), definition).unwrap();
    }
    let server = Server::start(|_, _| answer(202, execution("queued"))).await;
    let submit = async |argument: &str| {
        let mut command = program(&server.url);
        command.current_dir(folder.path()).args(["submit", argument]);
        run_command(command, definition.as_bytes()).await
    };
    for (number, (argument, member)) in [
        ("count", "workflow"),
        ("count@2", "workflow"),
        ("./count", "spec"),
        ("tmp_XyZ", "spec"),
        ("wf.txt", "spec"),
        ("/dev/stdin", "spec"),
    ]
    .into_iter()
    .enumerate()
    {
        let ran = submit(argument).await;
        assert_eq!(ran.status, 0, "{argument}: {ran:?}");
        let body: Value = serde_json::from_slice(&server.asked()[number].body).unwrap();
        assert!(body.get(member).is_some(), "{argument}: {body}");
    }
    for missing in ["./none", "none.yaml", "No_Name"] {
        assert_eq!(submit(missing).await.status, 2, "{missing}");
    }
}

#[tokio::test]
async fn input_that_is_not_json_is_not_sent() {
    let server = Server::start(|_, _| problem(500, "asked")).await;
    assert_eq!(server.run(&["submit", "count", "--input", "hello"]).await.status, 2);
    assert_eq!(
        run(&server.url, &["submit", "count", "--input", "-"], b"{\"a\":1},\"priority\":\"high\"").await.status,
        2
    );
    assert_eq!(server.run(&["submit", "No_Name"]).await.status, 2);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_workflow_is_put_under_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("word-count.yaml");
    std::fs::write(&file, "steps: [{id: a, command: [echo, hi]}]").unwrap();
    let server = Server::start(|_, _| answer(200, r#"{"name":"word-count","version":1}"#)).await;
    assert_eq!(server.run(&["workflow", "apply", file.to_str().unwrap()]).await.status, 0);
    let asked = &server.asked()[0];
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("PUT", "/v1/workflows/word-count"));
    assert_eq!(server.run(&["workflow", "get", "word-count@2"]).await.status, 0);
    assert_eq!(server.asked()[1].path, "/v1/workflows/word-count/versions/2");
}
