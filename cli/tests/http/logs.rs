//! Logs: formats, resuming, and the end.

use crate::server::{Answer, ID, Server, answer, problem};
use bytes::Bytes;

fn line(n: u32, text: &str) -> String {
    format!(r#"{{"attempt":1,"n":{n},"t":0,"step":"split","stream":"stdout","line":"{text}"}}"#)
}

fn events(text: &str) -> Answer {
    // In pieces that respect no line.
    let pieces = text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect();
    Answer { status: 200, headers: vec![("content-type", "text/event-stream".to_owned())], pieces }
}

#[tokio::test]
async fn a_log_is_shown_for_people_and_for_programs() {
    let server =
        Server::start(|_, _| answer(200, format!("{}\n{}\n", line(0, "one"), line(1, "\\u001b[31mtwo")))).await;
    let ran = server.run(&["logs", ID]).await;
    assert_eq!(ran.stdout, "split │ one\nsplit │ \u{1b}[31mtwo\n", "a pipe gets what was printed");
    let ran = server.run(&["logs", ID, "--step", "split", "--stream", "stdout", "--tail", "2", "--attempt", "1"]).await;
    assert!(ran.stdout.starts_with("one\n"));
    let asked = server.asked();
    assert_eq!(asked[1].path, format!("/v1/executions/{ID}/logs?attempt=1&step=split&stream=stdout&tail=2"));
    assert_eq!(asked[1].header("accept"), Some("application/x-ndjson"));
    let ran = server.run(&["logs", ID, "--format", "json"]).await;
    assert_eq!(ran.stdout.lines().next(), Some(line(0, "one").as_str()));
    let yaml = server.run(&["logs", ID, "--format", "yaml"]).await.stdout;
    assert!(yaml.starts_with("- ") && yaml.contains("\n- "), "one sequence: {yaml}");
}

#[tokio::test]
async fn a_followed_log_is_resumed_where_it_broke_off() {
    let server = Server::start(|number, _| match number {
        0 => events(&format!(
            ": hello\n\nid: 1-0\ndata: {}\n\nid: 1-1\ndata: {}\n\nid: 1-2\nda",
            line(0, "a"),
            line(1, "b")
        )),
        1 => problem(503, "away"),
        _ => events(&format!("id: 1-2\nevent: log\ndata: {}\n\nevent: end\ndata: {{}}\n\n", line(2, "c"))),
    })
    .await;
    let ran = server.run(&["logs", ID, "-f", "--tail", "2"]).await;
    assert_eq!((ran.status, ran.stdout.as_str()), (0, "split │ a\nsplit │ b\nsplit │ c\n"), "{}", ran.stderr);
    let asked = server.asked();
    assert_eq!(asked[0].path, format!("/v1/executions/{ID}/logs?tail=2&follow=true"));
    assert_eq!((asked[0].header("accept"), asked[0].header("last-event-id")), (Some("text/event-stream"), None));
    for resumed in &asked[1..] {
        assert_eq!(resumed.path, format!("/v1/executions/{ID}/logs?follow=true"), "a tail would be counted anew");
        assert_eq!(resumed.header("last-event-id"), Some("1-1"), "of the last event that came whole");
    }
}

#[tokio::test]
async fn following_what_is_not_there_ends_at_once() {
    let server = Server::start(|_, _| problem(404, "no such execution")).await;
    assert_eq!(server.run(&["logs", ID, "-f"]).await.status, 3);
    assert_eq!(server.asked().len(), 1);
}
