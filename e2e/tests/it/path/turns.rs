//! Whose turn it is: times, priorities, limits, and what is told to those who wait.

use chrono::{DateTime, Utc};
use roadstead_e2e::answers::Checked;
use roadstead_e2e::scene::{Executions, RUN, Scene, TENANT, id};
use roadstead_e2e::submission::{With, command, shell, wait_for_file};
use roadstead_testkit::{PATIENCE, wait_for};
use serde_json::{Value, json};

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap_or_else(|| panic!("no time: {value}")).parse().unwrap()
}

fn in_milliseconds(milliseconds: i64) -> String {
    (Utc::now() + chrono::TimeDelta::milliseconds(milliseconds)).to_rfc3339()
}

#[tokio::test]
async fn nothing_runs_before_its_time() {
    let scene = Scene::new().await;
    let body = command(&["true"]).with(json!({ "run_at": in_milliseconds(1_500) }));
    let submitted = scene.post("/v1/executions", &body).await.ok(202);
    assert_eq!((&submitted["state"], &submitted["queue"]["waiting_for"]), (&json!("scheduled"), &json!("run_at")));
    let execution = scene.ended(&id(&submitted)).await;
    assert_eq!(execution["state"], "succeeded");
    assert!(time(&execution["started_at"]) >= time(&submitted["run_at"]), "{execution}");

    let past =
        scene.post("/v1/executions", &command(&["true"]).with(json!({ "run_at": "2001-01-01T00:00:00Z" }))).await;
    assert_eq!(past.ok(202)["state"], "queued", "a time that has passed is now");
    let far =
        scene.post("/v1/executions", &command(&["true"]).with(json!({ "run_at": in_milliseconds(3_600_000) }))).await;
    let cancelled = scene.ask(&format!("/v1/executions/{}/cancel", id(&far.ok(202)))).await.ok(202);
    assert_eq!(cancelled["state"], "cancelled", "at once, while it waits");
}

#[tokio::test]
async fn high_goes_before_normal_before_low_and_each_in_order() {
    let settings = [("MAX_CONCURRENT_JOBS", "1")];
    let mut scene = Scene::idle(&settings).await;
    let mut expected = Vec::new();
    for priority in ["low", "normal", "high"] {
        let mut pair = Vec::new();
        for _ in 0..2 {
            pair.push(scene.submit(&command(&["true"]).with(json!({ "priority": priority }))).await);
        }
        expected.splice(0..0, pair);
    }
    let ahead = scene.execution(&expected[5]).await;
    assert_eq!((&ahead["queue"]["ahead"], &ahead["queue"]["waiting_for"]), (&json!(5), &json!("dispatch")), "{ahead}");
    scene.add_worker(&settings).await;
    let mut ran = Vec::new();
    for id in &expected {
        ran.push((time(&scene.ended(id).await["started_at"]), id.clone()));
    }
    ran.sort();
    assert_eq!(ran.into_iter().map(|(_, id)| id).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn whoever_waits_is_told_what_for() {
    let scene = Scene::with(&[("MAX_CONCURRENT_JOBS", "2")]).await;
    scene.stack.admin(&["tenants", "set", "small", "--max-concurrent", "1"]).await;
    let (go, small) = (scene.file("go"), scene.client_of("small", "submit").await);
    let hold = shell(&wait_for_file(&go));
    let running = small.submit(&hold).await;
    small.reaches(&running, "running").await;
    let limited = small.submit(&command(&["true"])).await;
    waits_for(&small, &limited, "tenant_limit").await;

    let other = scene.submit(&hold).await;
    scene.reaches(&other, "running").await;
    let waiting = scene.submit(&command(&["true"])).await;
    waits_for(&scene, &waiting, "cap").await;
    assert!(scene.execution(&other).await["queue"].is_null());

    let capacity = scene.get("/v1/capacity").await.ok(200);
    assert_eq!((&capacity["cap"], &capacity["live"]), (&json!(2), &json!(2)), "{capacity}");
    let queued = capacity["queued"].as_array().unwrap();
    let own = json!({ "tenant": TENANT, "priority": "normal", "queued": 1 });
    assert!(queued.contains(&own), "{capacity}");
    assert!(queued.iter().all(|row| row["tenant"] == TENANT), "others' queues are not told: {capacity}");
    assert!(capacity["oldest_age_seconds"].is_number() && capacity["finished_per_second"].is_number(), "{capacity}");

    std::fs::write(&go, "").unwrap();
    for (client, id) in [(&small, &running), (&small, &limited), (&scene.client, &other), (&scene.client, &waiting)] {
        assert_eq!(client.ended(id).await["state"], "succeeded");
    }
}

async fn waits_for(client: &roadstead_testkit::Client, id: &str, what: &str) {
    wait_for(&format!("{id} to wait for {what}"), PATIENCE, async || {
        let execution = client.execution(id).await;
        if execution["queue"]["waiting_for"] == what { Ok(()) } else { Err(execution.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_tenants_own_limit_holds_while_others_go_on() {
    let scene = Scene::with(&[("MAX_CONCURRENT_JOBS", "6")]).await;
    scene.stack.admin(&["tenants", "set", "small", "--max-concurrent", "2"]).await;
    let small = scene.client_of("small", "submit").await;
    // Each step counts those of its tenant that are there with it.
    let folder = scene.file("there");
    std::fs::create_dir(&folder).unwrap();
    let script = format!(
        "cd {0}; touch $ROADSTEAD_EXECUTION_ID; ls | wc -l >> {0}.counts; sleep 0.1; rm $ROADSTEAD_EXECUTION_ID",
        folder.display()
    );
    let mut limited = Vec::new();
    for _ in 0..8 {
        limited.push(small.submit(&shell(&script)).await);
    }
    let free = scene.run(&command(&["true"])).await;
    assert_eq!(free["state"], "succeeded");
    for id in &limited {
        assert_eq!(small.wait_for_end(id, RUN).await["state"], "succeeded");
    }
    let counts = std::fs::read_to_string(folder.with_extension("counts")).unwrap();
    let most = counts.lines().map(|line| line.trim().parse::<u32>().unwrap()).max();
    assert_eq!((counts.lines().count(), most), (8, Some(2)), "{counts}");
}

#[tokio::test]
async fn a_limit_that_is_lifted_lets_what_waits_go_at_once() {
    // Longer than a test waits: nobody compares the limits unasked.
    let scene = Scene::with(&[("KUBERNETES_RECONCILE_INTERVAL", "1h")]).await;
    scene.stack.admin(&["tenants", "set", "closed", "--max-concurrent", "0"]).await;
    let closed = scene.client_of("closed", "submit").await;
    let waiting = closed.submit(&command(&["true"])).await;
    wait_for("its reason", PATIENCE, async || {
        let execution = closed.execution(&waiting).await;
        if execution["queue"]["waiting_for"] == "tenant_limit" { Ok(()) } else { Err(execution.to_string()) }
    })
    .await;
    scene.stack.admin(&["tenants", "set", "closed", "--max-concurrent", "none"]).await;
    assert_eq!(closed.wait_for_end(&waiting, RUN).await["state"], "succeeded");
}

#[tokio::test]
async fn a_tenants_queue_is_bounded_to_the_last_one() {
    let scene = Scene::idle(&[]).await;
    scene.stack.admin(&["tenants", "set", TENANT, "--max-queued", "5"]).await;
    let asked = (0..12).map(|_| {
        let client = scene.client.clone();
        tokio::spawn(async move { client.post("/v1/executions", &command(&["true"])).await })
    });
    let (mut accepted, mut refused) = (Vec::new(), 0);
    for answer in asked.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        if answer.status == 202 {
            accepted.push(id(&answer.json()));
        } else {
            answer.problem(429, "quota-exceeded");
            assert!(answer.value("retry-after").parse::<u32>().is_ok(), "{:?}", answer.headers);
            refused += 1;
        }
    }
    assert_eq!((accepted.len(), refused), (5, 7));
    assert_eq!(scene.stack.sql_value("SELECT count(*) FROM executions").await, "5");

    let other = scene.client_of("other", "submit").await;
    other.post("/v1/executions", &command(&["true"])).await.ok(202);
    scene.ask(&format!("/v1/executions/{}/cancel", accepted[0])).await.ok(202);
    wait_for("room for one more", PATIENCE, async || {
        let answer = scene.post("/v1/executions", &command(&["true"])).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text()) }
    })
    .await;
    let batch = json!({ "executions": [command(&["true"])] });
    scene.post("/v1/executions/batch", &batch).await.problem(429, "quota-exceeded");
}

#[tokio::test]
async fn one_tenants_backlog_does_not_hold_up_anothers_first() {
    let settings = [("MAX_CONCURRENT_JOBS", "1")];
    let mut scene = Scene::idle(&settings).await;
    let other = scene.client_of("other", "submit").await;
    let backlog = json!({ "executions": vec![command(&["true"]); 60] });
    scene.post("/v1/executions/batch", &backlog).await.ok(202);
    let late = other.submit(&command(&["true"])).await;
    scene.add_worker(&settings).await;
    assert_eq!(other.ended(&late).await["state"], "succeeded");
    let before = format!(
        "SELECT count(*) FROM executions WHERE tenant = '{TENANT}' AND started_at < (SELECT started_at FROM executions WHERE tenant = 'other')"
    );
    let before: u32 = scene.stack.sql_value(&before).await.parse().unwrap();
    assert!(before <= 3, "{before} of the backlog went first");
}
