//! The node is lost with work on it, and comes back. Whatever else is on it goes with it.

use crate::lab::{RUN, kubelab, script};
use crate::outside::Outside;
use kube::api::ListParams;
use roadstead_testkit::wait_for;
use serde_json::json;
use std::time::{Duration, Instant};

/// NotReady, eviction, lease and settlement.
const LOSS: Duration = Duration::from_secs(120);
/// A step is known by how long it sleeps, on this machine, too.
const MARK: &str = "271828";

/// Processes of the step that sleeps: the containers are this machine's.
fn sleepers() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines.filter(|line| *line == format!("sleep\0{MARK}\0").as_bytes()).count()
}

#[tokio::test]
#[ignore = "needs a real node: make e2e"]
async fn a_lost_nodes_attempts_are_tried_again_when_nothing_of_them_runs() {
    let outside = Outside::new(&[
        ("ATTEMPT_LEASE_SECONDS", "15"),
        ("KILL_GRACE_SECONDS", "2"),
        ("KUBERNETES_RECONCILE_INTERVAL", "5s"),
        ("MAX_CONCURRENT_JOBS", "2"),
    ])
    .await;
    let lost = outside.submit(script(&format!("[ $ROADSTEAD_ATTEMPT = 2 ] || sleep {MARK}")), 1).await;
    // Long enough for the eviction to come before its end.
    let heard = outside.submit(script("sleep 25"), 1).await;
    for id in [&lost, &heard] {
        outside.sees(id, "its start", RUN, |execution| execution["state"] == "running").await;
    }
    wait_for("Kubernetes to know that they run", RUN, async || {
        let pods = outside.namespace.pods().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let phases = pods.items.iter().filter_map(|pod| pod.status.as_ref()?.phase.as_deref());
        if phases.filter(|phase| *phase == "Running").count() == 2 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    wait_for("the step", RUN, async || if sleepers() == 1 { Ok(()) } else { Err("not yet".to_owned()) }).await;

    kubelab(&["stop", "kubelet", "--signal", "KILL"]).await;
    let begun = Instant::now();
    wait_for("both pods to be evicted", LOSS, async || {
        let pods = outside.namespace.pods().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let going = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some()).count();
        if going == 2 { Ok(()) } else { Err(format!("{going}")) }
    })
    .await;
    println!("Kubernetes evicts after {:?}", begun.elapsed());
    let execution = outside.sees(&heard, "its end", RUN, |execution| !execution["finished_at"].is_null()).await;
    assert_eq!(
        (&execution["state"], &execution["attempt"]),
        (&json!("succeeded"), &json!(1)),
        "a silent kubelet alone costs nothing"
    );

    outside.to_api.cut();
    outside.to_s3.cut();
    let cut = Instant::now();
    let execution = outside.sees(&lost, "its loss", LOSS, |execution| execution["reason"]["code"] == "node_lost").await;
    println!("lost {:?} after it was heard of: {}", cut.elapsed(), execution["reason"]);
    assert_eq!(sleepers(), 0, "by its own clock it stopped before anybody else could count on it");
    outside.sees(&lost, "its next attempt", RUN, |execution| execution["attempt"] == 2).await;
    outside.sees(&lost, "no place for it", RUN, |execution| execution["reason"]["code"] == "unschedulable").await;

    outside.to_api.mend();
    outside.to_s3.mend();
    kubelab(&["start", "kubelet"]).await;
    let back = Instant::now();
    let execution = outside.sees(&lost, "its end", RUN, |execution| !execution["finished_at"].is_null()).await;
    println!("its next attempt ended {:?} after the node was back", back.elapsed());
    assert_eq!((&execution["state"], &execution["attempt"]), (&json!("succeeded"), &json!(2)), "{execution}");
    let attempts = outside.attempts(&lost).await;
    assert_eq!(
        (&attempts[0]["state"], &attempts[0]["reason"]["code"]),
        (&json!("lost"), &json!("node_lost")),
        "{attempts:?}"
    );
    assert_eq!(outside.attempts(&heard).await.len(), 1);
    assert_eq!(outside.stack.sql_value("SELECT count(*) FROM execution_events WHERE kind = 'started'").await, "3");
    outside.nothing_is_left(RUN).await;
}
