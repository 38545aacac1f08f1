//! Launching: from a claimed attempt to a process of its own, and back to the news that it is gone.
//!
//! A launcher knows no database and no queue. It starts what it is told to start, tells what ended and how that looked from the outside, and
//! ends what it is told to end. Whether an end means success, a retry or nothing is decided elsewhere.

pub mod kubernetes;
mod plan;
pub mod process;

pub use plan::Plan;

use futures_util::future::BoxFuture;
use roadstead_backend::store::launch::Demand;
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

/// What a launched attempt proves itself with.
#[derive(Clone)]
pub struct Credential {
    pub token: String,
    /// What is stored of it.
    pub hash: Vec<u8>,
}

/// An attempt to launch.
#[derive(Clone, Debug)]
pub struct LaunchOrder {
    pub tenant: String,
    pub attempt: AttemptId,
    /// For launchers that want one.
    pub credential: Option<Credential>,
    /// What its workflow asks of a cluster; for launchers that want to know.
    pub demand: Option<Demand>,
    /// Somebody else may have launched it, or begun to.
    pub is_taken_over: bool,
    /// The run deadline, which the executor keeps by itself.
    pub timeout: Duration,
}

/// Why a launch did not come to its end.
#[derive(Clone, Debug)]
pub enum LaunchError {
    /// Nothing was started.
    Refused {
        reason: Reason,
        /// Whether another attempt might do better.
        retryable: bool,
    },
    /// Nobody knows whether something was started. Whoever takes the launch over finds out.
    Unknown(String),
}

/// What a launcher tells of its attempts.
#[derive(Clone, Debug)]
pub enum News {
    Ended(Ended),
    /// It was launched, has not started, and this is why.
    Waiting {
        tenant: String,
        attempt: AttemptId,
        reason: Reason,
    },
}

/// An attempt that has come to its end.
#[derive(Clone, Debug)]
pub struct Ended {
    pub tenant: String,
    pub attempt: AttemptId,
    pub end: End,
    /// Why it was ended, by the word of whoever ended it: better than the executor's own, which knows only that it was told to stop.
    pub because: Option<Reason>,
    pub stage: Stage,
}

/// How far an end has come. What is not gone yet is told again when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its launch was refused: of this launch there is nothing.
    Refused,
    /// It can't start any more, unless it has by now.
    Doomed,
    /// Nothing of it runs. What is left of it holds its berth until it is let go.
    Over,
    /// Nothing of it is left.
    Gone,
}

/// How an end looked from the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By the executor's word the attempt's end is known: to the API, or from `outcome.json`.
    Reported,
    /// It ended before a start was granted: no user code ran.
    NotStarted { reason: Reason, retryable: bool },
    /// It ended without a word.
    Lost(Reason),
    /// It is not there any more, and nobody saw how: whether it had started, and may still run where nobody sees it, its row and its lease say.
    Unseen(Reason),
    /// It was ended by [`Launcher::stop`].
    Stopped(StopCause),
}

/// Why an attempt that did not end by itself was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// No start was granted in time.
    StartTimeout,
    /// Its executor did not renew the lease.
    LeaseExpired,
    /// Its executor should have ended it at the run deadline.
    RunTimeout,
    /// It was settled without this launcher, or it has reported its end and hangs.
    Over,
}

/// How far a launcher sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the attempts that it launched itself. Nobody else sees those end.
    Worker,
    /// To every attempt of the installation, whoever launched it.
    Cluster,
}

/// What a launcher's orders must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    pub credential: bool,
    pub demand: bool,
}

/// Starts attempts and sees them end.
pub trait Launcher: Send + Sync {
    /// As the metrics' label.
    fn name(&self) -> &'static str;

    fn reach(&self) -> Reach;

    fn needs(&self) -> Needs;

    /// Begins to look, where there is something to look at beside what this launcher starts: once, when the installation's id is known.
    fn begin(&self, _installation: Uuid) {}

    /// Whether it can launch now, as far as it knows: for some tenant at least.
    fn is_ready(&self) -> bool {
        true
    }

    /// Whether it sees what is there of this tenant's.
    fn sees(&self, _tenant: &str) -> bool {
        true
    }

    /// Tenants of whom it sees nothing, as far as they can be named: nothing is to be launched for them.
    fn out_of_sight(&self) -> Vec<String> {
        Vec::new()
    }

    /// Starts an attempt by `until`, as far as it is up to this launcher. When this answers, the process or Job exists, unless it is an error.
    fn launch(&self, order: LaunchOrder, until: Instant) -> BoxFuture<'_, Result<(), LaunchError>>;

    /// So many launches may still be under way when the next are claimed: what they wait for is not this machine.
    fn overlap(&self) -> usize {
        0
    }

    /// Waits for what is news. Each end is told once. Dropping the future loses nothing.
    fn observe(&self) -> BoxFuture<'_, News>;

    /// The end that was told of an attempt is recorded: what is left of it may go.
    fn let_go(&self, _attempt: AttemptId) {}

    /// It is gone, and its berth is free: nobody wants to hear of it any more.
    fn forget(&self, _attempt: AttemptId) {}

    /// Ends an attempt that this launcher holds; its end is observed as any other. Answers whether that is begun now.
    fn stop(&self, attempt: AttemptId, cause: StopCause) -> bool;

    /// Ends what is left of an attempt whose executor is silent and whose tenant is seen, as far as it can be reached from here; `false`: something of it does
    /// not end.
    fn end_strays(&self, attempt: AttemptId, cause: StopCause) -> BoxFuture<'_, bool>;

    /// Why an attempt does not start, or is not heard of, as far as that is to be seen from here.
    fn explain(&self, _attempt: AttemptId) -> Option<Reason> {
        None
    }

    /// How long ago it could begin to start, where somebody else's queue holds attempts back; `None`: it could from its launch on.
    fn begun(&self, _attempt: AttemptId) -> Option<Duration> {
        None
    }

    /// The attempts that are alive here, or whose end was not told yet.
    fn held(&self) -> Vec<AttemptId>;

    /// What this tenant had launched before then, and is not held, is gone. `None`: that can't be told.
    fn looked_at(&self, _tenant: &str) -> Option<Instant> {
        None
    }

    fn holds(&self, attempt: AttemptId) -> bool {
        self.held().contains(&attempt)
    }

    /// How many attempts are alive here.
    fn live(&self) -> watch::Receiver<usize>;
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<credential>")
    }
}
