//! The Kubernetes launcher: an attempt is a Job of its own, named after it, so that the same launch asked for twice is one Job.
//!
//! Every worker looks at all Jobs and pods of the installation (`watch`), puts what it sees on a board (`board`), and knows what it means (`sight`).
//! Invariants: a Job is created for a claimed attempt only; it is deleted when its attempt's end is recorded, or to end it; that an attempt
//! ran to its end is told when no pod of it is alive; an error of the API server's is never an absence.

mod board;
mod client;
mod job;
mod namespaces;
mod noted;
mod seen;
mod sight;
mod template;
mod watch;

pub use job::Jobs;
pub use namespaces::read as read_namespace_objects;
pub use template::TemplateError;

use super::{LaunchError, LaunchOrder, Launcher, Needs, News, Reach, StopCause};
use crate::clock;
use board::Board;
use client::{Deleter, Deletion, Hindrance};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::batch::v1::Job;
use kube::Client;
use kube::core::DynamicObject;
use namespaces::Namespaces;
use roadstead_backend::config::{KubernetesConfig, NamespacePolicy};
use roadstead_domain::attempt::placement::{is_per_tenant, namespace, tenant_of};
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use slog::Logger;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch as channel};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;
use watch::{Lists, Look};

/// Requests to the cluster's API at once, of creations and of deletions each: API priority and fairness gives one client about as many places.
const MAX_IN_FLIGHT: usize = 32;
/// Enough that no request waits for the next claim, and that a tenant whose namespace can't be made holds up the others only with this many.
const OVERLAP: usize = 128;
/// What lasts is looked at this often; nothing is asked of anybody for it.
const TICK: Duration = Duration::from_millis(500);
/// Beyond what lists take, until a worker that sees nothing new counts as blind.
const BLIND: Duration = Duration::from_secs(90);
/// For a pod's end after its Job's deletion, beyond the pod's own grace.
const END_SLACK: Duration = Duration::from_secs(15);

pub struct KubernetesLauncher {
    client: Client,
    jobs: Jobs,
    namespace_template: String,
    /// The only ones to launch in, if that is restricted.
    allowed_namespaces: Vec<String>,
    namespaces: Option<Namespaces>,
    installation: OnceLock<Uuid>,
    look: Look,
    creations: Semaphore,
    deleter: Deleter,
    kill_grace: Duration,
}

impl KubernetesLauncher {
    /// `objects`: what a namespace of a tenant's begins with, where the worker makes it.
    pub fn new(
        client: Client,
        config: &KubernetesConfig,
        jobs: Jobs,
        objects: Vec<DynamicObject>,
        interval: Duration,
        kill_grace: Duration,
        log: Logger,
    ) -> Self {
        let makes = config.namespace_policy == NamespacePolicy::Create;
        Self {
            jobs,
            namespace_template: config.namespace_template.clone(),
            allowed_namespaces: config.watch_namespaces.clone(),
            namespaces: makes.then(|| Namespaces::new(client.clone(), objects)),
            installation: OnceLock::new(),
            look: Look {
                client: client.clone(),
                board: Arc::new(Mutex::new(Board::new())),
                seen: Arc::new(channel::Sender::new(())),
                interval,
                lists: Arc::new(Lists::default()),
                namespace_template: config.namespace_template.clone(),
                log: log.clone(),
            },
            deleter: Deleter::new(client.clone(), MAX_IN_FLIGHT, log),
            client,
            creations: Semaphore::new(MAX_IN_FLIGHT),
            kill_grace,
        }
    }

    fn is_recent(&self, looked_at: Option<Instant>) -> bool {
        looked_at.is_some_and(|at| at.elapsed() < 2 * self.look.interval + BLIND)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.look.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn create(&self, order: &LaunchOrder, until: Instant) -> Result<(), Hindrance> {
        let Some(installation) = self.installation.get() else {
            return Err(Hindrance::Unknown("this launcher has not begun yet".to_owned()));
        };
        let place = namespace(&self.namespace_template, &order.tenant);
        let late = |_| Hindrance::Unknown("there was no place for it in time".to_owned());
        let job = match timeout_at(until, self.prepare(order, &place, *installation)).await.map_err(late)? {
            Ok(job) => job,
            // It says nothing of what was asked for before.
            Err(refusal @ (Hindrance::Refused(_) | Hindrance::NotNow(_))) if order.is_taken_over => {
                return client::adopt(&self.client, &place, order.attempt, *installation, Some(refusal)).await;
            }
            Err(error) => return Err(error),
        };
        let _place = timeout_at(until, self.creations.acquire()).await.map_err(late)?;
        let is_seen = || self.board().is_seen(order.attempt);
        let adopt = |refusal| client::adopt(&self.client, &place, order.attempt, *installation, refusal);
        let created = client::create(&self.client, &job, order.is_taken_over, is_seen, adopt, until).await;
        if let (Err(Hindrance::NotNow(reason)), Some(namespaces)) = (&created, &self.namespaces)
            && reason.code != Reason::QUOTA_EXCEEDED
        {
            // It may have been deleted: the next try makes it again.
            namespaces.forget(&place);
        }
        created
    }

    /// The Job to create, in a namespace that is there.
    async fn prepare(&self, order: &LaunchOrder, place: &str, installation: Uuid) -> Result<Job, Hindrance> {
        let job = self.jobs.of(order, installation).map_err(Hindrance::Refused)?;
        if !self.allowed_namespaces.is_empty() && !self.allowed_namespaces.iter().any(|allowed| allowed == place) {
            let message = format!("the namespace {place} is not among those of WATCH_NAMESPACE");
            return Err(Hindrance::Refused(Reason::new(Reason::CREATE_REJECTED, message)));
        }
        if !self.sees(&order.tenant) {
            let message = format!("the worker can't list Jobs and pods of the namespace {place}");
            return Err(Hindrance::NotNow(Reason::new(Reason::CREATE_REJECTED, message)));
        }
        if let Some(namespaces) = &self.namespaces {
            namespaces.ensure(place, &order.tenant).await?;
        }
        Ok(job)
    }

    /// What the cluster can't have now is nobody's failure: it says why it waits, and is tried again when its launch is taken over.
    fn tell(&self, order: &LaunchOrder, hindrance: Hindrance) -> LaunchError {
        match hindrance {
            Hindrance::Refused(reason) => LaunchError::Refused { reason, retryable: false },
            Hindrance::NotNow(reason) => {
                let why = reason.message.clone();
                self.board().put_off(order.attempt, &order.tenant, reason, clock::now());
                self.look.seen.send_replace(());
                LaunchError::Unknown(why)
            }
            Hindrance::Unknown(why) => LaunchError::Unknown(why),
        }
    }
}

impl Launcher for KubernetesLauncher {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn reach(&self) -> Reach {
        Reach::Cluster
    }

    fn needs(&self) -> Needs {
        Needs { credential: false, demand: true }
    }

    fn begin(&self, installation: Uuid) {
        if self.installation.set(installation).is_err() {
            return;
        }
        let namespaces = match (self.allowed_namespaces.is_empty(), is_per_tenant(&self.namespace_template)) {
            (false, _) => self.allowed_namespaces.clone(),
            (true, true) => Vec::new(),
            (true, false) => vec![self.namespace_template.clone()],
        };
        self.look.begin(installation, &namespaces);
        tokio::spawn(tick(self.look.clone(), self.deleter.clone()));
    }

    /// Whoever has not seen the cluster for long knows nothing of it.
    fn is_ready(&self) -> bool {
        self.look.lists.all().into_iter().any(|(_, looked_at)| self.is_recent(looked_at))
    }

    fn sees(&self, tenant: &str) -> bool {
        self.is_recent(self.looked_at(tenant))
    }

    fn out_of_sight(&self) -> Vec<String> {
        let blind = self.look.lists.all().into_iter().filter(|(_, looked_at)| !self.is_recent(*looked_at));
        blind.filter_map(|(place, _)| tenant_of(&self.namespace_template, &place?).map(ToOwned::to_owned)).collect()
    }

    fn launch(&self, order: LaunchOrder, until: Instant) -> BoxFuture<'_, Result<(), LaunchError>> {
        async move {
            let (attempt, place) = (order.attempt, namespace(&self.namespace_template, &order.tenant));
            self.board().await_job(attempt, &order.tenant, &place, clock::now());
            let created = self.create(&order, until).await;
            if created.is_err() {
                self.board().await_no_more(attempt, clock::now());
            }
            created.map_err(|hindrance| self.tell(&order, hindrance))
        }
        .boxed()
    }

    fn overlap(&self) -> usize {
        OVERLAP
    }

    fn observe(&self) -> BoxFuture<'_, News> {
        async move {
            let mut seen = self.look.seen.subscribe();
            loop {
                seen.mark_unchanged();
                if let Some(news) = self.board().next_news() {
                    return news;
                }
                // Its sender is this launcher's.
                let _ = seen.changed().await;
            }
        }
        .boxed()
    }

    fn let_go(&self, attempt: AttemptId) {
        let left = self.board().let_go(attempt, clock::now());
        self.look.seen.send_replace(());
        if let Some((place, has_live_pod)) = left {
            self.deleter.delete(attempt, place, if has_live_pod { Deletion::PodsFirst } else { Deletion::PodsAfter });
        }
    }

    fn forget(&self, attempt: AttemptId) {
        self.board().forget(attempt, clock::now());
    }

    fn stop(&self, attempt: AttemptId, cause: StopCause) -> bool {
        let begun = self.board().stop(attempt, cause, clock::now());
        self.look.seen.send_replace(());
        let begins = begun.is_some();
        if let Some(place) = begun {
            self.deleter.delete(attempt, place, Deletion::PodsFirst);
        }
        begins
    }

    fn end_strays(&self, attempt: AttemptId, cause: StopCause) -> BoxFuture<'_, bool> {
        async move {
            let mut seen = self.look.seen.subscribe();
            self.stop(attempt, cause);
            let gone = async {
                loop {
                    seen.mark_unchanged();
                    {
                        let board = self.board();
                        // A pod on a node that is not heard of is as far away as the lease says.
                        if !board.has_live_pod(attempt) || board.is_out_of_reach(attempt) {
                            return;
                        }
                    }
                    let _ = seen.changed().await;
                }
            };
            tokio::time::timeout(self.kill_grace + END_SLACK + END_SLACK, gone).await.is_ok()
        }
        .boxed()
    }

    fn explain(&self, attempt: AttemptId) -> Option<Reason> {
        self.board().explain(attempt)
    }

    fn begun(&self, attempt: AttemptId) -> Option<Duration> {
        self.board().begun(attempt, clock::wall())
    }

    fn held(&self) -> Vec<AttemptId> {
        self.board().held()
    }

    fn holds(&self, attempt: AttemptId) -> bool {
        self.board().holds(attempt)
    }

    fn looked_at(&self, tenant: &str) -> Option<Instant> {
        self.look.lists.looked_at(&namespace(&self.namespace_template, tenant))
    }

    fn live(&self) -> channel::Receiver<usize> {
        self.board().live()
    }
}

/// Lets time pass on the board, while there is anything on it.
async fn tick(look: Look, deleter: Deleter) {
    let mut seen = look.seen.subscribe();
    loop {
        let is_empty = {
            let mut board = look.board.lock().unwrap_or_else(PoisonError::into_inner);
            for (attempt, namespace) in board.tick(clock::now()) {
                deleter.delete(attempt, namespace, Deletion::PodsAfter);
            }
            board.is_empty()
        };
        if is_empty {
            let _ = seen.changed().await;
        } else {
            look.seen.send_replace(());
            tokio::time::sleep(TICK).await;
        }
    }
}
