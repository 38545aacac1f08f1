//! Looking: Jobs, pods and the warnings about them, watched, and listed anew at every reconcile interval, because a watch alone misses.
//!
//! Invariant: an error is never an empty list. What is not listed counts as gone only when a list came to its end.

use super::board::{Board, Kind};
use super::job::selector;
use super::seen::Seen;
use super::sight::{JobSight, PodSight};
use crate::clock;
use crate::trouble::Complaint;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event as Warning, Pod};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use roadstead_domain::attempt::placement::{attempt_of_job, attempt_of_pod, labels, namespace};
use roadstead_domain::ids::AttemptId;
use serde::de::DeserializeOwned;
use slog::Logger;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// For a page of a list.
const LIST_TIMEOUT: Duration = Duration::from_secs(60);

/// What is looked at, and where what was seen is put up.
#[derive(Clone)]
pub struct Look {
    pub client: Client,
    pub board: Arc<Mutex<Board>>,
    /// Told when something was put up.
    pub seen: Arc<watch::Sender<()>>,
    pub interval: Duration,
    pub lists: Arc<Lists>,
    pub namespace_template: String,
    pub log: Logger,
}

/// When the last complete lists were begun, of Jobs and of pods.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    jobs: Option<Instant>,
    pods: Option<Instant>,
}

impl Begun {
    /// `None`: one of the two has not come to its end yet.
    fn looked_at(self) -> Option<Instant> {
        Some(self.jobs?.min(self.pods?))
    }
}

/// The lists of each namespace that is looked into; `None`: of all namespaces at once.
#[derive(Debug, Default)]
pub struct Lists {
    begun: Mutex<HashMap<Option<String>, Begun>>,
}

impl Lists {
    /// What was in this namespace before then, and is not on the board, is gone; `None`: that can't be told. Into one that is none of ours nobody looks, and
    /// never will: what may be there has no place here, as what is gone.
    pub fn looked_at(&self, namespace: &str) -> Option<Instant> {
        let places = self.places();
        match places.get(&None).or_else(|| places.get(&Some(namespace.to_owned()))) {
            Some(begun) => begun.looked_at(),
            None => places.values().filter_map(|begun| begun.looked_at()).min(),
        }
    }

    /// Each place, and when it was looked at.
    pub fn all(&self) -> Vec<(Option<String>, Option<Instant>)> {
        self.places().iter().map(|(place, begun)| (place.clone(), begun.looked_at())).collect()
    }

    fn begin(&self, place: Option<String>) {
        self.places().insert(place, Begun::default());
    }

    fn complete(&self, kind: Kind, place: Option<&str>, begun: Instant) {
        if let Some(last) = self.places().get_mut(&place.map(ToOwned::to_owned)) {
            match kind {
                Kind::Jobs => last.jobs = Some(begun),
                Kind::Pods => last.pods = Some(begun),
            }
        }
    }

    fn places(&self) -> MutexGuard<'_, HashMap<Option<String>, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that belongs to an attempt.
trait OfAnAttempt: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static {
    const KIND: Kind;
    fn attempt(&self) -> Option<AttemptId>;
    fn put_up(&self, attempt: AttemptId, is_gone: bool, board: &mut Board, now: Instant);
}

impl OfAnAttempt for Seen<Job> {
    const KIND: Kind = Kind::Jobs;

    fn attempt(&self) -> Option<AttemptId> {
        attempt_of_job(&self.name_any())
    }

    fn put_up(&self, attempt: AttemptId, is_gone: bool, board: &mut Board, now: Instant) {
        let sight = (!is_gone).then(|| JobSight::of(self));
        board.see_job(attempt, tenant(self), &self.namespace().unwrap_or_default(), sight, now);
    }
}

impl OfAnAttempt for Seen<Pod> {
    const KIND: Kind = Kind::Pods;

    fn attempt(&self) -> Option<AttemptId> {
        attempt_of_pod(&self.name_any())
    }

    fn put_up(&self, attempt: AttemptId, is_gone: bool, board: &mut Board, now: Instant) {
        board.see_pod(
            attempt,
            tenant(self),
            &self.namespace().unwrap_or_default(),
            PodSight::of(self, clock::wall()),
            is_gone,
            now,
        );
    }
}

fn tenant(object: &impl ResourceExt) -> &str {
    object.labels().get(labels::TENANT).map_or("", String::as_str)
}

impl Look {
    /// Looks on, in the background, until this process ends. `namespaces`: where; empty: everywhere.
    pub fn begin(&self, installation: Uuid, namespaces: &[String]) {
        let places: Vec<Option<String>> =
            if namespaces.is_empty() { vec![None] } else { namespaces.iter().cloned().map(Some).collect() };
        for place in places {
            self.lists.begin(place.clone());
            tokio::spawn(self.clone().objects::<Seen<Job>>(
                api(&self.client, place.as_deref()),
                selector(installation),
                place.clone(),
            ));
            tokio::spawn(self.clone().objects::<Seen<Pod>>(
                api(&self.client, place.as_deref()),
                selector(installation),
                place.clone(),
            ));
            for (reason, kind) in [("FailedCreate", Kind::Jobs), ("FailedCreatePodSandBox", Kind::Pods)] {
                tokio::spawn(self.clone().warnings(api(&self.client, place.as_deref()), reason, kind));
            }
        }
    }

    async fn objects<K: OfAnAttempt>(self, api: Api<K>, selector: String, namespace: Option<String>) {
        let mut complaint = Complaint::about(if K::KIND == Kind::Jobs { "watching Jobs" } else { "watching pods" });
        let config = watcher::Config::default().labels(&selector);
        loop {
            let mut events = watcher(api.clone(), config.clone()).default_backoff().boxed();
            let (mut listed, mut began) = (HashSet::new(), clock::now());
            let mut is_complete = false;
            let mut relist = Box::pin(tokio::time::sleep(self.interval));
            loop {
                let event = tokio::select! {
                    event = events.next() => event,
                    () = &mut relist, if is_complete => break,
                    // A list without an answer has no time limit of its own.
                    () = tokio::time::sleep(LIST_TIMEOUT), if !is_complete => break,
                };
                match event {
                    None => break,
                    Some(Err(error)) => complaint.raise(&self.log, &error),
                    Some(Ok(Event::Init)) => {
                        listed.clear();
                        began = clock::now();
                    }
                    Some(Ok(Event::InitApply(object))) => {
                        listed.extend(object.attempt().zip(object.uid()));
                        self.put_up(&object, false);
                    }
                    Some(Ok(Event::InitDone)) => {
                        complaint.over(&self.log);
                        self.with_board(|board| {
                            board.complete(K::KIND, &listed, namespace.as_deref(), began, clock::now());
                        });
                        self.lists.complete(K::KIND, namespace.as_deref(), began);
                        listed = HashSet::new();
                        is_complete = true;
                    }
                    Some(Ok(Event::Apply(object))) => self.put_up(&object, false),
                    Some(Ok(Event::Delete(object))) => self.put_up(&object, true),
                }
            }
        }
    }

    async fn warnings(self, api: Api<Warning>, reason: &'static str, kind: Kind) {
        let mut complaint = Complaint::about("watching warnings");
        let config = watcher::Config::default().fields(&format!("reason={reason}"));
        let mut events = watcher(api, config).default_backoff().applied_objects().boxed();
        loop {
            match events.try_next().await {
                Ok(Some(warning)) => {
                    complaint.over(&self.log);
                    let name = warning.involved_object.name.as_deref().unwrap_or_default();
                    let attempt = match kind {
                        Kind::Jobs => attempt_of_job(name),
                        Kind::Pods => attempt_of_pod(name),
                    };
                    if let Some(attempt) = attempt {
                        let message = warning.message.as_deref().unwrap_or_default();
                        self.with_board(|board| board.see_warning(attempt, kind, message, clock::now()));
                    }
                }
                Ok(None) => return,
                Err(error) => complaint.raise(&self.log, &error),
            }
        }
    }

    /// What is not where its tenant's attempts are is nobody's of ours, whatever it is called.
    fn put_up<K: OfAnAttempt>(&self, object: &K, is_gone: bool) {
        let place = namespace(&self.namespace_template, tenant(object));
        if let Some(attempt) = object.attempt().filter(|_| object.namespace().is_some_and(|at| at == place)) {
            self.with_board(|board| object.put_up(attempt, is_gone, board, clock::now()));
        }
    }

    fn with_board(&self, act: impl FnOnce(&mut Board)) {
        act(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner));
        self.seen.send_replace(());
    }
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_looked_at_when_its_jobs_and_pods_are_or_those_of_all() {
        let (start, lists) = (clock::now(), Lists::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        for place in ["a", "b"] {
            lists.begin(Some(place.to_owned()));
        }
        lists.complete(Kind::Jobs, Some("a"), at(1));
        assert_eq!(lists.looked_at("a"), None, "its pods are not");
        lists.complete(Kind::Pods, Some("a"), at(2));
        lists.complete(Kind::Jobs, Some("a"), at(3));
        assert_eq!((lists.looked_at("a"), lists.looked_at("b")), (Some(at(2)), None));
        assert_eq!(lists.looked_at("c"), Some(at(2)), "nobody ever looks there");

        let all = Lists::default();
        all.begin(None);
        for kind in [Kind::Jobs, Kind::Pods] {
            all.complete(kind, None, at(1));
        }
        assert_eq!(all.looked_at("anything"), Some(at(1)));
        assert_eq!(all.all(), [(None, Some(at(1)))]);
    }
}
