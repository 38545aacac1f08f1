//! Each way to fail that a node can be brought to, by its code, within seconds of Kubernetes' showing it.

use crate::lab::{Lab, RUN, script, variable};
use futures_util::future::ready;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use roadstead_testkit::wait_for;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// From Kubernetes' showing it to Roadstead's saying it.
const PROMPT: Duration = Duration::from_secs(5);

fn with_image(image: &str) -> Value {
    let mut spec = script("true");
    spec["image"] = json!(image);
    spec
}

/// Waits until the pod of an execution shows something. Watched: what an end shows is gone with the pod a moment later.
async fn shown(lab: &Lab, id: &str, what: &str, shows: impl Fn(&Pod) -> bool) -> Instant {
    let labelled = watcher::Config::default().labels(&format!("roadstead.dev/execution={id}"));
    let pods = watcher(lab.pods(), labelled).default_backoff().touched_objects();
    let seen = pods.try_filter(|pod| ready(shows(pod)));
    let seen = tokio::time::timeout(RUN, std::pin::pin!(seen).next()).await;
    seen.unwrap_or_else(|late| panic!("{what} is not shown: {late}")).unwrap().unwrap();
    Instant::now()
}

fn waits_with(pod: &Pod, reasons: &[&str]) -> bool {
    let status = pod.status.clone().unwrap_or_default();
    let containers =
        status.init_container_statuses.into_iter().flatten().chain(status.container_statuses.into_iter().flatten());
    containers.filter_map(|container| container.state?.waiting?.reason).any(|reason| reasons.contains(&reason.as_str()))
}

fn ended_with(pod: &Pod, reason: &str) -> bool {
    let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).into_iter().flatten();
    let mut ends = containers.filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    ends.any(|end| end.reason.as_deref() == Some(reason))
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn an_image_that_can_not_be_named_is_not_found() {
    let lab = Lab::new().await;
    let id = lab.submit(with_image("Python:3")).await;
    let begun = shown(&lab, &id, "InvalidImageName", |pod| waits_with(pod, &["InvalidImageName"])).await;
    let execution = lab.ended(&id).await;
    assert_eq!(
        (&execution["state"], &execution["reason"]["code"]),
        (&json!("failed"), &json!("image_not_found")),
        "{execution}"
    );
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    lab.is_cleared(&id).await;
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_registry_that_is_away_is_said_and_then_a_failure() {
    let lab = Lab::new().await;
    let id = lab.submit(with_image("localhost/nowhere:1")).await;
    let begun = shown(&lab, &id, "ErrImagePull", |pod| waits_with(pod, &["ErrImagePull", "ImagePullBackOff"])).await;
    let execution = lab.says(&id, "image_pull_backoff").await;
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    assert_eq!(execution["queue"]["waiting_for"], "image", "{execution}");
    let execution = lab.ended(&id).await;
    assert_eq!(execution["reason"]["code"], "image_pull_backoff", "{execution}");
    lab.is_cleared(&id).await;
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_pod_without_a_place_waits_and_says_for_what() {
    let lab = Lab::new().await;
    let mut spec = script("true");
    spec["resources"]["cpu"] = json!("4");
    let id = lab.submit(spec).await;
    let begun = shown(&lab, &id, "Unschedulable", |pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.reason.as_deref() == Some("Unschedulable")))
    })
    .await;
    let execution = lab.says(&id, "unschedulable").await;
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    assert_eq!(execution["queue"]["waiting_for"], "pod_scheduling", "{execution}");
    assert!(execution["reason"]["message"].as_str().unwrap().contains("Insufficient cpu"), "{execution}");
    lab.cancel(&id).await;
    lab.ended(&id).await;
    lab.is_cleared(&id).await;
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn an_image_that_no_container_can_be_made_of_is_a_failure() {
    let lab = Lab::new().await;
    let id = lab.submit_with_retries(with_image(&variable("ROADSTEAD_IMAGE_UNFIT")), 2).await;
    let begun = shown(&lab, &id, "StartError", |pod| ended_with(pod, "StartError")).await;
    let execution = lab.ended(&id).await;
    println!("said {:?} after it was shown", begun.elapsed());
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    assert_eq!(
        (&execution["state"], &execution["reason"]["code"], &execution["attempt"]),
        (&json!("failed"), &json!("container_config_error"), &json!(1)),
        "another attempt would not do better: {execution}"
    );
    assert!(execution["reason"]["message"].as_str().unwrap().contains("not a directory"), "{execution}");
    lab.is_cleared(&id).await;
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn more_memory_than_its_limit_is_named() {
    let lab = Lab::new().await;
    let id = lab.submit(script("x=$(head -c 300000000 /dev/zero | tr '\\0' a); echo ${#x}")).await;
    let execution = lab.ended(&id).await;
    assert_eq!(
        (&execution["state"], &execution["reason"]["code"]),
        (&json!("failed"), &json!("oom_killed")),
        "{execution}"
    );
    lab.is_cleared(&id).await;
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_deleted_pod_and_a_deleted_job_are_ends() {
    let lab = Lab::new().await;
    for what in ["pod", "Job"] {
        let id = lab.submit(script("sleep 300")).await;
        lab.runs(&id).await;
        let pod = lab.pod(&id).await.metadata.name.unwrap();
        if what == "pod" {
            lab.pods().delete(&pod, &DeleteParams::default()).await.unwrap();
        } else {
            let job = format!("rs-{id}-1");
            lab.jobs().delete(&job, &DeleteParams::background()).await.unwrap();
        }
        let execution = lab.ended(&id).await;
        assert_eq!(execution["state"], "failed", "{what}: {execution}");
        println!("a deleted {what}: {}", execution["reason"]);
        lab.is_cleared(&id).await;
    }
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_drained_node_evicts_and_it_is_said() {
    let lab = Lab::new().await;
    let id = lab.submit_with_retries(script("echo begun $ROADSTEAD_ATTEMPT; sleep 300"), 1).await;
    for attempt in 1..=2 {
        let name = format!("rs-{id}-{attempt}-");
        let pod = wait_for("its step", RUN, async || {
            let log = lab.log(&id).await;
            let pods = lab.pods().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let pod = pods.items.into_iter().filter_map(|pod| pod.metadata.name).find(|pod| pod.starts_with(&name));
            pod.filter(|_| log.contains(&format!("begun {attempt}"))).ok_or(log)
        })
        .await;
        lab.pods().evict(&pod, &EvictParams::default()).await.unwrap();
        let begun = Instant::now();
        wait_for("the reason", RUN, async || {
            let codes = lab.codes(&id).await;
            if codes[attempt - 1] == "evicted" { Ok(()) } else { Err(format!("{codes:?}")) }
        })
        .await;
        println!("attempt {attempt} was evicted, and says so after {:?}", begun.elapsed());
        assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    }
    let execution = lab.says(&id, "evicted").await;
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("failed"), &json!(2)), "{execution}");
    assert!(execution["reason"]["message"].as_str().unwrap().contains("EvictionByEvictionAPI"), "{execution}");
    lab.is_cleared(&id).await;
}

fn reason_of(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.reason.as_deref()
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn more_on_its_disk_than_its_limit_is_an_eviction() {
    let lab = Lab::new().await;
    // The kubelet gives it a second: a step that does not mind its signal costs the executor its report.
    tokio::join!(
        more_on_its_disk_than_its_limit(&lab, "sleep 300"),
        more_on_its_disk_than_its_limit(&lab, "trap '' TERM; while :; do sleep 1; done"),
    );
}

async fn more_on_its_disk_than_its_limit(lab: &Lab, step: &str) {
    let id = lab.submit(script(&format!("head -c 100000000 /dev/zero > file; {step}"))).await;
    let begun = shown(lab, &id, "Evicted", |pod| reason_of(pod) == Some("Evicted")).await;
    let execution = lab.says(&id, "evicted").await;
    println!("said {:?} after it was shown: {}", begun.elapsed(), execution["reason"]);
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    assert_eq!(execution["state"], "failed", "{execution}");
    assert!(execution["reason"]["message"].as_str().unwrap().contains("exceeds the limit"), "{execution}");
    lab.is_cleared(&id).await;
}
