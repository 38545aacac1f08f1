//! Following an execution: held requests, its timeline, its attempts, its log while it is written.

use roadstead_e2e::answers::Checked;
use roadstead_e2e::events::Events;
use roadstead_e2e::scene::{Executions, Scene, appears, id};
use roadstead_e2e::submission::{With, command, shell, wait_for_file};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_held_request_comes_back_at_the_end_and_not_later_than_it_asked() {
    let scene = Scene::new().await;
    let go = scene.file("go");
    let id = scene.submit(&shell(&wait_for_file(&go))).await;
    scene.reaches(&id, "running").await;
    let began = Instant::now();
    let unfinished = scene.get(&format!("/v1/executions/{id}?wait=1s")).await.ok(200);
    assert_eq!(unfinished["state"], "running");
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());

    let (client, path) = (scene.client.clone(), format!("/v1/executions/{id}?wait=50"));
    let held = tokio::spawn(async move { client.get(&path).await.ok(200) });
    tokio::task::yield_now().await;
    std::fs::write(&go, "").unwrap();
    assert_eq!(held.await.unwrap()["state"], "succeeded");
    assert!(began.elapsed() < Duration::from_secs(30), "it did not wait for its time: {:?}", began.elapsed());
    for bad in ["61s", "-1", "soon", "1.5.5s"] {
        scene.get(&format!("/v1/executions/{id}?wait={bad}")).await.problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn the_timeline_and_the_attempts_tell_of_a_retry() {
    let scene = Scene::new().await;
    let script = "echo \"attempt $ROADSTEAD_ATTEMPT\"; [ $ROADSTEAD_ATTEMPT = 2 ]";
    let execution = scene.run(&shell(script).with(json!({ "max_retries": 3 }))).await;
    assert_eq!(
        (&execution["state"], &execution["attempt"], &execution["max_attempts"]),
        (&json!("succeeded"), &json!(2), &json!(4))
    );
    let id = id(&execution);
    let kinds = scene.kinds(&id).await;
    let one = ["claimed", "started"];
    let expected = [&["submitted"][..], &one, &["retry_scheduled", "queued"], &one, &["succeeded"]].concat();
    assert_eq!(kinds, expected);
    let events = scene.items(&format!("/v1/executions/{id}/events")).await;
    assert!(events.iter().all(|event| event["at"].is_string()), "{events:?}");
    let streamed = Events::of(&scene, &format!("/v1/executions/{id}/events"), &[]).await.rest().await;
    let told: Vec<_> = streamed
        .iter()
        .filter(|event| event.event != "end")
        .map(|event| event.json()["kind"].clone())
        .filter(|kind| kind != "launched")
        .collect();
    assert_eq!(json!(told), json!(expected));
    assert_eq!(streamed.last().unwrap().json()["state"], "succeeded");

    let attempts = scene.items(&format!("/v1/executions/{id}/attempts")).await;
    let states: Vec<_> =
        attempts.iter().map(|attempt| (attempt["attempt"].clone(), attempt["state"].clone())).collect();
    assert_eq!(states, [(json!(1), json!("failed")), (json!(2), json!("succeeded"))]);
    assert_eq!(attempts[0]["reason"]["code"], "step_failed");
    assert_eq!(attempts[0]["steps"][0]["exit_code"], 1);

    assert_eq!(scene.log(&id).await, "attempt 2\n");
    let first = scene.get_as(&format!("/v1/executions/{id}/logs?attempt=1&stream=stdout"), "text/plain").await;
    assert_eq!(first.text(), "attempt 1\n");
    scene.get_as(&format!("/v1/executions/{id}/logs?attempt=3"), "text/plain").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_log_is_live_within_a_second_and_ends_with_the_execution() {
    let scene = Scene::new().await;
    let (started, go) = (scene.file("started"), scene.file("go"));
    let script = format!(
        "echo up > {}; {}; echo now; echo oops >&2; {}",
        started.display(),
        wait_for_file(&go),
        wait_for_file(&scene.file("end"))
    );
    let id = scene.submit(&shell(&script)).await;
    appears(&started).await;
    let mut log = Events::of(&scene, &format!("/v1/executions/{id}/logs?follow=true"), &[]).await;
    // Until the executor has heard that somebody follows it ships at its leisure.
    wait_for("the follower to be known", PATIENCE, async || {
        let followed = "SELECT count(*) FROM attempts WHERE followed_until > now()";
        if scene.stack.sql_value(followed).await == "1" { Ok(()) } else { Err("nobody follows".to_owned()) }
    })
    .await;
    std::fs::write(&go, "").unwrap();
    // Two pipes: which of two lines comes first is nobody's promise.
    let mut lines = [log.next().await.unwrap().json(), log.next().await.unwrap().json()];
    let now = chrono::Utc::now().timestamp_millis();
    lines.sort_by_key(|line| line["line"].to_string());
    let told = lines.each_ref().map(|line| (line["line"].as_str().unwrap(), line["stream"].as_str().unwrap()));
    assert_eq!(told, [("now", "stdout"), ("oops", "stderr")]);
    let lag = now - lines[0]["t"].as_i64().unwrap();
    assert!(lag < 4_000, "within the two seconds of a heartbeat, and a busy machine's time: {lag} ms");

    std::fs::write(scene.file("end"), "").unwrap();
    let end = log.next().await.unwrap();
    assert_eq!((end.event.as_str(), &end.json()["state"]), ("end", &json!("succeeded")));
    assert_eq!(log.next().await, None);
}

#[tokio::test]
async fn a_follower_is_taken_along_to_the_next_attempt() {
    let scene = Scene::new().await;
    let script = "echo \"attempt $ROADSTEAD_ATTEMPT\"; sleep 0.2; [ $ROADSTEAD_ATTEMPT = 2 ]";
    let id = scene.submit(&shell(script)).await;
    let path = format!("/v1/executions/{id}/logs?follow=true&stream=stdout");
    let log = Events::of(&scene, &path, &[]).await.rest().await;
    let lines: Vec<_> =
        log.iter().filter(|event| event.event != "end").map(|event| event.json()["line"].clone()).collect();
    assert_eq!(lines, ["attempt 1", "attempt 2"]);
    assert_eq!(log.last().unwrap().json()["state"], "succeeded");
    assert_eq!((log[0].id.as_str(), log[1].id.as_str()), ("1-0", "2-0"));
}

#[tokio::test]
async fn an_ended_execution_can_be_submitted_again_and_a_live_one_can_not() {
    let scene = Scene::new().await;
    let submission = shell("cp \"$ROADSTEAD_INPUT\" \"$ROADSTEAD_RESULT\"")
        .with(json!({ "labels": { "a": "b" }, "priority": "high", "max_retries": 1, "timeout_seconds": 77 }));
    let body = submission.to_string();
    let answer = scene.submit_text(&[], &format!("{}, \"input\": [1.50]}}", body.strip_suffix('}').unwrap())).await;
    let first = id(&answer.ok(202));
    scene.ended(&first).await;
    let second = scene.ask(&format!("/v1/executions/{first}/retry")).await;
    let told = second.ok(202);
    assert_eq!(second.value("location"), format!("/v1/executions/{}", id(&told)));
    assert_eq!((&told["retry_of"], &told["attempt"]), (&json!(first), &json!(0)));
    for member in ["labels", "priority", "max_attempts", "workflow"] {
        assert_eq!(told[member], scene.execution(&first).await[member], "{member}");
    }
    let ended = scene.ended(&id(&told)).await;
    assert_eq!(ended["state"], "succeeded");
    assert_eq!(scene.get(&format!("/v1/executions/{}/result", id(&told))).await.text(), "[1.50]");

    let waiting = scene.submit(&command(&["true"]).with(json!({ "run_at": "2100-01-01T00:00:00Z" }))).await;
    scene.ask(&format!("/v1/executions/{waiting}/retry")).await.problem(409, "conflict");
    scene.ask(&format!("/v1/executions/{first}/cancel")).await.problem(409, "conflict");
}

#[tokio::test]
async fn the_timeline_and_the_attempts_are_told_as_they_happen() {
    let scene = Scene::new().await;
    let go = scene.file("go");
    let id = scene.submit(&shell(&wait_for_file(&go))).await;
    let path = format!("/v1/executions/{id}");
    let mut events = Events::of(&scene, &format!("{path}/events"), &[]).await;
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "started") {
        let event = events.next().await.unwrap();
        kinds.push(event.json()["kind"].as_str().unwrap().to_owned());
    }
    let mut attempts = Events::of(&scene, &format!("{path}/attempts"), &[]).await;
    assert_eq!(attempts.next().await.unwrap().json()["state"], "running");
    std::fs::write(&go, "").unwrap();
    let rest = events.rest().await;
    assert_eq!(rest[0].json()["kind"], "succeeded");
    assert_eq!((rest[1].event.as_str(), &rest[1].json()["state"]), ("end", &json!("succeeded")));
    let rest = attempts.rest().await;
    let (end, last) = (&rest[rest.len() - 1], &rest[rest.len() - 2]);
    assert_eq!((end.event.as_str(), &last.json()["state"]), ("end", &json!("succeeded")));
    assert_eq!(last.json()["steps"][0]["state"], "succeeded");
}

#[tokio::test]
async fn those_who_wait_hold_nobody_up() {
    let scene = Scene::idle(&[]).await;
    let waiting = scene.submit(&command(&["true"])).await;
    let path = format!("/v1/executions/{waiting}");
    let held = (0..200).map(|_| {
        let (client, path) = (scene.client.clone(), format!("{path}?wait=60s"));
        tokio::spawn(async move { client.get(&path).await.ok(200) })
    });
    let held: Vec<_> = held.collect();
    let mut logs = Vec::new();
    for _ in 0..50 {
        logs.push(Events::of(&scene, &format!("{path}/logs?follow=true"), &[]).await);
    }
    let began = Instant::now();
    scene.submit(&command(&["true"])).await;
    scene.get("/v1/executions").await.ok(200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    scene.ask(&format!("{path}/cancel")).await.ok(202);
    for held in held {
        assert_eq!(held.await.unwrap()["state"], "cancelled");
    }
    for log in logs {
        assert_eq!(log.rest().await.last().unwrap().json()["state"], "cancelled");
    }
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "nobody waited for the time that was asked for: {:?}",
        began.elapsed()
    );
}
