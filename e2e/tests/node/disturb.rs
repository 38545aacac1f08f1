//! Parts of the cluster go and come back, with work running. These tests have the lab to themselves.

use crate::lab::{Lab, RUN, kubelab, script};
use roadstead_testkit::wait_for;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// For many executions, with outages in between.
const MANY: Duration = Duration::from_secs(240);

/// It succeeded in its first attempt, which was granted one start, and its log is whole.
async fn ran_once(lab: &Lab, id: &str, within: Duration) {
    let execution = lab.ended_within(id, within).await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("succeeded"), &json!(1)), "{execution}");
    assert_eq!(lab.log(id).await.trim(), format!("ran {id}"), "its step's own word");
    let timeline = lab.client.get(&format!("/v1/executions/{id}/events")).await.expect(200).json();
    let starts = timeline["items"].as_array().unwrap().iter().filter(|event| event["kind"] == "started").count();
    assert_eq!(starts, 1, "{timeline}");
}

fn runs_for(seconds: u32) -> Value {
    script(&format!("echo ran $ROADSTEAD_EXECUTION_ID; sleep {seconds}"))
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn work_outlives_a_kubelet_that_is_killed_and_comes_back() {
    let lab = Lab::new().await;
    let cap = lab.cap().await;
    let mut ids = Vec::new();
    for _ in 0..cap {
        ids.push(lab.submit(runs_for(15)).await);
    }
    for id in &ids {
        lab.runs(id).await;
    }
    kubelab(&["stop", "kubelet", "--signal", "KILL"]).await;
    kubelab(&["start", "kubelet"]).await;
    for id in &ids {
        assert_eq!(lab.get(id).await["state"], "running", "else this says nothing");
    }
    for id in &ids {
        ran_once(&lab, id, RUN).await;
        lab.is_cleared(id).await;
    }
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn work_outlives_an_api_server_that_is_killed_again_and_again() {
    const COUNT: usize = 28;
    // After each, Kubernetes' own parts wait longer before they look again: the third costs a minute.
    const OUTAGES: usize = 2;
    let lab = Lab::new().await;
    let (cap, most, begun) = (lab.cap().await, lab.attempts.watch_the_cap(), Instant::now());
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        ids.push(lab.submit(runs_for(1)).await);
    }
    let mut met = HashSet::new();
    for _ in 0..OUTAGES {
        let running = wait_for("one to run that no outage has met", RUN, async || {
            let page = lab.client.get("/v1/executions?state=running").await.expect(200).json();
            let items = page["items"].as_array().unwrap().iter();
            let running: Vec<String> = items.map(|item| item["id"].as_str().unwrap().to_owned()).collect();
            if running.iter().any(|id| !met.contains(id)) { Ok(running) } else { Err(page.to_string()) }
        })
        .await;
        kubelab(&["stop", "kube-apiserver", "--signal", "KILL"]).await;
        for id in &running {
            lab.ended(id).await;
        }
        kubelab(&["start", "kube-apiserver"]).await;
        met.extend(running);
    }
    for id in &ids {
        ran_once(&lab, id, MANY).await;
    }
    println!("{COUNT} executions and {OUTAGES} outages took {:?}", begun.elapsed());
    for id in &ids {
        lab.is_cleared(id).await;
    }
    let most = most.load(Ordering::SeqCst);
    println!("{most} Jobs at most, where the cap is {cap}");
    assert_eq!(most, cap, "Jobs");
}
