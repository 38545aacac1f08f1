//! Mutations of good requests: whatever becomes of them, it is an answer and never a 5xx.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::Scene;

const SEEDS: &[&str] = &[
    r#"{"spec":{"steps":[{"id":"a","command":["sh","-c","x"],"needs":[],"env":{"A":"b"},"timeout_seconds":60,"retries":1,"files":{"a/b":"c"}}],
        "timeout_seconds":600,"max_retries":2,"image":"docker.io/library/x:1","resources":{"cpu":"500m","memory":"256Mi"}},"input":{"a":[1.5,null,"x"]}}"#,
    r#"{"workflow":"name@3","input":[true],"priority":"high","run_at":"2030-01-01T00:00:00Z","labels":{"a":"b"},"timeout_seconds":5,
        "queue_timeout_seconds":6,"max_retries":7}"#,
    r#"{"executions":[{"spec":{"steps":[{"id":"a","command":["x"]}]}},{"workflow":"b","labels":{}}]}"#,
];
/// What is put in: JSON's own signs, numbers at the edges, odd characters, words that mean something.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ":",
    "\\",
    "\\u0000",
    "\\ud800",
    "\\uD83D\\uDE00",
    "null",
    "true",
    "-",
    "1e999",
    "-0",
    "0.1",
    "18446744073709551616",
    "9223372036854775807",
    "\u{0}",
    "\u{7f}",
    "\u{202e}",
    "é",
    "😀",
    "\n",
    " ",
    "spec",
    "steps",
    "id",
    "needs",
    "workflow",
    "input",
    "@",
    "@-1",
    "..",
    "/",
    "{\"a\":1}",
    "[[[[[[[[",
    "\"\"",
    "\"a\":\"b\",",
    "a",
];
const ROUNDS: usize = 600;

fn mutated(random: &mut SmallRng) -> (&'static str, Vec<u8>) {
    let seed = random.random_range(0..SEEDS.len());
    let mut text = SEEDS[seed].as_bytes().to_vec();
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..text.len().max(1)).min(text.len());
        match random.random_range(0..6) {
            0 => {
                let piece = PIECES[random.random_range(0..PIECES.len())];
                text.splice(at..at, piece.bytes());
            }
            1 => {
                let end = (at + random.random_range(1..20)).min(text.len());
                text.drain(at..end);
            }
            2 if at < text.len() => text[at] = random.random(),
            3 => {
                let end = (at + random.random_range(1..60)).min(text.len());
                let copy = text[at..end].to_vec();
                let to = random.random_range(0..=text.len());
                text.splice(to..to, copy);
            }
            4 => {
                // A whole value becomes another one.
                let piece = PIECES[random.random_range(0..PIECES.len())];
                if let Some(colon) = text[at..].iter().position(|&byte| byte == b':') {
                    let from = at + colon + 1;
                    let end =
                        text[from..].iter().position(|byte| b",}]".contains(byte)).map_or(text.len(), |end| from + end);
                    text.splice(from..end, piece.bytes());
                }
            }
            _ => text.truncate(text.len() - text.len() / 8),
        }
    }
    (if seed == 2 { "/v1/executions/batch" } else { "/v1/executions" }, text)
}

#[tokio::test]
async fn mutated_submissions_are_answered_and_never_by_a_5xx() {
    let scene = Scene::idle(&[]).await;
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let (path, body) = mutated(&mut random);
        let shown = String::from_utf8_lossy(&body).into_owned();
        let request = scene.request(Method::POST, path).header("content-type", "application/json").body(body);
        let answer = scene.send(request).await;
        if answer.status == 202 {
            accepted += answer.json()["executions"].as_array().map_or(1, Vec::len);
            continue;
        }
        assert!(answer.status.is_client_error(), "seed {seed}: {} {}\n{shown}", answer.status, answer.text());
        let slug = answer.json()["type"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        answer.problem(answer.status.as_u16(), &slug);
    }
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions").await, accepted.to_string());
    let answer = scene.get("/v1/executions?limit=500").await;
    assert!(answer.ok(200)["items"].as_array().unwrap().len() >= accepted.min(500), "what was accepted can be read");
    scene.api.anonymous().get("/readyz").await.expect(200);
}
