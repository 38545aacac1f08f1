//! From how the steps ended to how the attempt ended: ships what they left and decides the outcome.

use crate::api::ApiError;
use crate::halt::{Halt, Stop};
use crate::run::{RunEnd, outcome_of};
use crate::ship::ShipError;
use crate::ship::artifact::{self, WalkError};
use crate::ship::log::Log;
use crate::ship::put::Store;
use crate::ship::result::{self, ResultError};
use crate::workspace::Workspace;
use roadstead_domain::attempt::protocol::{Artifact, Limits, Outcome, ResultReport, Status};
use roadstead_domain::execution::Reason;

/// What the report will say.
#[derive(Debug)]
pub struct Conclusion {
    pub outcome: Outcome,
    pub result: Option<ResultReport>,
    pub artifacts: Vec<Artifact>,
}

impl Conclusion {
    pub fn bare(outcome: Outcome) -> Self {
        Self { outcome, result: None, artifacts: Vec::new() }
    }

    pub fn failed(code: &str, message: String, retryable: bool) -> Self {
        let reason = Some(Reason::new(code, message));
        Self::bare(Outcome { status: Status::Failed, reason, retryable })
    }
}

/// What shipping needs.
pub struct Hold<'a> {
    pub workspace: &'a Workspace,
    pub store: &'a Store,
    pub limits: &'a Limits,
    pub log: &'a Log,
    pub stop: &'a Stop,
    pub timeout_seconds: u32,
}

impl Hold<'_> {
    /// The conclusion; none when the attempt is no longer current.
    pub async fn conclude(&self, end: RunEnd) -> Option<Conclusion> {
        match end {
            RunEnd::Undead => None,
            RunEnd::Halted(halt) => self.halted(halt),
            RunEnd::Succeeded | RunEnd::Failed { .. } => tokio::select! {
                conclusion = self.ship(end) => conclusion,
                // No child runs any more, so the lease's end concerns nobody here.
                halt = self.stop.asked_for(|halt| halt != Halt::LeaseEnding) => self.halted(halt),
            },
        }
    }

    fn halted(&self, halt: Halt) -> Option<Conclusion> {
        outcome_of(halt, self.timeout_seconds).map(Conclusion::bare)
    }

    async fn ship(&self, end: RunEnd) -> Option<Conclusion> {
        let artifacts = self.ship_artifacts().await;
        if let Err(Unshipped::Superseded) = artifacts {
            return None;
        }
        match (end, artifacts) {
            (RunEnd::Failed { reason, retryable }, artifacts) => {
                let outcome = Outcome { status: Status::Failed, reason: Some(reason), retryable };
                Some(Conclusion { artifacts: artifacts.unwrap_or_default(), ..Conclusion::bare(outcome) })
            }
            (_, Err(unshipped)) => unshipped.conclusion(),
            (_, Ok(artifacts)) => match self.ship_result().await {
                Ok(result) => {
                    let outcome = Outcome { status: Status::Succeeded, reason: None, retryable: false };
                    Some(Conclusion { outcome, result, artifacts })
                }
                Err(unshipped) => unshipped.conclusion().map(|conclusion| Conclusion { artifacts, ..conclusion }),
            },
        }
    }

    async fn ship_artifacts(&self) -> Result<Vec<Artifact>, Unshipped> {
        let shipped = async {
            let found = artifact::walk(&self.workspace.artifacts, self.limits)?;
            Ok(artifact::ship(self.store, &self.workspace.artifacts, &found, self.limits.part_bytes).await?)
        };
        shipped.await.inspect_err(|unshipped| self.say(unshipped))
    }

    async fn ship_result(&self) -> Result<Option<ResultReport>, Unshipped> {
        let shipped = async {
            match result::examine(&self.workspace.result, self.limits).await? {
                Some(document) => Ok(Some(result::ship(self.store, &document, self.limits).await?)),
                None => Ok(None),
            }
        };
        shipped.await.inspect_err(|unshipped| self.say(unshipped))
    }

    fn say(&self, unshipped: &Unshipped) {
        if let Unshipped::Failed { message, .. } = unshipped {
            self.log.say("", message);
        }
    }
}

/// Why something that steps left was not shipped.
enum Unshipped {
    Superseded,
    Failed { code: &'static str, message: String, retryable: bool },
}

impl Unshipped {
    fn conclusion(self) -> Option<Conclusion> {
        match self {
            Self::Superseded => None,
            Self::Failed { code, message, retryable } => Some(Conclusion::failed(code, message, retryable)),
        }
    }
}

impl From<WalkError> for Unshipped {
    fn from(error: WalkError) -> Self {
        let code = match error {
            WalkError::Limit(_) => Reason::ARTIFACT_LIMIT,
            WalkError::Invalid { .. } | WalkError::Unreadable(_) => Reason::ARTIFACT_INVALID,
        };
        Self::Failed { code, message: error.to_string(), retryable: false }
    }
}

impl From<ResultError> for Unshipped {
    fn from(error: ResultError) -> Self {
        let code = match error {
            ResultError::Ship(error) => return error.into(),
            ResultError::TooLarge { .. } => Reason::RESULT_TOO_LARGE,
            ResultError::Invalid(_) => Reason::RESULT_INVALID,
        };
        Self::Failed { code, message: error.to_string(), retryable: false }
    }
}

impl From<ShipError> for Unshipped {
    fn from(error: ShipError) -> Self {
        match error {
            ShipError::Api(ApiError::Gone) => Self::Superseded,
            error => Self::Failed { code: Reason::UPLOAD_FAILED, message: error.to_string(), retryable: true },
        }
    }
}
