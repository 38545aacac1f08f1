//! The board: a sighting for every attempt of the installation that is to be seen in the cluster, and what of it is news.
//!
//! Each end is told once, and what is told is settled and let go, which deletes the Job; when that is gone, it is told, and forgotten. That an attempt
//! can't start, or did not in time, is told while its pod is still there: it is an end, and no berth is free by it.
//! Whoever launched an attempt tells its end at once; every other worker tells it when its Job is still there a moment later, so that
//! one that died is stood in for by all others.

use super::noted::{Noted, PutOff};
use super::sight::{Container, JobSight, Judgement, PodSight, Sighting};
use crate::launch::{End, Ended, News, Stage, StopCause};
use k8s_openapi::jiff::Timestamp;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Until another worker's ended Job is anybody's.
const STAND_IN: Duration = Duration::from_secs(2);
/// A deletion that is not seen to begin is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Jobs and pods are watched apart: words about the pod of a Job that is gone may come late, and are no news.
const TOMBSTONE: Duration = Duration::from_secs(60);
/// One that failed is tried again.
const DELETE_AGAIN: Duration = Duration::from_secs(90);
/// Until another worker notes why it waits.
const NOTE_STAND_IN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Board {
    entries: HashMap<AttemptId, Entry>,
    put_off: PutOff,
    news: VecDeque<News>,
    live: watch::Sender<usize>,
}

#[derive(Debug)]
struct Entry {
    tenant: String,
    namespace: String,
    sighting: Sighting,
    /// Launched by this worker.
    is_mine: bool,
    /// Launched, and not seen since.
    awaited_since: Option<Instant>,
    stopped: Option<StopCause>,
    /// When its Job was last asked to be deleted.
    asked_at: Option<Instant>,
    judgement: Judgement,
    judged_at: Instant,
    told: Told,
    /// Its end is recorded.
    is_settled: bool,
    /// Its Job was seen to be gone: when, and when a complete list of pods was last begun.
    gone_at: Option<Instant>,
    pods_listed: Option<Instant>,
    was_without_job: bool,
    /// Nothing of it ran any more while its Job was there.
    was_over: bool,
    /// Counted as live.
    is_live: bool,
    /// What it last told of its waiting.
    noted: Option<Noted>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    /// That it can't start.
    Hopeless,
    /// That nothing of it runs.
    Over,
    /// That nothing of it is left.
    Gone,
    /// And nobody wants to hear of it any more.
    Forgotten,
}

/// Which Jobs or pods a list was complete for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Jobs,
    Pods,
}

impl Board {
    pub fn new() -> Self {
        Self { entries: HashMap::new(), put_off: PutOff::default(), news: VecDeque::new(), live: watch::Sender::new(0) }
    }

    pub fn live(&self) -> watch::Receiver<usize> {
        self.live.subscribe()
    }

    pub fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// Attempts of which something is there, or whose end is still to be recorded.
    pub fn held(&self) -> Vec<AttemptId> {
        self.entries.iter().filter(|(_, entry)| entry.told < Told::Forgotten).map(|(id, _)| *id).collect()
    }

    pub fn holds(&self, attempt: AttemptId) -> bool {
        self.entries.get(&attempt).is_some_and(|entry| entry.told < Told::Forgotten)
    }

    /// Its Job is or was there.
    pub fn is_seen(&self, attempt: AttemptId) -> bool {
        self.entries.get(&attempt).is_some_and(|entry| entry.sighting.job.is_some() || entry.was_without_job)
    }

    /// A pod of it is alive, or may come to be.
    pub fn has_live_pod(&self, attempt: AttemptId) -> bool {
        self.entries.get(&attempt).is_some_and(|entry| !matches!(entry.judgement, Judgement::Over(_)))
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.put_off.is_empty()
    }

    pub fn explain(&self, attempt: AttemptId) -> Option<Reason> {
        let seen = self.entries.get(&attempt).and_then(|entry| entry.sighting.explain());
        seen.or_else(|| self.put_off.reason(attempt).filter(|_| !self.is_seen(attempt)))
    }

    pub fn begun(&self, attempt: AttemptId, now: Timestamp) -> Option<Duration> {
        self.entries.get(&attempt)?.sighting.job.as_ref()?.begun(now)
    }

    /// Its node is not heard of: nobody can end it, and nobody will see it end.
    pub fn is_out_of_reach(&self, attempt: AttemptId) -> bool {
        self.entries.get(&attempt).is_some_and(|entry| entry.sighting.pods.iter().any(|pod| pod.node_is_lost))
    }

    /// This worker is about to create its Job.
    pub fn await_job(&mut self, attempt: AttemptId, tenant: &str, namespace: &str, now: Instant) {
        let entry = self.entry(attempt, tenant, namespace, now);
        entry.is_mine = true;
        entry.awaited_since = Some(now);
        self.look(attempt, now);
    }

    /// Its Job was not created after all, or nobody knows.
    pub fn await_no_more(&mut self, attempt: AttemptId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&attempt) {
            entry.awaited_since = None;
            self.look(attempt, now);
        }
    }

    /// The cluster can't have its Job now, which another try may find otherwise.
    pub fn put_off(&mut self, attempt: AttemptId, tenant: &str, reason: Reason, now: Instant) {
        if self.put_off.note(attempt, &reason, now) {
            self.news.push_back(News::Waiting { tenant: tenant.to_owned(), attempt, reason });
        }
    }

    pub fn see_job(&mut self, attempt: AttemptId, tenant: &str, namespace: &str, job: Option<JobSight>, now: Instant) {
        if job.is_none() && !self.entries.contains_key(&attempt) {
            return;
        }
        let entry = self.entry(attempt, tenant, namespace, now);
        entry.awaited_since = None;
        match job {
            Some(job) => {
                entry.sighting.job_is_gone = false;
                entry.sighting.job = Some(job);
                if entry.told == Told::Forgotten && entry.was_without_job {
                    // It came after its attempt was over: there is no berth for it.
                    entry.asked_at = None;
                }
            }
            None => entry.see_no_job(now),
        }
        self.look(attempt, now);
    }

    /// `is_gone`: this is how the pod was when it went.
    pub fn see_pod(
        &mut self,
        attempt: AttemptId,
        tenant: &str,
        namespace: &str,
        pod: PodSight,
        is_gone: bool,
        now: Instant,
    ) {
        if is_gone && !self.entries.contains_key(&attempt) {
            return;
        }
        let entry = self.entry(attempt, tenant, namespace, now);
        entry.sighting.no_pod = None;
        if !matches!(pod.executor, Container::Waiting { .. } | Container::Unknown) {
            entry.sighting.no_sandbox = None;
        }
        let pods = &mut entry.sighting.pods;
        let pod = PodSight { is_over: pod.is_over || is_gone, ..pod };
        match pods.iter_mut().find(|seen| seen.uid == pod.uid) {
            Some(seen) => *seen = pod,
            None => pods.push(pod),
        }
        if is_gone && entry.told == Told::Forgotten {
            pods.retain(|seen| !seen.is_over);
        }
        self.look(attempt, now);
    }

    /// A warning about an attempt's Job, which has no pod, or about its pod, which has no sandbox.
    pub fn see_warning(&mut self, attempt: AttemptId, kind: Kind, message: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(&attempt) else { return };
        let place = match kind {
            Kind::Jobs => &mut entry.sighting.no_pod,
            Kind::Pods => &mut entry.sighting.no_sandbox,
        };
        *place = Some(message.to_owned());
        self.look(attempt, now);
    }

    /// A list that was begun at `began` is complete: what it does not hold is gone. `namespace`: what was listed; `None`: all.
    pub fn complete(
        &mut self,
        kind: Kind,
        listed: &HashSet<(AttemptId, String)>,
        namespace: Option<&str>,
        began: Instant,
        now: Instant,
    ) {
        let with_jobs: HashSet<AttemptId> = listed.iter().map(|(attempt, _)| *attempt).collect();
        let here: Vec<AttemptId> = self
            .entries
            .iter()
            .filter(|(_, entry)| namespace.is_none_or(|namespace| entry.namespace == namespace))
            .map(|(id, _)| *id)
            .collect();
        for attempt in here {
            let Some(entry) = self.entries.get_mut(&attempt) else { continue };
            match kind {
                Kind::Jobs if with_jobs.contains(&attempt) => {}
                Kind::Jobs => {
                    let is_awaited = entry.awaited_since.is_some_and(|since| since >= began);
                    if !is_awaited {
                        let was_awaited = entry.awaited_since.take().is_some();
                        // Of a launch that left no trace, its row tells.
                        let is_known = entry.sighting.job.take().is_some() || !entry.sighting.pods.is_empty();
                        if is_known || !was_awaited {
                            entry.see_no_job(now);
                        }
                    }
                }
                Kind::Pods => {
                    entry.pods_listed = Some(began);
                    for pod in &mut entry.sighting.pods {
                        pod.is_over |= !listed.contains(&(attempt, pod.uid.clone()));
                    }
                }
            }
            self.look(attempt, now);
        }
    }

    /// Notes that it is to end. Answers where there is a Job to delete that was not asked for a moment ago.
    pub fn stop(&mut self, attempt: AttemptId, cause: StopCause, now: Instant) -> Option<String> {
        let entry = self.entries.get_mut(&attempt)?;
        let is_asked = entry.asked_at.is_some_and(|at| now.saturating_duration_since(at) < ASK_AGAIN);
        let has_job = entry.has_job_to_delete() || entry.awaited_since.is_some();
        if entry.told >= Told::Over || is_asked || !has_job {
            return None;
        }
        entry.stopped.get_or_insert(cause);
        entry.asked_at = Some(now);
        let namespace = entry.namespace.clone();
        self.look(attempt, now);
        Some(namespace)
    }

    /// Its end is recorded: it may go. Answers where there is a Job to delete, and whether a pod of it lives.
    pub fn let_go(&mut self, attempt: AttemptId, now: Instant) -> Option<(String, bool)> {
        let entry = self.entries.get_mut(&attempt)?;
        entry.is_settled = true;
        entry.stopped.get_or_insert(StopCause::Over);
        if entry.told == Told::Gone {
            // When that was told nothing could be recorded, so its berth is still taken: it is told again.
            entry.told = Told::Over;
        }
        let to_delete = entry.has_job_to_delete().then(|| (entry.namespace.clone(), entry.has_live_pod()));
        if to_delete.is_some() {
            entry.asked_at = Some(now);
        }
        self.look(attempt, now);
        to_delete
    }

    /// It is gone, and so is its berth.
    pub fn forget(&mut self, attempt: AttemptId, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&attempt) {
            entry.forget(now);
            self.look(attempt, now);
        }
    }

    /// Time has passed: what lasts may be news. Answers the Jobs that may go and are still there.
    pub fn tick(&mut self, now: Instant) -> Vec<(AttemptId, String)> {
        self.put_off.tick(now);
        let all: Vec<AttemptId> = self.entries.keys().copied().collect();
        all.into_iter()
            .filter_map(|attempt| {
                self.look(attempt, now);
                let entry = self.entries.get_mut(&attempt)?;
                let is_left = (entry.is_settled || entry.told == Told::Forgotten) && entry.has_job_to_delete();
                if !is_left || entry.asked_at.is_some_and(|at| now.saturating_duration_since(at) < DELETE_AGAIN) {
                    return None;
                }
                entry.asked_at = Some(now);
                Some((attempt, entry.namespace.clone()))
            })
            .collect()
    }

    fn entry(&mut self, attempt: AttemptId, tenant: &str, namespace: &str, now: Instant) -> &mut Entry {
        self.entries.entry(attempt).or_insert_with(|| Entry {
            tenant: tenant.to_owned(),
            namespace: namespace.to_owned(),
            sighting: Sighting::default(),
            is_mine: false,
            awaited_since: None,
            stopped: None,
            asked_at: None,
            judgement: Judgement::Alive,
            judged_at: now,
            told: Told::Nothing,
            is_settled: false,
            gone_at: None,
            pods_listed: None,
            was_without_job: false,
            was_over: false,
            is_live: false,
            noted: None,
        })
    }

    /// Judges anew, and tells what is news.
    fn look(&mut self, attempt: AttemptId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&attempt) else { return };
        let nothing_is_there = entry.sighting.job.is_none() && entry.sighting.pods.iter().all(|pod| pod.is_over);
        let is_unknown = !entry.sighting.job_is_gone && entry.sighting.pods.is_empty();
        let is_past = match entry.told {
            Told::Forgotten => entry.asked_at.is_none_or(|at| now.saturating_duration_since(at) >= TOMBSTONE),
            _ => is_unknown,
        };
        if nothing_is_there && entry.awaited_since.is_none() && is_past {
            let was_live = entry.is_live;
            self.entries.remove(&attempt);
            self.count(was_live, false);
            return;
        }
        let judgement = entry.sighting.judge(entry.stopped);
        if !same_kind(&judgement, &entry.judgement) {
            entry.judged_at = now;
        }
        entry.judgement = judgement;
        if let Some(news) = entry.news(attempt, now) {
            self.news.push_back(news);
        }
        let is_gone = matches!(entry.judgement, Judgement::Over(_)) && entry.sighting.job.is_none();
        let is_live = entry.told < Told::Gone && !is_gone && !entry.is_given_up();
        let was_live = std::mem::replace(&mut entry.is_live, is_live);
        self.count(was_live, is_live);
    }

    fn count(&self, was_live: bool, is_live: bool) {
        if was_live != is_live {
            self.live.send_modify(|live| *live = if is_live { *live + 1 } else { live.saturating_sub(1) });
        }
    }
}

/// Whether it lasts: the words may change.
fn same_kind(one: &Judgement, other: &Judgement) -> bool {
    match (one, other) {
        (Judgement::Waiting { reason: a, .. }, Judgement::Waiting { reason: b, .. })
        | (Judgement::Hopeless { reason: a, .. }, Judgement::Hopeless { reason: b, .. }) => a.code == b.code,
        _ => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

impl Entry {
    fn news(&mut self, attempt: AttemptId, now: Instant) -> Option<News> {
        let lasted = now.saturating_duration_since(self.judged_at);
        match self.judgement.clone() {
            Judgement::Over(end) if self.sighting.job.is_some() => self.over(attempt, end, lasted),
            Judgement::Over(end) => self.gone(attempt, end, lasted, now),
            _ if self.told > Told::Nothing => None,
            // Once that is settled it can't start any more, however long it takes to go. A Job that nobody has seen may still be on its way, and of one on
            // a lost node nobody will tell that it is gone: those are the supervisor's.
            _ if self.stopped == Some(StopCause::StartTimeout) && self.will_be_seen_to_go() => {
                self.told = Told::Hopeless;
                let end = match self.sighting.explain() {
                    Some(reason) => End::NotStarted { reason, retryable: true },
                    None => End::Stopped(StopCause::StartTimeout),
                };
                Some(self.ended(attempt, end, Stage::Doomed))
            }
            _ if self.stopped.is_some() => None,
            Judgement::Alive => {
                self.noted = None;
                None
            }
            Judgement::Hopeless { reason, retryable, after } if lasted >= after => {
                self.told = Told::Hopeless;
                Some(self.ended(attempt, End::NotStarted { reason, retryable }, Stage::Doomed))
            }
            Judgement::Hopeless { reason, .. } => self.note(attempt, reason, now),
            Judgement::Waiting { reason, after } if lasted >= after => self.note(attempt, reason, now),
            Judgement::Waiting { .. } => None,
        }
    }

    /// What was stopped because it did not start has a better reason than that.
    fn explained(&self, end: End) -> End {
        match (&end, &self.noted) {
            (End::Stopped(StopCause::StartTimeout), Some(noted)) => {
                End::NotStarted { reason: noted.reason.clone(), retryable: true }
            }
            _ => end,
        }
    }

    /// Nothing of it runs, and its Job is there.
    fn over(&mut self, attempt: AttemptId, end: End, lasted: Duration) -> Option<News> {
        self.was_over = true;
        if self.told >= Told::Over || self.is_settled || !self.is_mine && lasted < STAND_IN {
            return None;
        }
        self.told = Told::Over;
        Some(self.ended(attempt, self.explained(end), Stage::Over))
    }

    /// Nothing of it is left.
    fn gone(&mut self, attempt: AttemptId, end: End, lasted: Duration, now: Instant) -> Option<News> {
        // A pod that nobody has seen may be there all the same: whoever looks for pods afterwards knows.
        let is_certain =
            !self.sighting.pods.is_empty() || self.pods_listed >= self.gone_at && self.pods_listed.is_some();
        if self.told >= Told::Gone || !is_certain {
            return None;
        }
        if self.is_settled {
            self.told = Told::Gone;
            return Some(self.ended(attempt, End::Reported, Stage::Gone));
        }
        if !self.is_mine && self.was_over {
            // Whoever launched it has seen to it, or the next full look will.
            self.forget(now);
            return None;
        }
        if !self.is_mine && lasted < STAND_IN {
            return None;
        }
        self.told = Told::Gone;
        Some(self.ended(attempt, self.explained(end), Stage::Gone))
    }

    fn forget(&mut self, now: Instant) {
        self.told = Told::Forgotten;
        self.asked_at = Some(now);
        self.sighting.pods.retain(|pod| !pod.is_over);
    }

    fn see_no_job(&mut self, now: Instant) {
        self.sighting.job = None;
        if !self.sighting.job_is_gone {
            self.gone_at = Some(now);
        }
        self.sighting.job_is_gone = true;
        self.was_without_job = true;
    }

    /// Its end is recorded, and its pods are where nobody can end them.
    fn is_given_up(&self) -> bool {
        self.is_settled && self.has_live_pod() && self.sighting.pods.iter().all(|pod| pod.is_over || pod.node_is_lost)
    }

    fn will_be_seen_to_go(&self) -> bool {
        self.awaited_since.is_none()
            && self.sighting.job.is_some()
            && !self.sighting.pods.iter().any(|pod| pod.node_is_lost)
    }

    fn has_job_to_delete(&self) -> bool {
        self.sighting.job.as_ref().is_some_and(|job| !job.is_deleting)
    }

    fn has_live_pod(&self) -> bool {
        self.sighting.pods.iter().any(|pod| !pod.is_over)
    }

    fn ended(&self, attempt: AttemptId, end: End, stage: Stage) -> News {
        News::Ended(Ended { tenant: self.tenant.clone(), attempt, end, because: self.sighting.ended_for(), stage })
    }

    /// Only whoever launched it notes why it waits, or everybody when that one may be gone.
    fn note(&mut self, attempt: AttemptId, reason: Reason, now: Instant) -> Option<News> {
        if !self.is_mine && now.saturating_duration_since(self.judged_at) < NOTE_STAND_IN {
            return None;
        }
        if self.noted.as_ref().is_some_and(|noted| noted.covers(&reason, now)) {
            return None;
        }
        self.noted = Some(Noted::new(reason.clone(), now));
        Some(News::Waiting { tenant: self.tenant.clone(), attempt, reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::ids::ExecutionId;

    const NAMESPACE: &str = "jobs";

    struct Scene {
        board: Board,
        attempt: AttemptId,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let attempt = AttemptId { execution_id: ExecutionId::new(), attempt: 1 };
            Self { board: Board::new(), attempt, now: crate::clock::now() }
        }

        /// Launched by this worker, and its Job seen.
        fn mine() -> Self {
            let mut scene = Self::new();
            scene.board.await_job(scene.attempt, "t", NAMESPACE, scene.now);
            scene.job(Some(JobSight::default()));
            scene
        }

        fn job(&mut self, job: Option<JobSight>) {
            self.board.see_job(self.attempt, "t", NAMESPACE, job, self.now);
        }

        fn pod(&mut self, attempt: Container) {
            let is_over = matches!(attempt, Container::Terminated { .. });
            let pod = PodSight { uid: "1".into(), is_scheduled: true, is_over, attempt, ..PodSight::default() };
            self.board.see_pod(self.attempt, "t", NAMESPACE, pod, false, self.now);
        }

        fn ends_well(&mut self) {
            self.pod(Container::Terminated { code: 0, reason: String::new(), message: String::new() });
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
            self.board.tick(self.now);
        }

        fn end(&mut self) -> Option<(End, Stage)> {
            match self.board.next_news()? {
                News::Ended(ended) => Some((ended.end, ended.stage)),
                News::Waiting { .. } => self.end(),
            }
        }

        fn live(&self) -> usize {
            *self.board.live().borrow()
        }
    }

    #[test]
    fn an_attempt_is_live_from_its_launch_to_its_pods_end() {
        let mut scene = Scene::new();
        scene.board.await_job(scene.attempt, "t", NAMESPACE, scene.now);
        assert_eq!((scene.live(), scene.board.held().len()), (1, 1));
        scene.job(Some(JobSight::default()));
        scene.pod(Container::Running);
        assert_eq!(scene.live(), 1);
        scene.ends_well();
        assert_eq!(scene.end(), Some((End::Reported, Stage::Over)));
        assert_eq!(scene.live(), 1, "its end is to be recorded, and its Job is there");
        assert_eq!(scene.board.let_go(scene.attempt, scene.now), Some((NAMESPACE.to_owned(), false)));
        assert_eq!(scene.board.let_go(scene.attempt, scene.now).map(|_| ()), Some(()), "asking again does no harm");
        scene.job(None);
        assert_eq!(scene.end(), Some((End::Reported, Stage::Gone)));
        assert_eq!((scene.live(), scene.board.held().len()), (0, 1), "its berth is to be given back");
        scene.board.forget(scene.attempt, scene.now);
        assert!(scene.board.held().is_empty());
    }

    #[test]
    fn words_that_come_late_about_what_is_forgotten_are_no_news() {
        let mut scene = Scene::mine();
        scene.ends_well();
        assert!(scene.end().is_some());
        scene.board.let_go(scene.attempt, scene.now);
        scene.job(None);
        assert!(scene.end().is_some());
        scene.board.forget(scene.attempt, scene.now);
        scene.ends_well();
        scene.pass(10);
        assert_eq!((scene.end(), scene.board.held().len()), (None, 0));
        let gone = PodSight { uid: "1".into(), is_over: true, ..PodSight::default() };
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, gone, true, scene.now);
        scene.pass(61);
        assert!(scene.board.is_empty());
    }

    #[test]
    fn a_report_and_why_kubernetes_asked_for_it_are_told_together() {
        let mut scene = Scene::mine();
        let evicted = PodSight {
            uid: "1".into(),
            is_scheduled: true,
            attempt: Container::Running,
            ended_for: Some(("EvictionByEvictionAPI".into(), "evicting".into())),
            ..PodSight::default()
        };
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, evicted.clone(), false, scene.now);
        assert!(scene.board.next_news().is_none(), "it has its grace");
        let attempt = Container::Terminated { code: 0, reason: String::new(), message: String::new() };
        let evicted = PodSight { is_over: true, attempt, ..evicted };
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, evicted, false, scene.now);
        let Some(News::Ended(ended)) = scene.board.next_news() else { panic!("its end is news") };
        assert_eq!((ended.end, ended.because.unwrap().code.as_str()), (End::Reported, "evicted"));
    }

    #[test]
    fn another_workers_end_is_told_when_it_stays() {
        let mut scene = Scene::new();
        scene.job(Some(JobSight::default()));
        scene.ends_well();
        assert_eq!(scene.end(), None);
        scene.pass(1);
        assert_eq!(scene.end(), None, "whoever launched it sees to it");
        scene.pass(1);
        assert_eq!(scene.end(), Some((End::Reported, Stage::Over)));
        scene.pass(100);
        assert_eq!(scene.end(), None, "once");
    }

    #[test]
    fn what_another_worker_has_seen_to_is_no_news() {
        let mut scene = Scene::new();
        scene.job(Some(JobSight::default()));
        scene.ends_well();
        scene.job(None);
        scene.pass(10);
        assert_eq!((scene.end(), scene.live(), scene.board.held().len()), (None, 0, 0));
    }

    #[test]
    fn a_launch_that_did_not_happen_holds_nothing() {
        let mut scene = Scene::new();
        scene.board.await_job(scene.attempt, "t", NAMESPACE, scene.now);
        scene.board.await_no_more(scene.attempt, scene.now);
        assert!(scene.board.is_empty() && scene.live() == 0);
    }

    #[test]
    fn a_launch_that_was_put_off_holds_nothing_and_says_why() {
        let mut scene = Scene::new();
        let full = |words: &str| Reason::new(Reason::QUOTA_EXCEEDED, words);
        scene.board.await_job(scene.attempt, "t", NAMESPACE, scene.now);
        scene.board.await_no_more(scene.attempt, scene.now);
        scene.board.put_off(scene.attempt, "t", full("used: 3"), scene.now);
        assert!(matches!(scene.board.next_news(), Some(News::Waiting { reason, .. }) if reason == full("used: 3")));
        assert!(!scene.board.holds(scene.attempt) && !scene.board.has_live_pod(scene.attempt) && scene.live() == 0);
        scene.pass(16);
        scene.board.put_off(scene.attempt, "t", full("used: 4"), scene.now);
        assert!(scene.board.next_news().is_none(), "other words for the same");
        scene.pass(59);
        assert_eq!(scene.board.explain(scene.attempt).unwrap().code, "quota_exceeded");
        scene.job(Some(JobSight::default()));
        assert_eq!(scene.board.explain(scene.attempt), None, "its Job is there");
        let mut elsewhere = Scene::new();
        elsewhere.board.put_off(elsewhere.attempt, "t", full("used: 3"), elsewhere.now);
        elsewhere.pass(60);
        assert!(elsewhere.board.is_empty(), "somebody else tries it");
    }

    #[test]
    fn what_a_complete_list_does_not_hold_is_gone() {
        let mut scene = Scene::mine();
        let (none, now) = (HashSet::new(), scene.now);
        scene.board.complete(Kind::Jobs, &none, Some("elsewhere"), now, now);
        assert_eq!((scene.end(), scene.live()), (None, 1), "nobody looked where it is");
        scene.board.complete(Kind::Jobs, &none, None, now, now);
        assert_eq!(scene.end(), None, "a pod of it may be there that nobody has seen");
        scene.board.complete(Kind::Pods, &none, None, now, now);
        assert!(matches!(scene.end(), Some((End::Unseen(reason), Stage::Gone)) if reason.code == "job_deleted"));
    }

    #[test]
    fn a_launch_is_awaited_through_lists_that_were_begun_before_it() {
        let mut scene = Scene::new();
        let before = scene.now;
        scene.now += Duration::from_secs(1);
        scene.board.await_job(scene.attempt, "t", NAMESPACE, scene.now);
        scene.board.complete(Kind::Jobs, &HashSet::new(), None, before, scene.now);
        assert!(scene.board.holds(scene.attempt));
        let after = scene.now + Duration::from_secs(1);
        scene.board.complete(Kind::Jobs, &HashSet::new(), None, after, after);
        assert!(scene.board.is_empty(), "and is not there by a later one: its row will be looked after");
    }

    #[test]
    fn a_start_that_can_not_be_is_told_before_its_pod_is_gone_and_after() {
        let mut scene = Scene::mine();
        scene.pod(Container::Waiting { reason: "ErrImageNeverPull".into(), message: "x".into() });
        let end = scene.end();
        assert!(
            matches!(&end, Some((End::NotStarted { reason, retryable: false }, Stage::Doomed)) if reason.code == "image_not_found"),
            "{end:?}"
        );
        assert_eq!(scene.live(), 1);
        assert_eq!(scene.board.let_go(scene.attempt, scene.now), Some((NAMESPACE.to_owned(), true)));
        scene.job(Some(JobSight { is_deleting: true, ..JobSight::default() }));
        let gone = PodSight { uid: "1".into(), is_scheduled: true, ..PodSight::default() };
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, gone, true, scene.now);
        scene.job(None);
        assert_eq!(scene.end(), Some((End::Reported, Stage::Gone)), "that it failed is known");
    }

    #[test]
    fn a_registry_that_is_away_is_waited_for_and_said() {
        let mut scene = Scene::mine();
        scene.pod(Container::Waiting { reason: "ImagePullBackOff".into(), message: "connection refused".into() });
        assert!(
            matches!(scene.board.next_news(), Some(News::Waiting { reason, .. }) if reason.code == "image_pull_backoff")
        );
        scene.pass(19);
        assert_eq!(scene.end(), None);
        scene.pass(1);
        assert!(matches!(scene.end(), Some((End::NotStarted { retryable: true, .. }, Stage::Doomed))));
    }

    #[test]
    fn why_it_waits_is_told_when_it_lasts_and_once() {
        let mut scene = Scene::mine();
        let waiting =
            |message: &str| PodSight { uid: "1".into(), unschedulable: Some(message.into()), ..PodSight::default() };
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, waiting("0/1 nodes"), false, scene.now);
        assert!(scene.board.next_news().is_none());
        scene.pass(2);
        assert!(matches!(scene.board.next_news(), Some(News::Waiting { reason, .. }) if reason.message == "0/1 nodes"));
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, waiting("0/2 nodes"), false, scene.now);
        scene.pass(5);
        assert!(scene.board.next_news().is_none(), "other words for the same");
        scene.pass(30);
        assert!(scene.board.next_news().is_some(), "now and then they are told");
        scene.board.stop(scene.attempt, StopCause::StartTimeout, scene.now);
        let is_unschedulable =
            |end| matches!(end, Some((End::NotStarted { reason, .. }, _)) if reason.code == "unschedulable");
        assert!(is_unschedulable(scene.end()));
        scene.job(None);
        let gone = PodSight { uid: "1".into(), ..PodSight::default() };
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, gone, true, scene.now);
        assert!(is_unschedulable(scene.end()), "now its berth is free, too");
    }

    #[test]
    fn a_missed_start_is_told_at_once_as_it_stands_then() {
        let mut scene = Scene::mine();
        scene.job(Some(JobSight::default()));
        scene.pod(Container::Waiting { reason: "PodInitializing".into(), message: String::new() });
        scene.pass(2);
        assert!(
            matches!(scene.board.next_news(), Some(News::Waiting { reason, .. }) if reason.code == "image_pulling")
        );
        scene.pod(Container::Running);
        assert!(scene.board.stop(scene.attempt, StopCause::StartTimeout, scene.now).is_some());
        assert_eq!(scene.end(), Some((End::Stopped(StopCause::StartTimeout), Stage::Doomed)), "its image came");
        scene.pass(60);
        assert_eq!(scene.end(), None, "once");
        assert!(scene.board.let_go(scene.attempt, scene.now).is_some());
        assert_eq!(scene.live(), 1, "its pod is still there");
    }

    #[test]
    fn a_missed_start_is_not_told_of_a_job_that_may_still_come() {
        let mut scene = Scene::new();
        scene.board.await_job(scene.attempt, "t", NAMESPACE, scene.now);
        scene.board.stop(scene.attempt, StopCause::StartTimeout, scene.now);
        scene.pass(5);
        assert_eq!(scene.end(), None);
        scene.job(Some(JobSight::default()));
        assert_eq!(scene.end(), Some((End::Stopped(StopCause::StartTimeout), Stage::Doomed)));
    }

    #[test]
    fn a_missed_start_on_a_lost_node_is_the_supervisors() {
        let mut scene = Scene::mine();
        scene.job(Some(JobSight::default()));
        let lost = PodSight {
            uid: "1".into(),
            is_scheduled: true,
            attempt: Container::Running,
            node_is_lost: true,
            ..PodSight::default()
        };
        scene.board.see_pod(scene.attempt, "t", NAMESPACE, lost, false, scene.now);
        scene.board.stop(scene.attempt, StopCause::StartTimeout, scene.now);
        scene.pass(60);
        assert_eq!(scene.end(), None, "told here, its berth would wait for a pod that nobody sees go");
        assert_eq!(scene.board.explain(scene.attempt).unwrap().code, "node_lost");
    }

    #[test]
    fn what_went_before_its_end_could_be_recorded_is_told_again_when_it_is() {
        let mut scene = Scene::mine();
        scene.job(None);
        let now = scene.now;
        scene.board.complete(Kind::Pods, &HashSet::new(), None, now, now);
        assert!(matches!(scene.end(), Some((End::Unseen(_), Stage::Gone))));
        scene.pass(90);
        assert_eq!(scene.end(), None, "its lease is waited for");
        scene.board.let_go(scene.attempt, scene.now);
        assert_eq!(scene.end(), Some((End::Reported, Stage::Gone)), "so that its berth is given back");
    }

    #[test]
    fn a_deletion_that_failed_is_asked_for_again() {
        let mut scene = Scene::mine();
        scene.ends_well();
        scene.board.let_go(scene.attempt, scene.now);
        assert!(scene.board.tick(scene.now + Duration::from_secs(60)).is_empty());
        assert_eq!(scene.board.tick(scene.now + Duration::from_secs(90)), [(scene.attempt, NAMESPACE.to_owned())]);
    }
}
