//! Who asks to start an attempt under Kubernetes: the attempt's own pod, by the token that the cluster gave it.
//!
//! The token is checked without asking the cluster about it: its signature against the cluster's published keys, and each claim against what this
//! attempt's pod must be. Invariants: nothing of a token is believed before its signature was; whoever is refused learns nothing but that, and the log
//! why; a token that can't be judged now is answered `503`, never `401`, because to an executor a refusal is final.

mod cluster;
mod key;
mod keyring;
mod token;

#[cfg(test)]
mod tests;

use crate::clock;
use crate::problem::{Kind, Problem};
use cluster::Cluster;
use keyring::{Keyring, KeysUnavailable, Publisher};
use roadstead_backend::config::KubernetesConfig;
use roadstead_backend::store::start::tenant_of;
use roadstead_backend::store::{Database, StoreError};
use roadstead_domain::attempt::placement::{is_per_tenant, namespace};
use roadstead_domain::ids::AttemptId;
use slog::{Logger, warn};
use std::sync::Arc;
use token::{Claims, Token, Unproven};

/// What proves attempts' pods. One per process, present under `LAUNCHER=kubernetes`.
#[derive(Debug)]
pub struct Identity {
    keyring: Keyring,
    namespace_template: String,
    service_account: String,
}

/// Why nothing was proven.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Unproven(#[from] Unproven),
    #[error(transparent)]
    Keys(#[from] KeysUnavailable),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Identity {
    /// Within the runtime that is to ask the cluster for its keys, which it does at once, so that a cluster that doesn't tell them is heard of before
    /// the first attempt is.
    pub fn start(config: &KubernetesConfig, log: &Logger) -> Self {
        let identity = Self::new(config, Arc::new(Cluster));
        let (first, log) = (identity.keyring.clone(), log.clone());
        tokio::spawn(async move {
            if let Err(error) = first.warm().await {
                warn!(log, "attempts can't be started yet"; "error" => %error);
            }
        });
        identity
    }

    pub fn new(config: &KubernetesConfig, publisher: Arc<dyn Publisher>) -> Self {
        Self {
            keyring: Keyring::new(publisher),
            namespace_template: config.namespace_template.clone(),
            service_account: config.service_account.clone(),
        }
    }

    /// Whether it is this attempt's pod that shows the token.
    pub async fn prove(
        &self,
        attempt: AttemptId,
        token: &str,
        database: &Database,
        log: &Logger,
    ) -> Result<(), Problem> {
        self.judge(attempt, token, database).await.map_err(|refusal| match refusal {
            Refusal::Unproven(why) => {
                if why.is_worth_a_line() {
                    warn!(log, "a pod's token does not prove its attempt"; "attempt" => %attempt, "why" => %why);
                }
                Problem::new(Kind::Unauthenticated, "the token does not prove this attempt")
            }
            Refusal::Keys(error) => {
                let seconds = error.retry_after.as_secs_f64().ceil() as u32;
                Problem::unavailable("the token can't be checked now; ask again", error).retry_after(seconds.max(1))
            }
            Refusal::Store(error) => error.into(),
        })
    }

    async fn judge(&self, attempt: AttemptId, text: &str, database: &Database) -> Result<(), Refusal> {
        let claims = self.claims(&Token::read(text)?).await?;
        claims.check(clock::now().timestamp())?;
        claims.check_pod(attempt)?;
        let tenant = if is_per_tenant(&self.namespace_template) {
            database
                .run(async |connection| tenant_of(connection, attempt).await)
                .await?
                .ok_or(Unproven::UnknownAttempt)?
        } else {
            String::new()
        };
        claims.check_account(&namespace(&self.namespace_template, &tenant), &self.service_account)?;
        Ok(())
    }

    /// What the cluster signed, as the issuer that it is.
    async fn claims(&self, token: &Token<'_>) -> Result<Claims, Refusal> {
        let found = self.keyring.find(token.key_id()).await?.ok_or(Unproven::UnknownKey)?;
        let claims = token.verified(&found.key)?;
        if claims.issuer() == &*found.issuer {
            return Ok(claims);
        }
        // The key is the cluster's. Its issuer may be another one by now: a control plane that was restored or configured anew keeps its keys.
        let found = self.keyring.find_of(claims.issuer(), token.key_id()).await?.ok_or(Unproven::Issuer)?;
        Ok(token.verified(&found.key)?)
    }
}
