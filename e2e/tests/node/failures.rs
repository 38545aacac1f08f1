//! Each way to fail that a node can be brought to, by its code, within seconds of Kubernetes' showing it.

use crate::lab::{Lab, RUN, script};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
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

/// Waits until the pod of an execution shows something.
async fn shown(lab: &Lab, id: &str, what: &str, shows: impl Fn(&Pod) -> bool) -> Instant {
    let labelled = ListParams::default().labels(&format!("roadstead.dev/execution={id}"));
    wait_for(what, RUN, async || {
        let pods = lab.pods().list(&labelled).await.map_err(|error| error.to_string())?;
        if pods.items.iter().any(&shows) { Ok(Instant::now()) } else { Err("not yet".to_owned()) }
    })
    .await
}

fn waits_with(pod: &Pod, reasons: &[&str]) -> bool {
    let status = pod.status.clone().unwrap_or_default();
    let containers =
        status.init_container_statuses.into_iter().flatten().chain(status.container_statuses.into_iter().flatten());
    containers.filter_map(|container| container.state?.waiting?.reason).any(|reason| reasons.contains(&reason.as_str()))
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
    let execution = lab.waits_for(&id, "image_pull_backoff").await;
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
    let execution = lab.waits_for(&id, "unschedulable").await;
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    assert_eq!(execution["queue"]["waiting_for"], "pod_scheduling", "{execution}");
    assert!(execution["reason"]["message"].as_str().unwrap().contains("Insufficient cpu"), "{execution}");
    lab.cancel(&id).await;
    lab.ended(&id).await;
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
        wait_for("its start", RUN, async || {
            let state = lab.get(&id).await["state"].clone();
            if state == "running" { Ok(()) } else { Err(state.to_string()) }
        })
        .await;
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
