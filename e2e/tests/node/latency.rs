//! From a submission to a process, beside a bare Job's: told, not judged.

use crate::lab::{Lab, busybox, script};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, PostParams};
use roadstead_testkit::wait_for;
use serde_json::json;
use std::time::Duration;

const TIMES: usize = 50;

/// The kernel's clock, which is the pods' too, in hundredths of a second: no image lacks it.
fn now() -> f64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    uptime.split(' ').next().unwrap().parse().unwrap()
}

fn told(mut seconds: Vec<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    format!("p50 {:.3} s, p99 {:.3} s", seconds[seconds.len() / 2], seconds[seconds.len() * 99 / 100])
}

const STAMP: &str = "read at rest < /proc/uptime; echo \"{\\\"at\\\": $at}\" > $ROADSTEAD_RESULT";

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn how_long_a_start_takes() {
    let lab = Lab::new().await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        let begun = now();
        let id = lab.submit(script(STAMP)).await;
        let execution = lab.ended(&id).await;
        ours.push(execution["result"]["at"].as_f64().unwrap_or_else(|| panic!("{execution}")) - begun);
        lab.is_cleared(&id).await;
        bare.push(bare_job(&lab, number).await);
    }
    println!("submit to the user's process: {}", told(ours));
    println!("a bare Job's creation to its process: {}", told(bare));
}

/// A Job of the same shape, an init container and a container, whose process says when it began.
async fn bare_job(lab: &Lab, number: usize) -> f64 {
    let name = format!("bare-{number}");
    let confined = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"}});
    let little = json!({"limits": {"cpu": "100m", "memory": "64Mi", "ephemeral-storage": "64Mi"}});
    let job: Job = serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": {
        "restartPolicy": "Never", "automountServiceAccountToken": false,
        "initContainers": [{"name": "init", "image": busybox(), "command": ["true"], "securityContext": confined, "resources": little}],
        "containers": [{"name": "main", "image": busybox(), "command": ["sh", "-c", "read at rest < /proc/uptime; echo $at > /dev/termination-log"],
            "securityContext": confined, "resources": little}],
    }}}}))
    .unwrap();
    let begun = now();
    lab.jobs().create(&PostParams::default(), &job).await.unwrap();
    let labelled = ListParams::default().labels(&format!("job-name={name}"));
    let at: f64 = wait_for("the bare Job's word", Duration::from_secs(60), async || {
        let pods = lab.pods().list(&labelled).await.map_err(|error| error.to_string())?;
        let status = pods.items.into_iter().next().and_then(|pod| pod.status).ok_or("no pod")?;
        let state = status
            .container_statuses
            .into_iter()
            .flatten()
            .next()
            .and_then(|container| container.state)
            .ok_or("no container")?;
        let message = state.terminated.and_then(|end| end.message).ok_or("not over")?;
        message.trim().parse().map_err(|_| message)
    })
    .await;
    lab.jobs().delete(&name, &DeleteParams::background()).await.unwrap();
    at - begun
}
