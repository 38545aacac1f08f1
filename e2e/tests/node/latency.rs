//! From a submission to a process, beside a bare Job's: told, not judged.

use crate::lab::{Lab, busybox};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
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

/// The kubelet looks at its containers once a second, so a start takes up to a second more or less by when it is asked for. Each is asked for at its own
/// place in a second, ours and the bare one at the same.
async fn at_its_place(number: usize) {
    let place = number as f64 / TIMES as f64;
    let wait = (place - now().fract()).rem_euclid(1.0);
    tokio::time::sleep(Duration::from_secs_f64(wait)).await;
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn how_long_a_start_takes() {
    let lab = Lab::new().await;
    let spec = || json!({"image": busybox(), "steps": [{"id": "a", "command": ["sh", "-c", STAMP]}]});
    let id = lab.submit(spec()).await;
    let model = job_of(&lab, &id).await;
    lab.ended(&id).await;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for number in 0..TIMES {
        at_its_place(number).await;
        let begun = now();
        let id = lab.submit(spec()).await;
        let execution = lab.ended(&id).await;
        ours.push(execution["result"]["at"].as_f64().unwrap_or_else(|| panic!("{execution}")) - begun);
        lab.is_cleared(&id).await;
        at_its_place(number).await;
        bare.push(bare_job(&lab, &model, number).await);
    }
    println!("submit to the user's process: {}", told(ours));
    println!("a bare Job's creation to its process: {}", told(bare));
}

async fn job_of(lab: &Lab, id: &str) -> Job {
    let labelled = ListParams::default().labels(&format!("roadstead.dev/execution={id}"));
    wait_for("its Job", Duration::from_secs(60), async || {
        let jobs = lab.jobs().list(&labelled).await.map_err(|error| error.to_string())?;
        jobs.items.into_iter().next().ok_or_else(|| "none".to_owned())
    })
    .await
}

/// The same Job, but its process only says when it began, and it is nobody's.
async fn bare_job(lab: &Lab, model: &Job, number: usize) -> f64 {
    let name = format!("bare-{number}");
    let mut job = Job {
        metadata: ObjectMeta { name: Some(name.clone()), ..Default::default() },
        spec: model.spec.clone(),
        status: None,
    };
    let spec = job.spec.as_mut().unwrap();
    spec.selector = None;
    spec.template.metadata = None;
    let main = &mut spec.template.spec.as_mut().unwrap().containers[0];
    main.command =
        Some(["sh", "-c", "read at rest < /proc/uptime; echo $at > /dev/termination-log"].map(Into::into).to_vec());
    main.args = None;
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
