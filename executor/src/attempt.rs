//! One attempt, from its bootstrap to its report: the rooms in the order they are walked through.

use crate::api::{Api, ApiError};
use crate::conclude::{Conclusion, Hold};
use crate::environment::Environment;
use crate::exit::Exit;
use crate::finish::{Told, finish};
use crate::halt::{Halt, Signals, Stop, guard};
use crate::heartbeat::Heart;
use crate::http::Client;
use crate::lease::{Lease, Terms};
use crate::report::Report;
use crate::run::{Run, RunEnd, Stage, Surroundings};
use crate::ship::ShipError;
use crate::ship::log::{Log, Shipper};
use crate::ship::put::Store;
use crate::start::{Started, start};
use crate::workspace::Workspace;
use crate::{input, random};
use roadstead_domain::attempt::protocol::{Bootstrap, Finish, StartGrant, Status};
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Asks for the start, and when it is granted walks the attempt to its end.
pub async fn attempt(bootstrap: Bootstrap, environment: Environment) -> Exit {
    let id = AttemptId { execution_id: bootstrap.execution_id, attempt: bootstrap.attempt };
    let client = Arc::new(Client::new(environment.certificates));
    let (api, mut signals) = match (open(&client, &bootstrap, id), Signals::listen()) {
        (Ok(api), Ok(signals)) => (Arc::new(api), signals),
        (Err(why), _) => return Exit::Unusable(why),
        (_, Err(why)) => return Exit::Unusable(why.to_string()),
    };
    let started = tokio::select! {
        started = start(&api) => started,
        () = signals.came() => return Exit::StoppedBeforeStart,
    };
    let attempt = match started {
        Ok(started) => Attempt::of(started, api, client),
        Err(error @ ApiError::Unavailable { .. }) => return Exit::StartUnanswered(error.to_string()),
        Err(error @ (ApiError::Gone | ApiError::Refused { .. })) => return Exit::StartRefused(error.to_string()),
    };
    tokio::spawn(guard(attempt.stop.clone(), signals, attempt.run_limit(), Arc::clone(&attempt.lease)));
    let heart = tokio::spawn(attempt.heart().beat());
    match Workspace::create(Path::new(&bootstrap.workspace_root), id) {
        Ok(workspace) => {
            let (search_path, traceparent) = (environment.search_path, attempt.grant.traceparent.clone());
            attempt.walk(Surroundings { attempt: id, workspace, search_path, traceparent }, &heart).await
        }
        Err(error) => {
            let message = format!("the workspace can't be made: {error}");
            attempt.report(&heart, Conclusion::failed(Reason::WORKSPACE_FAILED, message, true), attempt.patience).await
        }
    }
}

fn open(client: &Arc<Client>, bootstrap: &Bootstrap, id: AttemptId) -> Result<Api, String> {
    let token = random::session_token().map_err(|error| error.to_string())?;
    let client = Arc::clone(client);
    Api::new(client, &bootstrap.api_url, id, &bootstrap.credential, token).map_err(|error| error.to_string())
}

/// A granted attempt.
struct Attempt {
    grant: StartGrant,
    api: Arc<Api>,
    store: Store,
    report: Arc<Report>,
    stop: Stop,
    lease: Arc<Lease>,
    /// How long what was left is tried to be shipped: until nobody may count on this attempt any more.
    patience: Duration,
    grace: Duration,
    following: watch::Sender<bool>,
    shipped: Arc<Notify>,
}

impl Attempt {
    fn of(started: Started, api: Arc<Api>, client: Arc<Client>) -> Self {
        let Started { grant, lease_from } = started;
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        let (lease, grace) = (seconds(grant.lease_seconds), seconds(grant.grace_seconds));
        Self {
            store: Store { api: Arc::clone(&api), client, patience: lease },
            api,
            report: Arc::new(Report::of(&grant.workflow.steps)),
            stop: Stop::new(),
            lease: Arc::new(Lease::new(Terms::of(lease, grace), lease_from)),
            patience: lease,
            grace,
            following: watch::Sender::new(false),
            shipped: Arc::new(Notify::new()),
            grant,
        }
    }

    fn run_limit(&self) -> Duration {
        Duration::from_secs(u64::from(self.grant.timeout_seconds))
    }

    fn heart(&self) -> Heart {
        Heart {
            api: Arc::clone(&self.api),
            report: Arc::clone(&self.report),
            lease: Arc::clone(&self.lease),
            stop: self.stop.clone(),
            interval: Duration::from_secs(u64::from(self.grant.heartbeat_seconds.max(1))),
            timeout: Heart::timeout_within(self.patience),
            following: self.following.clone(),
            shipped: Arc::clone(&self.shipped),
        }
    }

    /// Runs, ships, reports, cleans up.
    async fn walk(&self, around: Surroundings, heart: &JoinHandle<()>) -> Exit {
        let log = Arc::new(Log::new(around.workspace.spool.clone(), &self.grant.limits));
        let shipper = Shipper {
            log: Arc::clone(&log),
            store: self.store.clone(),
            report: Arc::clone(&self.report),
            following: self.following.subscribe(),
            shipped: Arc::clone(&self.shipped),
        };
        let mut shipper = tokio::spawn(shipper.ship());

        let stage = Arc::new(Stage {
            around,
            log: Arc::clone(&log),
            stop: self.stop.clone(),
            lease: Arc::clone(&self.lease),
            grace: self.grace,
            mains: std::sync::Mutex::default(),
        });
        let workspace = &stage.around.workspace;
        let (conclusion, patience) = self.run(&stage).await;
        let exit = match conclusion {
            Ok(conclusion) => {
                log.finish();
                match self.flush(&mut shipper, patience).await {
                    Err(Superseded) => Exit::Superseded,
                    Ok(complete) => self.report(heart, with_log(conclusion, complete), patience).await,
                }
            }
            Err(exit) => exit,
        };
        shipper.abort();
        if exit != Exit::Undead {
            let _ = workspace.retire();
        }
        exit
    }

    /// The steps and what they left; with it, how long the log's end, and then whoever is to be told of the attempt's, are waited for.
    async fn run(&self, stage: &Arc<Stage>) -> (Result<Conclusion, Exit>, Duration) {
        let hold = Hold {
            workspace: &stage.around.workspace,
            store: &self.store,
            limits: &self.grant.limits,
            log: &stage.log,
            stop: &self.stop,
            timeout_seconds: self.grant.timeout_seconds,
        };
        let laid = tokio::select! {
            laid = input::lay(&self.grant.input, hold.workspace, &self.store.client) => laid.map(|()| None),
            halt = self.stop.asked() => Ok(Some(RunEnd::Halted(halt))),
        };
        let end = match laid {
            Err(error) => {
                return (Ok(Conclusion::failed(Reason::INPUT_UNAVAILABLE, error.to_string(), true)), self.patience);
            }
            Ok(Some(halted)) => halted,
            Ok(None) => {
                let steps = Arc::new(self.grant.workflow.steps.clone());
                Run { steps, stage: Arc::clone(stage), report: Arc::clone(&self.report) }.to_end().await
            }
        };
        if end == RunEnd::Undead {
            return (Err(Exit::Undead), self.grace);
        }
        let patience = if matches!(end, RunEnd::Halted(_)) { self.grace } else { self.patience };
        (hold.conclude(end).await.ok_or(Exit::Superseded), patience)
    }

    /// Waits for the log's end to be shipped; answers whether it was.
    async fn flush(
        &self,
        shipper: &mut JoinHandle<Result<(), ShipError>>,
        patience: Duration,
    ) -> Result<bool, Superseded> {
        let told = async {
            match self.stop.asked_for(|halt| halt != Halt::LeaseEnding).await {
                Halt::Superseded => {}
                _ => tokio::time::sleep(self.grace).await,
            }
        };
        let shipped = tokio::select! {
            shipped = tokio::time::timeout(patience, shipper) => shipped.ok(),
            () = told => None,
        };
        match shipped {
            _ if self.stop.reason() == Some(Halt::Superseded) => Err(Superseded),
            Some(Ok(Err(ShipError::Api(ApiError::Gone)))) => Err(Superseded),
            Some(Ok(Ok(()))) => Ok(true),
            _ => Ok(false),
        }
    }

    async fn report(&self, heart: &JoinHandle<()>, conclusion: Conclusion, patience: Duration) -> Exit {
        heart.abort();
        let (steps, segments) = self.report.last();
        let Conclusion { outcome, result, artifacts } = conclusion;
        let reported = match &outcome.reason {
            Some(reason) if reason.code == Reason::EXECUTOR_TERMINATED => Exit::Terminated,
            _ => Exit::Reported,
        };
        let document = Finish { outcome, steps, result, artifacts, segments };
        match finish(&self.api, &self.store, &self.grant.outcome_url, &document, self.grace, patience).await {
            Told::Api | Told::Outcome => reported,
            Told::Gone => Exit::Superseded,
            Told::Nobody => Exit::Unreported,
        }
    }
}

struct Superseded;

/// A success whose log is not complete says so; it is a success all the same.
fn with_log(mut conclusion: Conclusion, complete: bool) -> Conclusion {
    if !complete && conclusion.outcome.status == Status::Succeeded {
        let message = "the end of the log could not be uploaded";
        conclusion.outcome.reason.get_or_insert_with(|| Reason::new(Reason::LOG_INCOMPLETE, message));
    }
    conclusion
}
