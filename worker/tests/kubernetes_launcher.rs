//! The Kubernetes launcher before a real control plane, whose only kubelet is this test: it says what becomes of pods, everything else happens.
//!
//! It needs a cluster without nodes (`scripts/e2e/launchers.sh` starts one): `KUBECONFIG=… cargo test -p roadstead-worker --test kubernetes_launcher -- --ignored`.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Binding, Namespace, Node, Pod, ResourceQuota, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use roadstead_backend::config::{KubernetesConfig, NamespacePolicy};
use roadstead_backend::store::launch::Demand;
use roadstead_domain::attempt::placement::job_name;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use roadstead_domain::workflow::Resources;
use roadstead_worker::launch::kubernetes::{Jobs, KubernetesLauncher, read_namespace_objects};
use roadstead_worker::launch::{End, Ended, LaunchError, LaunchOrder, Launcher, News, Stage, StopCause};
use serde_json::json;
use slog::{Discard, Logger, o};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(60);
/// From Kubernetes' showing it to its being told.
const PROMPT: Duration = Duration::from_secs(5);
const NODE: &str = "nowhere";
const TENANT: &str = "acme";

struct Scene {
    client: Client,
    namespace: String,
    installation: Uuid,
    config: KubernetesConfig,
}

fn amounts() -> Resources {
    Resources { cpu: Some("100m".into()), memory: Some("64Mi".into()), ephemeral_storage: Some("64Mi".into()) }
}

impl Scene {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_default().await.expect("KUBECONFIG names a cluster");
        let namespace = format!("it-{}", Uuid::new_v4().simple());
        let config = KubernetesConfig {
            namespace_template: namespace.clone(),
            namespace_policy: NamespacePolicy::Require,
            namespace_objects_file: None,
            watch_namespaces: Vec::new(),
            executor_image: "executor:1".into(),
            image_pull_policy: "Never".into(),
            service_account: "roadstead-executor".into(),
            runtime_class: None,
            workflow_image: Some("workflow:1".into()),
            default_resources: amounts(),
            max_resources: amounts(),
            job_template_file: None,
            kueue_queue: None,
        };
        let scene = Self { client, namespace, installation: Uuid::new_v4(), config };
        let namespace: Namespace = object(json!({"metadata": {"name": scene.namespace, "labels": {
            "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}}}));
        Api::all(scene.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let account: ServiceAccount = object(json!({"metadata": {"name": "roadstead-executor"}}));
        scene.api().create(&PostParams::default(), &account).await.unwrap();
        // Pods that are bound to a node that is not there are collected. Nothing is scheduled to this one.
        let node: Node =
            object(json!({"metadata": {"name": NODE}, "spec": {"taints": [{"key": "test", "effect": "NoSchedule"}]}}));
        let _ = Api::all(scene.client.clone()).create(&PostParams::default(), &node).await;
        scene
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Another worker's launcher of the same installation.
    async fn launcher(&self) -> KubernetesLauncher {
        self.launcher_by(&self.config, "").await
    }

    async fn launcher_by(&self, config: &KubernetesConfig, objects: &str) -> KubernetesLauncher {
        let grace = Duration::from_secs(1);
        let jobs = Jobs::new(config, "http://api:8080", Duration::from_secs(60), grace, None).unwrap();
        let objects = read_namespace_objects(objects).unwrap();
        let (client, log) = (self.client.clone(), Logger::root(Discard, o!()));
        let launcher = KubernetesLauncher::new(client, config, jobs, objects, Duration::from_secs(2), grace, log);
        launcher.begin(self.installation);
        until("the first lists", async || launcher.is_ready()).await;
        launcher
    }

    /// A quota that has no room for a Job.
    async fn full_of_jobs(&self) {
        let quota: ResourceQuota =
            object(json!({"metadata": {"name": "jobs"}, "spec": {"hard": {"count/jobs.batch": "0"}}}));
        self.api().create(&PostParams::default(), &quota).await.unwrap();
        // Admission hears of a quota a moment after everybody else.
        until("the quota", async || !self.takes_jobs().await).await;
    }

    async fn takes_jobs(&self) -> bool {
        let probe: Job =
            object(json!({"metadata": {"name": "probe"}, "spec": {"template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "a", "image": "a"}]}}}}));
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        self.api::<Job>().create(&dry_run, &probe).await.is_ok()
    }

    async fn job(&self, attempt: AttemptId) -> Option<Job> {
        self.api().get_opt(&job_name(attempt)).await.unwrap()
    }

    /// The attempt's pod, once the Job controller has made it.
    async fn pod(&self, attempt: AttemptId) -> Pod {
        let labelled = ListParams::default().labels(&format!("job-name={}", job_name(attempt)));
        let find = async || self.api::<Pod>().list(&labelled).await.unwrap().items.pop();
        until("a pod", async || find().await.is_some()).await;
        find().await.unwrap()
    }

    /// As the scheduler would.
    async fn bind(&self, pod: &Pod) {
        let binding: Binding =
            object(json!({"metadata": {"name": pod.name_any()}, "target": {"kind": "Node", "name": NODE}}));
        let path = format!("/api/v1/namespaces/{}/pods/{}/binding", self.namespace, pod.name_any());
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&binding).unwrap())
            .unwrap();
        self.client.request_text(request).await.unwrap();
    }

    /// As the kubelet would: the phase, and the state of the attempt's container.
    async fn say(&self, pod: &Pod, phase: &str, state: serde_json::Value) {
        let status = json!({"status": {"phase": phase, "containerStatuses": [{
            "name": "attempt", "image": "x", "imageID": "", "ready": false, "restartCount": 0, "state": state,
        }]}});
        self.api::<Pod>().patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    }

    async fn end(&self, attempt: AttemptId, code: i32) {
        let pod = self.pod(attempt).await;
        self.bind(&pod).await;
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.say(&pod, phase, json!({"terminated": {"exitCode": code, "reason": "Error"}})).await;
    }

    /// As the kubelet would: what is to go, goes.
    async fn let_go(&self, attempt: AttemptId) {
        let labelled = ListParams::default().labels(&format!("job-name={}", job_name(attempt)));
        until("its pods to go", async || {
            for pod in self.api::<Pod>().list(&labelled).await.unwrap() {
                if pod.metadata.deletion_timestamp.is_some() {
                    let now = DeleteParams::default().grace_period(0);
                    let _ = self.api::<Pod>().delete(&pod.name_any(), &now).await;
                }
            }
            self.api::<Pod>().list(&labelled).await.unwrap().items.is_empty()
        })
        .await;
    }
}

fn object<K: serde::de::DeserializeOwned>(value: serde_json::Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn order() -> LaunchOrder {
    LaunchOrder {
        tenant: TENANT.to_owned(),
        attempt: AttemptId { execution_id: ExecutionId::new(), attempt: 1 },
        credential: None,
        demand: Some(Demand::default()),
        is_taken_over: false,
        timeout: Duration::from_secs(60),
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds().await {
            sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}

async fn launch(launcher: &KubernetesLauncher) -> AttemptId {
    let order = order();
    let attempt = order.attempt;
    launcher.launch(order, Instant::now() + PATIENCE).await.unwrap();
    attempt
}

async fn ended(launcher: &KubernetesLauncher) -> Ended {
    let next = async {
        loop {
            if let News::Ended(ended) = launcher.observe().await {
                return ended;
            }
        }
    };
    timeout(PATIENCE, next).await.expect("an end")
}

async fn waiting(launcher: &KubernetesLauncher, code: &str) -> Reason {
    let next = async {
        loop {
            match launcher.observe().await {
                News::Waiting { reason, .. } if reason.code == code => return reason,
                News::Waiting { .. } => {}
                News::Ended(ended) => panic!("it waits, and has not ended: {ended:?}"),
            }
        }
    };
    timeout(PATIENCE, next).await.unwrap_or_else(|_| panic!("{code} was not told"))
}

/// Launches in vain, and hears why at once.
async fn put_off(launcher: &KubernetesLauncher, order: &LaunchOrder, code: &str, words: &str) {
    let asked = Instant::now();
    let result = launcher.launch(order.clone(), asked + PATIENCE).await;
    assert!(matches!(&result, Err(LaunchError::Unknown(why)) if why.contains(words)), "{result:?}");
    let told = launcher.explain(order.attempt).unwrap();
    assert!(told.code == code && told.message.contains(words), "{told:?}");
    if !order.is_taken_over {
        assert_eq!(waiting(launcher, code).await, told);
    }
    assert!(asked.elapsed() < PROMPT, "{:?}", asked.elapsed());
}

fn not_started(ended: &Ended) -> (&str, bool) {
    match &ended.end {
        End::NotStarted { reason, retryable } => (&reason.code, *retryable),
        other => panic!("it did not start: {other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn the_same_launch_twice_is_one_job_and_another_installations_is_left_alone() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let order = order();
    for _ in 0..2 {
        launcher.launch(order.clone(), Instant::now() + PATIENCE).await.unwrap();
    }
    let other = Scene {
        installation: Uuid::new_v4(),
        config: scene.config.clone(),
        client: scene.client.clone(),
        namespace: scene.namespace.clone(),
    };
    let stranger = other.launcher().await;
    match stranger.launch(order.clone(), Instant::now() + PATIENCE).await {
        Err(LaunchError::Refused { reason, retryable: false }) => {
            assert!(reason.message.contains("another installation"), "{reason:?}");
        }
        result => panic!("{result:?}"),
    }
    until("its sight", async || launcher.held() == [order.attempt]).await;
    assert_eq!(scene.api::<Job>().list(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(stranger.held().is_empty());
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn who_could_not_have_made_a_job_takes_it_over_all_the_same() {
    let scene = Scene::new().await;
    let launched = order();
    scene.launcher().await.launch(launched.clone(), Instant::now() + PATIENCE).await.unwrap();
    let config = KubernetesConfig { workflow_image: None, ..scene.config.clone() };
    let launcher = scene.launcher_by(&config, "").await;
    let take_over = async |order: LaunchOrder| {
        launcher.launch(LaunchOrder { is_taken_over: true, ..order }, Instant::now() + PATIENCE).await
    };
    take_over(launched).await.unwrap();
    match take_over(order()).await {
        Err(LaunchError::Refused { reason, .. }) => assert!(reason.message.contains("WORKFLOW_IMAGE"), "{reason:?}"),
        result => panic!("{result:?}"),
    }
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn what_waits_in_a_queue_of_the_clusters_begins_when_it_is_admitted() {
    let scene = Scene::new().await;
    let config = KubernetesConfig { kueue_queue: Some("batch".into()), ..scene.config.clone() };
    let launcher = scene.launcher_by(&config, "").await;
    let attempt = launch(&launcher).await;
    waiting(&launcher, "unschedulable").await;
    assert_eq!(launcher.begun(attempt), Some(Duration::ZERO));
    let admitted = Patch::Merge(json!({"spec": {"suspend": false}}));
    scene.api::<Job>().patch(&job_name(attempt), &PatchParams::default(), &admitted).await.unwrap();
    until("its start", async || launcher.begun(attempt).is_some_and(|begun| !begun.is_zero())).await;
    assert!(launcher.begun(attempt) < Some(PATIENCE));
    scene.pod(attempt).await;
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn an_end_is_told_once_and_what_is_forgotten_goes() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let (good, bad) = (launch(&launcher).await, launch(&launcher).await);
    scene.end(good, 0).await;
    let first = ended(&launcher).await;
    assert_eq!((first.attempt, first.end, first.stage), (good, End::Reported, Stage::Over));
    scene.end(bad, 137).await;
    let second = ended(&launcher).await;
    assert!(matches!(&second.end, End::Lost(reason) if reason.code == "executor_lost"), "{second:?}");
    assert_eq!(*launcher.live().borrow(), 2, "their Jobs are there");
    assert!(scene.job(good).await.is_some(), "its outcome may not be recorded yet");
    for attempt in [good, bad] {
        launcher.let_go(attempt);
    }
    for _ in 0..2 {
        let last = ended(&launcher).await;
        assert_eq!((last.end, last.stage), (End::Reported, Stage::Gone));
        launcher.forget(last.attempt);
    }
    assert_eq!(*launcher.live().borrow(), 0);
    until("its Job to go", async || scene.job(good).await.is_none() && scene.job(bad).await.is_none()).await;
    scene.let_go(good).await;
    assert!(launcher.held().is_empty());
    assert!(timeout(Duration::from_secs(3), launcher.observe()).await.is_err(), "each end is told once");
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn what_a_dead_workers_attempt_came_to_is_told_by_another() {
    let scene = Scene::new().await;
    let (dead, standby) = (scene.launcher().await, scene.launcher().await);
    let before = launch(&dead).await;
    until("its sight", async || standby.holds(before)).await;
    scene.end(before, 0).await;
    assert_eq!(ended(&standby).await.attempt, before);
    let later = scene.launcher().await;
    assert_eq!(ended(&later).await.attempt, before, "also by one that was not there");
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_stop_ends_the_pods_first() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let attempt = launch(&launcher).await;
    let pod = scene.pod(attempt).await;
    scene.bind(&pod).await;
    scene.say(&pod, "Running", json!({"running": {}})).await;
    launcher.stop(attempt, StopCause::LeaseExpired);
    until("its pod to be told", async || scene.pod(attempt).await.metadata.deletion_timestamp.is_some()).await;
    assert_eq!(*launcher.live().borrow(), 1, "its pod is there");
    scene.let_go(attempt).await;
    let end = ended(&launcher).await;
    assert_eq!((end.attempt, end.end), (attempt, End::Stopped(StopCause::LeaseExpired)));
    assert_ne!(end.stage, Stage::Doomed);
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn strays_are_ended_and_waited_for() {
    let scene = Scene::new().await;
    let (dead, launcher) = (scene.launcher().await, scene.launcher().await);
    let attempt = launch(&dead).await;
    let pod = scene.pod(attempt).await;
    scene.bind(&pod).await;
    until("its sight", async || launcher.holds(attempt)).await;
    let (ended, ()) = tokio::join!(launcher.end_strays(attempt, StopCause::LeaseExpired), scene.let_go(attempt));
    assert!(ended);
    assert!(!*launcher.live().borrow() > 0);
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_deleted_job_is_a_lost_attempt_and_only_when_its_pod_is_gone() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let attempt = launch(&launcher).await;
    let pod = scene.pod(attempt).await;
    scene.bind(&pod).await;
    scene.say(&pod, "Running", json!({"running": {}})).await;
    let orphaning =
        DeleteParams { propagation_policy: Some(kube::api::PropagationPolicy::Orphan), ..DeleteParams::default() };
    scene.api::<Job>().delete(&job_name(attempt), &orphaning).await.unwrap();
    until("the deletion", async || scene.job(attempt).await.is_none()).await;
    assert!(timeout(Duration::from_secs(5), ended(&launcher)).await.is_err(), "its pod lives");
    scene.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
    let end = ended(&launcher).await;
    assert!(matches!(&end.end, End::Unseen(reason) if reason.code == "job_deleted"), "{end:?}");
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_pod_that_can_not_be_scheduled_waits_and_says_why() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let resources = Resources { cpu: Some("1000000".into()), ..Resources::default() };
    let order = LaunchOrder { demand: Some(Demand { image: None, resources }), ..order() };
    let attempt = order.attempt;
    launcher.launch(order, Instant::now() + PATIENCE).await.unwrap();
    let reason = waiting(&launcher, "unschedulable").await;
    assert!(reason.message.contains("nodes"), "{reason:?}");
    assert_eq!(launcher.explain(attempt).unwrap().code, "unschedulable");
    launcher.stop(attempt, StopCause::StartTimeout);
    scene.let_go(attempt).await;
    assert_eq!(not_started(&ended(&launcher).await), ("unschedulable", true), "the reason of the timeout is told");
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_missing_image_fails_the_start_at_once() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let attempt = launch(&launcher).await;
    let pod = scene.pod(attempt).await;
    scene.bind(&pod).await;
    let shown = Instant::now();
    scene.say(&pod, "Pending", json!({"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}})).await;
    let end = ended(&launcher).await;
    assert!(shown.elapsed() < PROMPT, "{:?}", shown.elapsed());
    assert_eq!((not_started(&end), end.stage), (("image_not_found", false), Stage::Doomed), "its pod is still there");
    launcher.let_go(attempt);
    scene.let_go(attempt).await;
    // The cluster's part, before the launcher's.
    until("the Job to be collected", async || scene.job(attempt).await.is_none()).await;
    assert_eq!(ended(&launcher).await.stage, Stage::Gone);
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_quota_is_named_whether_it_counts_pods_or_jobs() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let quota: ResourceQuota = object(json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}));
    scene.api().create(&PostParams::default(), &quota).await.unwrap();
    until("the quota", async || {
        scene.api::<ResourceQuota>().get("none").await.unwrap().status.is_some_and(|status| status.hard.is_some())
    })
    .await;
    launch(&launcher).await;
    assert!(waiting(&launcher, "quota_exceeded").await.message.contains("exceeded quota: none"));

    scene.full_of_jobs().await;
    let order = order();
    put_off(&launcher, &order, "quota_exceeded", "exceeded quota: jobs").await;
    assert_eq!(launcher.held().len(), 1, "nothing is awaited of what was put off");

    scene.api::<ResourceQuota>().delete("jobs", &DeleteParams::default()).await.unwrap();
    until("the quota to go", async || scene.takes_jobs().await).await;
    let again = LaunchOrder { is_taken_over: true, ..order };
    launcher.launch(again.clone(), Instant::now() + PATIENCE).await.unwrap();
    assert!(scene.job(again.attempt).await.is_some());
    until("its sight", async || launcher.holds(again.attempt)).await;
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn what_is_there_is_found_although_the_quota_is_full_by_now() {
    let scene = Scene::new().await;
    let (dead, launcher) = (scene.launcher().await, scene.launcher().await);
    let order = order();
    dead.launch(order.clone(), Instant::now() + PATIENCE).await.unwrap();
    scene.full_of_jobs().await;
    launcher.launch(LaunchOrder { is_taken_over: true, ..order }, Instant::now() + PATIENCE).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_runtime_class_that_the_cluster_lacks_fails_closed() {
    let scene = Scene::new().await;
    let config = KubernetesConfig { runtime_class: Some("nothing-of-the-kind".into()), ..scene.config.clone() };
    let launcher = scene.launcher_by(&config, "").await;
    launch(&launcher).await;
    assert_eq!(not_started(&ended(&launcher).await), ("runtime_class_missing", false));
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn a_namespace_that_is_not_there_is_waited_for_or_is_made() {
    let scene = Scene::new().await;
    let base = format!("t{}", &Uuid::new_v4().simple().to_string()[..12]);
    let config = KubernetesConfig { namespace_template: format!("{base}-%s"), ..scene.config.clone() };
    let launcher = scene.launcher_by(&config, "").await;
    let order = order();
    put_off(&launcher, &order, "create_rejected", "not found").await;
    put_off(&launcher, &LaunchOrder { is_taken_over: true, ..order }, "create_rejected", "not found").await;
    let config = KubernetesConfig { namespace_policy: NamespacePolicy::Create, ..config };
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: roadstead-executor}\nautomountServiceAccountToken: false\n";
    let launcher = scene.launcher_by(&config, account).await;
    let attempt = launch(&launcher).await;
    let made = Api::<Namespace>::all(scene.client.clone()).get(&format!("{base}-{TENANT}")).await.unwrap();
    assert_eq!(made.labels()["pod-security.kubernetes.io/enforce"], "restricted");
    until("its sight", async || launcher.holds(attempt)).await;
    let there = Api::<Job>::namespaced(scene.client.clone(), &made.name_any());
    assert!(there.get_opt(&job_name(attempt)).await.unwrap().is_some());
}

#[tokio::test]
#[ignore = "needs a cluster: scripts/e2e/launchers.sh"]
async fn what_is_launched_is_looked_for_and_what_is_gone_is_known_to_be() {
    let scene = Scene::new().await;
    let launcher = scene.launcher().await;
    let attempt = launch(&launcher).await;
    let launched = Instant::now();
    until("a list that was begun later", async || launcher.looked_at(TENANT).is_some_and(|at| at > launched)).await;
    assert!(launcher.holds(attempt));
}
