//! What can be wrong with a submission that arrives as HTTP should.

use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, Scene, id};
use roadstead_e2e::submission::{With, command, steps};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::{Value, json};

const PATH: &str = "/v1/executions";

fn step(id: &str, needs: &[&str]) -> Value {
    json!({ "id": id, "command": ["true"], "needs": needs })
}

/// What was begun is removed.
async fn nothing_in_s3(scene: &Scene) {
    wait_for("the content bucket to be empty", PATIENCE, async || {
        let keys = scene.stack.s3.keys(&scene.stack.content_bucket);
        if keys.is_empty() { Ok(()) } else { Err(format!("{keys:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_is_no_json_is_told_where() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let good = command(&["true"]).to_string();
    for text in [
        "",
        " ",
        "{",
        "hello",
        "{\"spec\":}",
        "{'spec':1}",
        &format!("{good} {good}"),
        &good[..good.len() - 1],
        "\u{feff}{}",
        "nul",
        "{\"a\":1e}",
    ] {
        let problem = scene.submit_text(&[], text).await.problem(400, "invalid-json");
        assert!(problem["detail"].as_str().unwrap().contains("line") || text.trim().is_empty(), "{text:?}: {problem}");
    }
    for bytes in
        [&b"\xff\xfe{\0}\0"[..], b"{\"labels\":{\"a\":\"\xff\"}}", b"\x1f\x8b\x08", b"{\"a\":\"\xed\xa0\x80\"}"]
    {
        let request = scene.request(Method::POST, PATH).header("content-type", "application/json").body(bytes.to_vec());
        let answer = scene.send(request).await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        answer.problem(400, answer.json()["type"].as_str().unwrap().rsplit('/').next().unwrap());
    }
    for text in ["null", "1", "\"x\"", "[]", "{}"] {
        scene.submit_text(&[], text).await.problem(400, "invalid-request");
    }
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn every_mistake_is_named_by_its_place() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let good = || command(&["true"]);
    let spec = |steps: Value| json!({ "spec": { "steps": steps } });
    let many: Value = (0..5_000).map(|n| step(&format!("s{n}"), &[])).collect();
    let labels: serde_json::Map<String, Value> = (0..65).map(|n| (format!("l{n}"), json!("x"))).collect();
    for (body, pointer, words) in [
        (good().with(json!({ "prioritty": "high" })), "/prioritty", "did you mean `priority`?"),
        (
            json!({ "spec": { "steps": [{ "id": "a", "comand": ["true"] }] } }),
            "/spec/steps/0/comand",
            "did you mean `command`?",
        ),
        (json!({ "spec": { "step": [] } }), "/spec/step", "did you mean `steps`?"),
        (spec(json!([step("a", &["b"]), step("b", &["a"])])), "/spec/steps/0/needs", "cycle"),
        (spec(json!([step("a", &["a"])])), "/spec/steps/0/needs", "cycle"),
        (spec(json!([step("a", &[]), step("b", &["a", "z"])])), "/spec/steps/1/needs/1", "`z`"),
        (spec(json!([step("a", &[]), step("a", &[])])), "/spec/steps/1/id", "`a`"),
        (spec(many), "/spec/steps", "1000"),
        (spec(json!([])), "/spec/steps", ""),
        (spec(json!([{ "id": "a", "command": [] }])), "/spec/steps/0/command", ""),
        (spec(json!([{ "id": "a", "command": "true" }])), "/spec/steps/0/command", ""),
        (
            spec(json!([{ "id": "a", "command": ["true"], "env": { "ROADSTEAD_X": "1" } }])),
            "/spec/steps/0/env/ROADSTEAD_X",
            "reserved",
        ),
        (
            spec(json!([{ "id": "a", "command": ["true"], "files": { "../x": "1" } }])),
            "/spec/steps/0/files/..~1x",
            "relative",
        ),
        (good().with(json!({ "priority": "urgent" })), "/priority", "high"),
        (good().with(json!({ "priority": 1 })), "/priority", ""),
        (good().with(json!({ "run_at": "tomorrow" })), "/run_at", ""),
        (good().with(json!({ "run_at": "2026-13-01T00:00:00Z" })), "/run_at", ""),
        (good().with(json!({ "timeout_seconds": 0 })), "/timeout_seconds", ""),
        (good().with(json!({ "timeout_seconds": 1.5 })), "/timeout_seconds", ""),
        (good().with(json!({ "timeout_seconds": 1e300 })), "/timeout_seconds", ""),
        (good().with(json!({ "timeout_seconds": u64::MAX })), "/timeout_seconds", ""),
        (good().with(json!({ "queue_timeout_seconds": -1 })), "/queue_timeout_seconds", ""),
        (good().with(json!({ "max_retries": 101 })), "/max_retries", ""),
        (good().with(json!({ "max_retries": "3" })), "/max_retries", ""),
        (good().with(json!({ "labels": [] })), "/labels", ""),
        (good().with(json!({ "labels": labels })), "/labels", "64"),
        (good().with(json!({ "labels": { "a": 1 } })), "/labels/a", ""),
        (good().with(json!({ "labels": { "a b": "x" } })), "/labels/a b", ""),
        (good().with(json!({ "labels": { "": "x" } })), "/labels/", ""),
        (good().with(json!({ "labels": { "a": "x".repeat(257) } })), "/labels/a", ""),
        (good().with(json!({ "workflow": "x" })), "/spec", "one of the two"),
        (json!({ "workflow": 7 }), "/workflow", ""),
        (json!({ "workflow": "X y" }), "/workflow", ""),
        (json!({ "workflow": "x@0" }), "/workflow", ""),
        (json!({ "workflow": "x@99999999999999999999" }), "/workflow", ""),
        (json!({ "spec": "steps" }), "/spec", ""),
    ] {
        let answer = scene.post(PATH, &body).await;
        answer.problem(400, "invalid-request");
        let detail = answer.error_at(pointer);
        assert!(detail.contains(words), "{pointer}: {detail}");
    }
    let whole = command(&["true"]).to_string();
    let open = whole.strip_suffix('}').unwrap();
    for (twice, pointer) in [
        (format!(r#"{open},"priority":"low","priority":"high"}}"#), "/priority"),
        (format!(r#"{open},"labels":{{"a":"1","a":"2"}}}}"#), "/labels/a"),
        (r#"{"spec":{"steps":[],"steps":[{"id":"a","command":["true"]}]}}"#.to_owned(), "/spec/steps"),
    ] {
        let answer = scene.submit_text(&[], &twice).await;
        answer.problem(400, "invalid-request");
        assert!(answer.error_at(pointer).contains("more than once"), "{}", answer.text());
    }
    assert_eq!(scene.rows().await, before);
}

/// serde_json's own values would take this for JSON within a string, layer by layer: deeper than any stack, and past every check of the text.
#[tokio::test]
async fn json_within_strings_is_not_looked_into() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let mut nested = "0".to_owned();
    for _ in 0..300 {
        let inner = nested.replace('\\', "\\u005c").replace('"', "\\u0022");
        let [open, close] = ["[", "]"].map(|bracket| bracket.repeat(60));
        nested = format!(r#"{open}{{"$serde_json::private::RawValue":"{inner}"}}{close}"#);
    }
    let steps = r#"{"steps":[{"id":"a","command":["true"]}]"#;
    for body in [format!(r#"{{"x":{nested}}}"#), format!(r#"{{"spec":{steps},"x":{nested}}}}}"#)] {
        scene.submit_text(&[], &body).await.problem(400, "invalid-request");
    }
    for kind in ["application/json", "application/yaml"] {
        let definition = format!(r#"{steps},"x":{nested}}}"#);
        let answer = scene.send_with(Method::PUT, "/v1/workflows/x", &[("content-type", kind)], &definition).await;
        answer.problem(400, "invalid-request");
    }
    let label = r#"{"$serde_json::private::RawValue":"{\"a\":\"x\\u0000\"}"}"#;
    let answer = scene.submit_text(&[], &format!(r#"{{"workflow":"x","labels":{label}}}"#)).await;
    answer.problem(400, "invalid-request");
    assert_eq!(scene.rows().await, before);
}

#[tokio::test]
async fn all_mistakes_are_told_together() {
    let scene = Scene::idle(&[]).await;
    let body =
        json!({ "spec": { "steps": [step("a", &["z"])] }, "priority": "urgent", "lables": {}, "max_retries": -1 });
    let answer = scene.post(PATH, &body).await;
    answer.problem(400, "invalid-request");
    for pointer in ["/spec/steps/0/needs/0", "/priority", "/lables", "/max_retries"] {
        answer.error_at(pointer);
    }
}

#[tokio::test]
async fn the_character_that_nothing_can_carry_is_refused_in_any_string() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let templates = [
        r#"{"spec":{"steps":[{"id":"a","command":["@"]}]}}"#,
        r#"{"spec":{"steps":[{"id":"@","command":["x"]}]}}"#,
        r#"{"spec":{"steps":[{"id":"a","command":["x"],"env":{"A":"@"}}]}}"#,
        r#"{"spec":{"steps":[{"id":"a","command":["x"],"files":{"a":"@"}}]}}"#,
        r#"{"spec":{"steps":[{"id":"a","command":["x"],"files":{"@":"a"}}]}}"#,
        r#"{"spec":{"steps":[{"id":"a","command":["x"]}]},"labels":{"a":"@"}}"#,
        r#"{"spec":{"steps":[{"id":"a","command":["x"]}]},"input":{"deep":[["@"]]}}"#,
        r#"{"spec":{"steps":[{"id":"a","command":["x"]}]},"input":{"@":1}}"#,
        r#"{"workflow":"@"}"#,
        r#"{"@":1}"#,
    ];
    for template in templates {
        for nul in ["\\u0000", "a\\u0000b", "\\\\\\u0000"] {
            scene.submit_text(&[], &template.replace('@', nul)).await.problem(400, "nul-character");
        }
        let raw = scene.submit_text(&[], &template.replace('@', "\0")).await;
        assert_eq!(raw.status, 400, "{}", raw.text());
    }
    for path in ["/v1/executions?label=a:%00", "/v1/executions?workflow=%00", "/v1/executions?cursor=%00"] {
        assert_eq!(scene.get(path).await.status, 400, "{path}");
    }
    let large =
        format!(r#"{{"spec":{{"steps":[{{"id":"a","command":["x"]}}]}},"input":"{}\u0000"}}"#, "x".repeat(400_000));
    scene.submit_text(&[], &large).await.problem(400, "nul-character");
    assert_eq!(scene.rows().await, before);
    nothing_in_s3(&scene).await;
    // An escaped backslash before `u0000` is no such character.
    scene.submit_text(&[], &templates[6].replace('@', "\\\\u0000")).await.ok(202);
}

#[tokio::test]
async fn nesting_is_bounded_wherever_it_is() {
    let scene = Scene::idle(&[]).await;
    let before = scene.rows().await;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let objects = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let spec = command(&["true"])["spec"].to_string();
    for text in [
        deep.clone(),
        objects.clone(),
        "[".repeat(100_000),
        format!("{{\"spec\":{spec},\"input\":{deep}}}"),
        format!("{{\"input\":{objects},\"spec\":{spec}}}"),
        format!("{{\"spec\":{deep}}}"),
        format!("{{\"spec\":{spec},\"input\":[\"{}\",{deep}]}}", "x".repeat(300_000)),
    ] {
        scene.submit_text(&[], &text).await.problem(400, "nesting-too-deep");
    }
    let headers = [("content-type", "application/yaml")];
    for text in [deep, "[".repeat(100_000), format!("{}a", "- ".repeat(10_000))] {
        let answer = scene.send_with(Method::PUT, "/v1/workflows/x", &headers, &text).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
    }
    assert_eq!(scene.rows().await, before);
    nothing_in_s3(&scene).await;
}

#[tokio::test]
async fn a_body_over_its_limit_is_refused_however_it_comes() {
    let scene = Scene::idle(&[("MAX_INPUT_BYTES", "200000")]).await;
    let before = scene.rows().await;
    let spec = command(&["true"])["spec"].to_string();
    let input = |bytes: usize| format!("{{\"spec\":{spec},\"input\":\"{}\"}}", "x".repeat(bytes - 2));
    scene.submit_text(&[], &input(200_001)).await.problem(413, "too-large");
    let pieces = input(3_000_000).into_bytes().chunks(10_000).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
    let request = scene.request(Method::POST, PATH).header("content-type", "application/json").body(body);
    // The server may close the connection before everything was sent.
    if let Ok(answer) = scene.try_send(request).await {
        answer.problem(413, "too-large");
    }
    let definition = steps(&json!([{ "id": "a", "command": ["true"], "files": { "a": "x".repeat(1_100_000) } }]));
    let answer = scene.post(PATH, &definition).await;
    assert!([400, 413].contains(&answer.status.as_u16()), "{}", answer.text());
    let batch = json!({ "executions": [command(&["true"])], "x": "x".repeat(17 << 20) }).to_string();
    let request =
        scene.request(Method::POST, "/v1/executions/batch").header("content-type", "application/json").body(batch);
    if let Ok(answer) = scene.try_send(request).await {
        answer.problem(413, "too-large");
    }
    assert_eq!(scene.rows().await, before);
    nothing_in_s3(&scene).await;
    let fits = scene.submit_text(&[], &input(200_000)).await.ok(202);
    assert_eq!(scene.stack.s3.keys(&scene.stack.content_bucket).len(), 1, "{}", id(&fits));
}
