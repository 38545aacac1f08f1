//! What is to be seen of one attempt in the cluster, and what that means. Pure.
//!
//! Kubernetes' own words go into the reasons as they are: they are what an operator searches for.

use super::job::{ATTEMPT, EXECUTOR, KUEUE_LABEL};
use crate::launch::process::{Status, judge as judge_status};
use crate::launch::{End, StopCause};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodCondition};
use k8s_openapi::jiff::Timestamp;
use roadstead_domain::execution::Reason;
use std::time::Duration;

#[derive(Clone, Debug, Default)]
pub struct Sighting {
    pub job: Option<JobSight>,
    /// The Job was seen, and is there no more.
    pub job_is_gone: bool,
    /// One, but for what the Job controller does twice.
    pub pods: Vec<PodSight>,
    /// Why no pod could be made of the Job.
    pub no_pod: Option<String>,
    /// Why the pod's sandbox could not be made.
    pub no_sandbox: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSight {
    pub is_deleting: bool,
    pub is_suspended: bool,
    /// It was handed to a queue of the cluster's, which admits it.
    pub is_queued: bool,
    /// When it could have pods first, or again (Kubernetes documentation, "Suspending a Job").
    pub started_at: Option<Timestamp>,
    pub is_complete: bool,
    /// With Kubernetes' message.
    pub failed: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSight {
    pub uid: String,
    /// Its phase is final, or the pod itself is gone.
    pub is_over: bool,
    pub has_failed: bool,
    pub is_scheduled: bool,
    /// Why it is not scheduled.
    pub unschedulable: Option<String>,
    /// The kubelet or a controller ended it for a reason of its own.
    pub ended_for: Option<(String, String)>,
    /// Its node is not heard of.
    pub node_is_lost: bool,
    pub executor: Container,
    pub attempt: Container,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Container {
    #[default]
    Unknown,
    Waiting {
        reason: String,
        message: String,
    },
    Running,
    Terminated {
        code: i32,
        reason: String,
        message: String,
    },
}

/// What a sighting means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Running, or on its way.
    Alive,
    /// It has not started; worth telling when it lasts for so long.
    Waiting { reason: Reason, after: Duration },
    /// It won't start; certain when it lasts for so long.
    Hopeless { reason: Reason, retryable: bool, after: Duration },
    /// Nothing of it is alive.
    Over(End),
}

/// What passes by itself in a usual start.
const MOMENT: Duration = Duration::from_secs(2);
/// Kubernetes tries on, ever more slowly: what it waits for may come.
const PATIENCE: Duration = Duration::from_secs(20);
/// From the end of a pod's grace to its kubelet's having said so, if it is there.
const OUTLIVED: Duration = Duration::from_secs(5);

impl JobSight {
    pub fn of(job: &Job) -> Self {
        let condition = |kind: &str| {
            let conditions = job.status.as_ref()?.conditions.as_ref()?;
            conditions.iter().find(|condition| condition.type_ == kind && condition.status == "True")
        };
        Self {
            is_deleting: job.metadata.deletion_timestamp.is_some(),
            is_suspended: job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false),
            is_queued: job.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(KUEUE_LABEL)),
            started_at: job.status.as_ref().and_then(|status| Some(status.start_time.as_ref()?.0)),
            is_complete: condition("Complete").is_some(),
            failed: condition("Failed")
                .map(|condition| told(condition.reason.as_deref(), condition.message.as_deref())),
        }
    }

    /// How long ago its queue admitted it, if it was handed to one.
    pub fn begun(&self, now: Timestamp) -> Option<Duration> {
        let admitted_at = self.started_at.filter(|_| !self.is_suspended);
        self.is_queued.then(|| {
            admitted_at.map_or(Duration::ZERO, |at| now.duration_since(at).try_into().unwrap_or(Duration::ZERO))
        })
    }
}

impl PodSight {
    pub fn of(pod: &Pod, now: Timestamp) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let condition = |kind: &str, value: &str| -> Option<&PodCondition> {
            status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == value)
        };
        let attempt = container(status.container_statuses.iter().flatten(), ATTEMPT);
        let ended_for =
            status.reason.clone().map(|reason| (reason, status.message.clone().unwrap_or_default())).or_else(|| {
                let target = condition("DisruptionTarget", "True")?;
                Some((target.reason.clone().unwrap_or_default(), target.message.clone().unwrap_or_default()))
            });
        let is_over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            is_over,
            has_failed: status.phase.as_deref() == Some("Failed"),
            is_scheduled: condition("PodScheduled", "True").is_some(),
            unschedulable: condition("PodScheduled", "False")
                .map(|condition| told(condition.reason.as_deref(), condition.message.as_deref())),
            // When the kubelet is silent, the node controller takes back what it said of the pod, and leaves what it said of the containers. Where
            // it fell silent before it had said anything of them, only the eviction tells: a kubelet that is there ends the pod in its grace.
            node_is_lost: !is_over
                && match attempt {
                    Container::Running => {
                        condition("Ready", "False").is_some() && condition("ContainersReady", "True").is_some()
                    }
                    Container::Unknown | Container::Waiting { .. } => {
                        is_outlived(pod, now) && ended_for.as_ref().is_some_and(|(reason, _)| is_node_loss(reason))
                    }
                    Container::Terminated { .. } => false,
                },
            ended_for,
            executor: container(status.init_container_statuses.iter().flatten(), EXECUTOR),
            attempt,
        }
    }
}

fn container<'a>(mut statuses: impl Iterator<Item = &'a ContainerStatus>, name: &str) -> Container {
    let state = statuses.find(|status| status.name == name).and_then(|status| status.state.clone());
    let text = |text: Option<String>| text.unwrap_or_default();
    match state {
        Some(ContainerState { terminated: Some(end), .. }) => {
            Container::Terminated { code: end.exit_code, reason: text(end.reason), message: text(end.message) }
        }
        Some(ContainerState { running: Some(_), .. }) => Container::Running,
        Some(ContainerState { waiting: Some(wait), .. }) => {
            Container::Waiting { reason: text(wait.reason), message: text(wait.message) }
        }
        _ => Container::Unknown,
    }
}

/// It was to be gone for a while: `deletionTimestamp` is when its grace ends (Kubernetes API, ObjectMeta).
fn is_outlived(pod: &Pod, now: Timestamp) -> bool {
    pod.metadata.deletion_timestamp.as_ref().is_some_and(|end| end.0 + OUTLIVED < now)
}

fn is_node_loss(reason: &str) -> bool {
    matches!(reason, "NodeLost" | "DeletionByTaintManager" | "DeletionByPodGC")
}

/// `Reason: message`, of what there is.
fn told(reason: Option<&str>, message: Option<&str>) -> String {
    match (reason.filter(|text| !text.is_empty()), message.filter(|text| !text.is_empty())) {
        (Some(reason), Some(message)) => format!("{reason}: {message}"),
        (one, other) => one.or(other).unwrap_or("no reason is given").to_owned(),
    }
}

impl Sighting {
    /// `stopped`: it was told to end.
    pub fn judge(&self, stopped: Option<StopCause>) -> Judgement {
        if let Some(pod) = self.pods.iter().find(|pod| !pod.is_over) {
            return self.alive(pod);
        }
        let Some(job) = &self.job else {
            // Pods of a Job that nobody has seen may be seen before it.
            return if self.job_is_gone { Judgement::Over(self.end(stopped)) } else { Judgement::Alive };
        };
        if job.is_complete || job.failed.is_some() || self.pods.iter().any(PodSight::has_ended) {
            return Judgement::Over(self.end(stopped));
        }
        if job.is_deleting {
            return Judgement::Alive;
        }
        if let Some(message) = &self.no_pod {
            return without_pod(message);
        }
        if job.is_suspended {
            let reason = Reason::new(Reason::UNSCHEDULABLE, "its Job is suspended until its queue admits it");
            return Judgement::Waiting { reason, after: MOMENT };
        }
        Judgement::Alive
    }

    /// A pod of it is alive: how far has it come?
    fn alive(&self, pod: &PodSight) -> Judgement {
        if matches!(pod.attempt, Container::Running | Container::Terminated { .. }) {
            return Judgement::Alive;
        }
        if !pod.is_scheduled {
            return match &pod.unschedulable {
                Some(message) => {
                    Judgement::Waiting { reason: Reason::new(Reason::UNSCHEDULABLE, message.clone()), after: MOMENT }
                }
                None => Judgement::Alive,
            };
        }
        for container in [&pod.executor, &pod.attempt] {
            if let Container::Waiting { reason, message } = container
                && let Some(judgement) = stuck(reason, message)
            {
                return judgement;
            }
        }
        match &self.no_sandbox {
            Some(message) if is_about_runtime_class(message) => {
                let reason = Reason::new(Reason::RUNTIME_CLASS_MISSING, message.clone());
                Judgement::Hopeless { reason, retryable: true, after: PATIENCE }
            }
            Some(message) => Judgement::Waiting {
                reason: Reason::new(Reason::SANDBOX_FAILED, message.clone()),
                after: Duration::ZERO,
            },
            None => Judgement::Waiting {
                reason: Reason::new(Reason::IMAGE_PULLING, "its pod is scheduled and waits for its images and volumes"),
                after: MOMENT,
            },
        }
    }

    /// Why it has not started, or is not heard of.
    pub fn explain(&self) -> Option<Reason> {
        if self.pods.iter().any(|pod| pod.node_is_lost) {
            let told = self.ended_for().map(|reason| reason.message);
            let message = told.unwrap_or_else(|| "its node is not heard of any more".to_owned());
            return Some(Reason::new(Reason::NODE_LOST, message));
        }
        match self.judge(None) {
            Judgement::Waiting { reason, .. } | Judgement::Hopeless { reason, .. } => Some(reason),
            Judgement::Alive | Judgement::Over(_) => None,
        }
    }

    /// Why Kubernetes ended it, if it did.
    pub fn ended_for(&self) -> Option<Reason> {
        self.pods.iter().find_map(PodSight::ended_for)
    }

    /// How its end looks, when nothing of it is alive.
    fn end(&self, stopped: Option<StopCause>) -> End {
        let seen = self.pods.iter().filter_map(PodSight::end).min_by_key(|end| match end {
            End::Reported => 0,
            End::Lost(_) => 1,
            End::NotStarted { .. } => 2,
            End::Unseen(_) => 3,
            End::Stopped(_) => 4,
        });
        match (seen, stopped) {
            (Some(End::Reported), _) => End::Reported,
            (Some(end @ End::NotStarted { .. }), Some(StopCause::Over)) => end,
            (_, Some(cause)) => End::Stopped(cause),
            (Some(end), None) => end,
            (None, None) => match self.job.as_ref().and_then(|job| job.failed.as_ref()) {
                Some(message) => End::Unseen(Reason::new(Reason::CREATE_REJECTED, message.clone())),
                None => End::Unseen(Reason::new(Reason::JOB_DELETED, "its Job was deleted while it lived")),
            },
        }
    }
}

impl PodSight {
    fn has_ended(&self) -> bool {
        self.is_over && self.end().is_some()
    }

    /// Why Kubernetes ended it.
    fn ended_for(&self) -> Option<Reason> {
        let (reason, message) = self.ended_for.as_ref()?;
        let code = match reason.as_str() {
            reason if is_node_loss(reason) => Reason::NODE_LOST,
            // The kubelet did not take it.
            reason if reason.starts_with("OutOf") => Reason::UNSCHEDULABLE,
            "NodeAffinity" | "UnexpectedAdmissionError" | "AdmissionError" => Reason::CREATE_REJECTED,
            _ => Reason::EVICTED,
        };
        Some(Reason::new(code, told(Some(reason), Some(message))))
    }

    /// How it ended, if it ran or can't run any more; `None`: it was removed before.
    fn end(&self) -> Option<End> {
        if let Container::Terminated { code, reason, message } = &self.attempt {
            return Some(attempt_end(*code, reason, message, self.ended_for()));
        }
        if let Some(reason) = self.ended_for() {
            // Its node says so when nothing of it runs any more; of a node that is not heard of others say it.
            let is_certain = self.has_failed && reason.code == Reason::EVICTED;
            return Some(if is_certain { End::NotStarted { reason, retryable: true } } else { End::Unseen(reason) });
        }
        match &self.executor {
            Container::Terminated { code, reason, message } if *code != 0 => {
                let message =
                    format!("the init container ended with status {code} ({})", told(Some(reason), Some(message)));
                Some(End::NotStarted { reason: Reason::new(Reason::CONTAINER_CONFIG_ERROR, message), retryable: true })
            }
            _ => None,
        }
    }
}

fn attempt_end(code: i32, reason: &str, message: &str, ended_for: Option<Reason>) -> End {
    match (code, reason) {
        (0, _) => End::Reported,
        (_, "OOMKilled") => End::Lost(Reason::new(
            Reason::OOM_KILLED,
            "Kubernetes ended the container: it used more memory than its limit",
        )),
        // It never ran: its program could not be started.
        (_, "StartError" | "ContainerCannotRun") => End::NotStarted {
            reason: Reason::new(Reason::CONTAINER_CONFIG_ERROR, told(Some(reason), Some(message))),
            retryable: false,
        },
        _ => match (ended_for, judge_status(Status::Code(code), None, message)) {
            (Some(reason), End::Lost(_)) => End::Lost(reason),
            (Some(reason), End::NotStarted { reason: own, .. }) if own.code == Reason::EXECUTOR_STOPPED => {
                End::NotStarted { reason, retryable: true }
            }
            (_, end) => end,
        },
    }
}

fn hopeless(code: &str, message: &str, retryable: bool) -> Judgement {
    Judgement::Hopeless { reason: Reason::new(code, message.to_owned()), retryable, after: Duration::ZERO }
}

/// The Job controller can't make a pod.
fn without_pod(message: &str) -> Judgement {
    if message.contains("exceeded quota") {
        let reason = Reason::new(Reason::QUOTA_EXCEEDED, message.to_owned());
        return Judgement::Waiting { reason, after: Duration::ZERO };
    }
    if is_about_runtime_class(message) {
        return hopeless(Reason::RUNTIME_CLASS_MISSING, message, false);
    }
    let lower = message.to_ascii_lowercase();
    if ["violates podsecurity", "denied the request", "is invalid"].iter().any(|words| lower.contains(words)) {
        return hopeless(Reason::CREATE_REJECTED, message, false);
    }
    let reason = Reason::new(Reason::CREATE_REJECTED, message.to_owned());
    Judgement::Hopeless { reason, retryable: true, after: PATIENCE }
}

fn is_about_runtime_class(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("runtimeclass") || message.contains("runtime handler") || message.contains("no runtime for")
}

/// What a waiting container's reason means; `None`: it is on its way.
fn stuck(reason: &str, message: &str) -> Option<Judgement> {
    let full = told(Some(reason), Some(message));
    Some(match reason {
        "ErrImageNeverPull" | "InvalidImageName" => hopeless(Reason::IMAGE_NOT_FOUND, &full, false),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            if says_not_found(message) {
                hopeless(Reason::IMAGE_NOT_FOUND, &full, false)
            } else {
                let reason = Reason::new(Reason::IMAGE_PULL_BACKOFF, full);
                Judgement::Hopeless { reason, retryable: true, after: PATIENCE }
            }
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "PreCreateHookError" => {
            // A busy node gets over it; a Secret that is missing stays so.
            let retryable = reason != "CreateContainerConfigError";
            let reason = Reason::new(Reason::CONTAINER_CONFIG_ERROR, full);
            Judgement::Hopeless { reason, retryable, after: PATIENCE }
        }
        _ => return None,
    })
}

/// As registries and container runtimes say that there is no such image.
fn says_not_found(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["not found", "manifest unknown", "name unknown", "repository name not known"]
        .iter()
        .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(reason: &str, message: &str) -> Container {
        Container::Waiting { reason: reason.into(), message: message.into() }
    }

    fn ended(code: i32, reason: &str) -> Container {
        Container::Terminated { code, reason: reason.into(), message: "words".into() }
    }

    fn pod(attempt: Container) -> PodSight {
        let is_over = matches!(attempt, Container::Terminated { .. });
        PodSight { uid: "1".into(), is_scheduled: true, attempt, is_over, ..PodSight::default() }
    }

    fn seen(pods: Vec<PodSight>) -> Sighting {
        Sighting { job: Some(JobSight::default()), pods, ..Sighting::default() }
    }

    fn tell(judgement: &Judgement) -> String {
        match judgement {
            Judgement::Alive => "alive".into(),
            Judgement::Waiting { reason, .. } => format!("waiting, {}", reason.code),
            Judgement::Hopeless { reason, retryable, .. } => format!("hopeless, {}, {retryable}", reason.code),
            Judgement::Over(End::Reported) => "reported".into(),
            Judgement::Over(End::Lost(reason)) => format!("lost, {}", reason.code),
            Judgement::Over(End::Unseen(reason)) => format!("unseen, {}", reason.code),
            Judgement::Over(End::NotStarted { reason, retryable }) => {
                format!("not started, {}, {retryable}", reason.code)
            }
            Judgement::Over(End::Stopped(cause)) => format!("{cause:?}"),
        }
    }

    fn meaning(sighting: &Sighting) -> String {
        tell(&sighting.judge(None))
    }

    #[test]
    fn what_is_on_its_way_is_alive() {
        assert_eq!(meaning(&Sighting::default()), "alive");
        assert_eq!(meaning(&seen(vec![])), "alive");
        assert_eq!(meaning(&seen(vec![pod(Container::Running)])), "alive");
        assert_eq!(meaning(&seen(vec![PodSight::default()])), "alive", "not looked at by the scheduler yet");
        assert_eq!(meaning(&seen(vec![pod(waiting("PodInitializing", ""))])), "waiting, image_pulling");
    }

    #[test]
    fn every_way_not_to_start_has_its_code() {
        for (container, expected) in [
            (waiting("ErrImageNeverPull", "x"), "hopeless, image_not_found, false"),
            (waiting("InvalidImageName", "x"), "hopeless, image_not_found, false"),
            (waiting("ErrImagePull", "manifest unknown"), "hopeless, image_not_found, false"),
            (waiting("ImagePullBackOff", "rpc error: ... x:y: not found"), "hopeless, image_not_found, false"),
            (waiting("ErrImagePull", "connection refused"), "hopeless, image_pull_backoff, true"),
            (waiting("CreateContainerConfigError", "secret"), "hopeless, container_config_error, false"),
            (waiting("CreateContainerError", "x"), "hopeless, container_config_error, true"),
        ] {
            assert_eq!(meaning(&seen(vec![pod(container.clone())])), expected, "{container:?}");
            let in_init = PodSight {
                executor: container.clone(),
                attempt: waiting("PodInitializing", ""),
                ..pod(Container::Unknown)
            };
            assert_eq!(meaning(&seen(vec![in_init])), expected, "{container:?} of the init container");
        }
        let unschedulable = PodSight { unschedulable: Some("0/3 nodes".into()), ..PodSight::default() };
        assert_eq!(meaning(&seen(vec![unschedulable])), "waiting, unschedulable");
        let no_pod = |message: &str| Sighting { no_pod: Some(message.into()), ..seen(vec![]) };
        assert_eq!(meaning(&no_pod("pods \"x\" is forbidden: exceeded quota: q")), "waiting, quota_exceeded");
        assert_eq!(
            meaning(&no_pod("pod rejected: RuntimeClass \"kata\" not found")),
            "hopeless, runtime_class_missing, false"
        );
        assert_eq!(meaning(&no_pod("violates PodSecurity")), "hopeless, create_rejected, false");
        assert_eq!(meaning(&no_pod("failed calling webhook: timeout")), "hopeless, create_rejected, true");
        let no_sandbox = |message: &str| Sighting {
            no_sandbox: Some(message.into()),
            ..seen(vec![pod(waiting("ContainerCreating", ""))])
        };
        assert_eq!(
            meaning(&no_sandbox("no runtime for \"kata\" is configured")),
            "hopeless, runtime_class_missing, true"
        );
        assert_eq!(meaning(&no_sandbox("network is not ready")), "waiting, sandbox_failed");
        let suspended =
            Sighting { job: Some(JobSight { is_suspended: true, ..JobSight::default() }), ..Sighting::default() };
        assert_eq!(meaning(&suspended), "waiting, unschedulable");
    }

    #[test]
    fn every_end_has_its_meaning() {
        let with = |ended_for: (&str, &str), attempt| PodSight {
            ended_for: Some((ended_for.0.into(), ended_for.1.into())),
            is_over: true,
            ..pod(attempt)
        };
        let failed = |ended_for| PodSight { has_failed: true, ..with(ended_for, Container::Unknown) };
        for (pod, expected) in [
            (pod(ended(0, "Completed")), "reported"),
            (pod(ended(137, "OOMKilled")), "lost, oom_killed"),
            (pod(ended(137, "Error")), "lost, executor_lost"),
            (pod(ended(3, "Error")), "not started, create_rejected, true"),
            (pod(ended(4, "Error")), "not started, start_timeout, true"),
            (pod(ended(128, "StartError")), "not started, container_config_error, false"),
            (with(("Evicted", "disk"), ended(137, "Error")), "lost, evicted"),
            (with(("DeletionByTaintManager", "gone"), ended(137, "Error")), "lost, node_lost"),
            (with(("EvictionByEvictionAPI", "x"), ended(5, "Error")), "not started, evicted, true"),
            (with(("EvictionByEvictionAPI", "x"), ended(3, "Error")), "not started, create_rejected, true"),
            (with(("EvictionByEvictionAPI", "x"), ended(9, "Error")), "reported"),
            (failed(("Evicted", "disk")), "not started, evicted, true"),
            // A kubelet that comes back may refuse what it runs already.
            (failed(("OutOfcpu", "x")), "unseen, unschedulable"),
            (failed(("NodeAffinity", "x")), "unseen, create_rejected"),
            (failed(("DeletionByPodGC", "gone")), "unseen, node_lost"),
            (with(("Evicted", "disk"), Container::Unknown), "unseen, evicted"),
            (
                PodSight { executor: ended(2, "Error"), is_over: true, ..pod(Container::Unknown) },
                "not started, container_config_error, true",
            ),
        ] {
            assert_eq!(meaning(&seen(vec![pod.clone()])), expected, "{pod:?}");
        }
        let deadline = Sighting {
            job: Some(JobSight { failed: Some("DeadlineExceeded".into()), ..JobSight::default() }),
            ..Sighting::default()
        };
        assert_eq!(meaning(&deadline), "unseen, create_rejected");
        let deleted = Sighting { job_is_gone: true, ..Sighting::default() };
        assert_eq!(meaning(&deleted), "unseen, job_deleted");
        assert_eq!(tell(&deleted.judge(Some(StopCause::StartTimeout))), "StartTimeout");
    }

    #[test]
    fn kubernetes_says_why_it_ended_a_pod_whatever_its_executor_said() {
        let condition = |value: &str| -> Pod {
            serde_json::from_value(serde_json::json!({"status": {"phase": "Succeeded", "conditions": [
                {"type": "DisruptionTarget", "status": value, "reason": "EvictionByEvictionAPI", "message": "evicting"},
            ]}}))
            .unwrap()
        };
        let because = |pod: &Pod| seen(vec![PodSight::of(pod, Timestamp::now())]).ended_for();
        assert_eq!(because(&condition("True")), Some(Reason::new("evicted", "EvictionByEvictionAPI: evicting")));
        assert_eq!(because(&condition("False")), None, "taken back");
        let mut by_kubelet = condition("True");
        let status = by_kubelet.status.as_mut().unwrap();
        (status.reason, status.message) = (Some("Evicted".into()), Some("disk".into()));
        assert_eq!(because(&by_kubelet).unwrap().message, "Evicted: disk");
        let by_taint =
            PodSight { ended_for: Some(("DeletionByTaintManager".into(), "x".into())), ..PodSight::default() };
        assert_eq!(seen(vec![by_taint]).ended_for().unwrap().code, "node_lost");
    }

    #[test]
    fn what_a_queue_holds_back_has_not_begun() {
        let job = |queue: Option<&str>, suspend: bool, start: Option<&str>| -> JobSight {
            let labels = queue.map(|queue| serde_json::json!({KUEUE_LABEL: queue}));
            JobSight::of(
                &serde_json::from_value(serde_json::json!({"metadata": {"labels": labels},
                    "spec": {"suspend": suspend, "template": {}}, "status": {"startTime": start}}))
                .unwrap(),
            )
        };
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let (before, after) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:02:00Z"));
        assert_eq!(job(Some("q"), true, None).begun(now), Some(Duration::ZERO));
        assert_eq!(job(Some("q"), true, before).begun(now), Some(Duration::ZERO), "suspended again");
        assert_eq!(job(Some("q"), false, None).begun(now), Some(Duration::ZERO), "nobody has seen to it yet");
        assert_eq!(job(Some("q"), false, before).begun(now), Some(Duration::from_secs(60)));
        assert_eq!(job(Some("q"), false, after).begun(now), Some(Duration::ZERO), "another clock");
        assert_eq!(job(None, false, before).begun(now), None);
    }

    #[test]
    fn nothing_is_over_while_a_pod_lives() {
        let both = seen(vec![pod(ended(3, "Error")), PodSight { uid: "2".into(), ..pod(Container::Running) }]);
        assert_eq!(meaning(&both), "alive", "the Job controller may make two, and one was refused");
        let removed = PodSight { is_over: true, ..PodSight::default() };
        assert_eq!(meaning(&seen(vec![removed])), "alive", "removed before it ran: the Job will say what comes of it");
        let orphaned = Sighting { job_is_gone: true, pods: vec![pod(Container::Running)], ..Sighting::default() };
        assert_eq!(meaning(&orphaned), "alive", "its Job is deleted, its pod is not");
    }

    #[test]
    fn of_two_pods_the_one_that_ran_is_the_witness() {
        let refused = pod(ended(3, "Error"));
        assert_eq!(meaning(&seen(vec![refused.clone(), pod(ended(0, ""))])), "reported");
        assert_eq!(meaning(&seen(vec![refused, pod(ended(137, "OOMKilled"))])), "lost, oom_killed");
    }

    #[test]
    fn a_silent_kubelet_is_known_by_what_others_say_of_its_pods() {
        let of = |state: serde_json::Value, conditions: serde_json::Value| -> bool {
            let pod = serde_json::json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:10Z"}, "status": {
                "phase": "Running", "conditions": conditions, "containerStatuses": [
                {"name": ATTEMPT, "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0}]}});
            let pod: Pod = serde_json::from_value(pod).unwrap();
            let in_its_grace: Timestamp = "2026-01-01T00:00:09Z".parse().unwrap();
            let lost = |now| PodSight::of(&pod, now).node_is_lost;
            let is_running = PodSight::of(&pod, in_its_grace).attempt == Container::Running;
            assert!(is_running || !lost(in_its_grace), "its kubelet may be there");
            lost(Timestamp::now())
        };
        use serde_json::json;
        let condition =
            |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason});
        let evicted = |by: &str| condition("DisruptionTarget", "True", by);
        let (running, waiting) = (json!({"running": {}}), json!({"waiting": {"reason": "PodInitializing"}}));
        let taken_back = json!([condition("Ready", "False", ""), condition("ContainersReady", "True", "")]);
        assert!(of(running.clone(), taken_back));
        let never_said = [condition("Ready", "False", ""), condition("ContainersReady", "False", "")];
        assert!(!of(running.clone(), json!(never_said)));
        assert!(!of(waiting.clone(), json!(never_said)));
        let [ready, containers] = never_said;
        assert!(of(waiting.clone(), json!([ready, containers, evicted("DeletionByTaintManager")])));
        assert!(
            !of(waiting, json!([ready, containers, evicted("EvictionByEvictionAPI")])),
            "its kubelet will see to it"
        );
        assert!(!of(running, json!([ready, containers, evicted("DeletionByTaintManager")])), "it may be ending");
    }

    #[test]
    fn a_lost_node_explains_the_silence() {
        let lost = PodSight { node_is_lost: true, ..pod(Container::Running) };
        assert_eq!(seen(vec![lost]).explain().unwrap().code, "node_lost");
        assert_eq!(seen(vec![pod(Container::Running)]).explain(), None);
        let unschedulable = PodSight { unschedulable: Some("0/3 nodes".into()), ..PodSight::default() };
        assert_eq!(seen(vec![unschedulable]).explain().unwrap().message, "0/3 nodes");
    }
}
