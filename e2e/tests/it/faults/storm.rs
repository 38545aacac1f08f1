//! Two hundred executions, while a worker, the API and Redis are killed under them.

use rand::Rng;
use roadstead_e2e::answers::is_terminal;
use roadstead_e2e::processes::Sampler;
use roadstead_e2e::scene::{Scene, id};
use roadstead_e2e::submission::{With, steps};
use roadstead_testkit::{Client, Stack, wait_for};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

const COUNT: usize = 200;
const CAP: usize = 8;
const SETTINGS: &[(&str, &str)] =
    &[("MAX_CONCURRENT_JOBS", "8"), ("KUBERNETES_RECONCILE_INTERVAL", "2s"), ("KILL_GRACE_SECONDS", "2")];
const STORM: Duration = Duration::from_mins(2);

/// One of the mixture, and how it must end.
fn submission(n: usize, marks: &Path) -> (Value, &'static str) {
    let pause = f64::from(rand::rng().random_range(200..1_000)) / 1_000.0;
    let (work, end) = match n % 6 {
        0 => (String::new(), "succeeded"),
        1 => (format!("sleep {pause}"), "succeeded"),
        2 => ("[ $ROADSTEAD_ATTEMPT -ge 2 ] || failed=1".to_owned(), "succeeded"),
        3 => (
            "head -c 100000 /dev/zero > $ROADSTEAD_ARTIFACTS/zeros; echo x > $ROADSTEAD_ARTIFACTS/x".to_owned(),
            "succeeded",
        ),
        4 => (format!("echo '{{\"n\": {n}}}' > $ROADSTEAD_RESULT; seq 300"), "succeeded"),
        _ => ("failed=1".to_owned(), "failed"),
    };
    let mark = |what: &str| format!("echo \"{what} $ROADSTEAD_EXECUTION_ID $ROADSTEAD_ATTEMPT $$\" >> $MARKS");
    let script = format!("{}; {work}\n{}; exit ${{failed:-0}}", mark("start"), mark("end"));
    let body = steps(&json!([{ "id": "main", "command": ["sh", "-c", script], "env": { "MARKS": marks } }]));
    // What always fails has two attempts; the others have one left, whatever befalls them.
    (body.with(json!({ "max_retries": if end == "failed" { 1 } else { 3 }, "labels": { "end": end } })), end)
}

/// Submits one until it is accepted: a client that does not give up, as the contract invites it to.
async fn insist(client: &Client, n: usize, body: &Value) -> String {
    let (body, key, deadline) = (body.to_string(), format!("storm-{n}"), Instant::now() + STORM);
    loop {
        let request =
            client.request(reqwest::Method::POST, "/v1/executions").header("content-type", "application/json");
        let answer = client.try_send(request.header("idempotency-key", &key).body(body.clone())).await;
        let why = match answer {
            Ok(answer) if answer.status == 202 => return id(&answer.json()),
            Ok(answer) => {
                assert!(answer.status.is_server_error(), "{}", answer.text());
                answer.text()
            }
            Err(error) => error.to_string(),
        };
        assert!(Instant::now() < deadline, "submission {n} is not accepted: {why}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_ended(scene: &Scene, count: usize) {
    let sql = "SELECT count(*) FROM executions WHERE finished_at IS NOT NULL";
    wait_for(&format!("{count} executions to end"), STORM, async || {
        let ended = scene.stack.sql_value(sql).await;
        if ended.parse::<usize>().unwrap() >= count { Ok(()) } else { Err(format!("{ended} have ended")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_executions_survive_the_death_of_everything_around_them() {
    let mut scene = Scene::on(Stack::builder().own_redis().start().await, SETTINGS).await;
    for _ in 0..2 {
        scene.add_worker(SETTINGS).await;
    }
    let marks = scene.file("marks");
    let sampler = Sampler::start(scene.executor_path());

    let submissions: Vec<(Value, &str)> = (0..COUNT).map(|n| submission(n, &marks)).collect();
    let (client, bodies) = (scene.client.clone(), submissions.clone());
    let submitter = tokio::spawn(async move {
        let mut ids = Vec::new();
        for (n, (body, _)) in bodies.iter().enumerate() {
            ids.push(insist(&client, n, body).await);
            // Half of them at once, the others while the storm blows.
            if n >= COUNT / 2 {
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        }
        ids
    });

    until_ended(&scene, 25).await;
    scene.workers[0].kill();
    until_ended(&scene, 50).await;
    scene.api.kill();
    tokio::time::sleep(Duration::from_millis(700)).await;
    scene.api.start_again().await;
    until_ended(&scene, 80).await;
    let _: String = scene.stack.redis.command(&["FLUSHALL"]).await;
    until_ended(&scene, 110).await;
    scene.stack.redis.process().kill();
    tokio::time::sleep(Duration::from_millis(700)).await;
    scene.stack.redis.restart().await;

    let ids = submitter.await.unwrap();
    until_ended(&scene, COUNT).await;
    let sample = sampler.stop();
    assert!(sample.most <= CAP, "{} executors at once", sample.most);
    assert!(sample.most >= CAP / 2 && sample.looks > 500, "the sampler saw the work: {sample:?}");
    for (id, (_, end)) in ids.iter().zip(&submissions) {
        let execution = scene.execution(id).await;
        assert!(is_terminal(&execution) && execution["state"] == *end, "{execution}");
    }
    every_execution_ended_once(&scene, COUNT).await;
    no_attempt_started_twice(&std::fs::read_to_string(&marks).unwrap(), COUNT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_die_again_and_again_lose_nothing_and_start_nothing_twice() {
    const MANY: usize = 90;
    let mut scene = Scene::idle(SETTINGS).await;
    let marks = scene.file("marks");
    let sampler = Sampler::start(scene.executor_path());
    let bodies: Vec<Value> = (0..MANY).map(|n| submission(n - n % 6, &marks).0).collect();
    let accepted = scene.post("/v1/executions/batch", &json!({ "executions": bodies })).await.expect(202);
    assert_eq!(accepted.json()["executions"].as_array().unwrap().len(), MANY);
    // Each dies in the middle of its work, some before it has done any.
    for n in 0..8_u32 {
        scene.add_worker(SETTINGS).await;
        tokio::time::sleep(Duration::from_millis(50 + u64::from(n) * 30)).await;
        scene.workers[n as usize].kill();
    }
    scene.add_worker(SETTINGS).await;
    until_ended(&scene, MANY).await;
    let sample = sampler.stop();
    assert!(sample.most <= CAP, "{} executors at once", sample.most);
    every_execution_ended_once(&scene, MANY).await;
    no_attempt_started_twice(&std::fs::read_to_string(&marks).unwrap(), MANY);
    assert_eq!(
        scene.stack.sql_value("SELECT count(*) FROM executions WHERE state = 'succeeded'").await,
        MANY.to_string()
    );
}

async fn every_execution_ended_once(scene: &Scene, count: usize) {
    let of = |table: &str| format!("SELECT count(*) FROM {table}");
    assert_eq!(scene.stack.sql_value(&of("executions")).await, count.to_string(), "none lost, none made twice");
    let ends = "SELECT e.id, count(v.id) FROM executions e LEFT JOIN execution_events v ON v.execution_id = e.id
                AND v.kind IN ('succeeded', 'failed', 'timed_out', 'cancelled') GROUP BY e.id HAVING count(v.id) <> 1";
    assert_eq!(scene.stack.sql(ends).await, Vec::<Vec<Option<String>>>::new());
    wait_for("every berth to be given back", STORM, async || {
        let live = scene.stack.sql_value("SELECT count(*) FROM attempts WHERE released_at IS NULL").await;
        if live == "0" { Ok(()) } else { Err(live) }
    })
    .await;
}

/// Of each execution: attempt 1 starts and ends, then attempt 2, and so on, none twice.
fn no_attempt_started_twice(marks: &str, count: usize) {
    let mut last: HashMap<&str, (&str, u32)> = HashMap::new();
    for line in marks.lines() {
        let mut words = line.split(' ');
        let (what, id, attempt) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let before = last.insert(id, (what, attempt));
        let fits = match (what, before) {
            // An attempt may be lost before its code has run.
            ("start", None) => attempt >= 1,
            ("start", Some((_, earlier))) => attempt > earlier,
            ("end", Some(("start", started))) => attempt == started,
            _ => false,
        };
        assert!(fits, "{line} after {before:?}");
    }
    assert_eq!(last.len(), count, "every execution's code has run");
}
