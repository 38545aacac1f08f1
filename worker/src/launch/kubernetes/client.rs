//! What is asked of the cluster's API about one Job: to create it, and to delete it. Everything else is watched.

use crate::backoff::Backoff;
use crate::clock;
use http::header::{ACCEPT, HeaderValue};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, PostParams, PropagationPolicy};
use kube::core::{PartialObjectMeta, Request, Status};
use kube::{Api, Client, Error, Resource, ResourceExt};
use roadstead_domain::attempt::placement::{job_name, labels};
use roadstead_domain::execution::Reason;
use roadstead_domain::ids::AttemptId;
use slog::{Logger, warn};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

/// A request that is not answered within this is asked again: its name makes it the same.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A deletion is tried for this long; what it leaves is found again.
const DELETION_PATIENCE: Duration = Duration::from_secs(60);
/// Waits that the API server asks for are kept, up to this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(5);

/// Of a Job that was written only its metadata is answered: what the server would encode, and this worker read, is what it was sent.
/// (Kubernetes API Concepts, "Metadata-only fetches".)
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// Why there is no Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// There will be none: it is wrong as it is.
    Refused(Reason),
    /// Nothing is wrong with it, but with the cluster: a quota is full, a right or the namespace is missing. That may pass.
    NotNow(Reason),
    /// Nobody knows whether there is one.
    Unknown(String),
}

/// Creates the Job by `until`, or finds that it is there. `may_exist`: somebody may have asked for it before. `is_seen`: whether it is or was to be seen
/// in the cluster: it may be over and gone before the request's answer is missed, and must not be made again. `adopt`: [`adopt`] of this Job.
pub async fn create<F: Future<Output = Result<(), Hindrance>>>(
    client: &Client,
    job: &Job,
    mut may_exist: bool,
    is_seen: impl Fn() -> bool,
    adopt: impl Fn(Option<Hindrance>) -> F,
    until: Instant,
) -> Result<(), Hindrance> {
    let content = serde_json::to_vec(job).map_err(|error| Hindrance::Unknown(error.to_string()))?;
    let jobs = jobs(job.metadata.namespace.as_deref().unwrap_or_default());
    let try_once = || ask(client, jobs.create(&PostParams::default(), content.clone()));
    let mut backoff = Backoff::default();
    loop {
        if clock::now() >= until {
            return Err(Hindrance::Unknown("it is too late to create its Job".to_owned()));
        }
        if is_seen() {
            return Ok(());
        }
        let wait = match tokio::time::timeout(ANSWER_TIMEOUT, try_once()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(Error::Api(status))) if status.code == 409 && status.reason == "AlreadyExists" => {
                return adopt(None).await;
            }
            Ok(Err(Error::Api(status))) => match refusal(&status) {
                // A refusal says nothing of what was asked for before.
                Some(refusal) if may_exist => return adopt(Some(refusal)).await,
                Some(refusal) => return Err(refusal),
                None => (retry_after(&status), status.message.clone()),
            },
            Ok(Err(error)) => (None, error.to_string()),
            Err(_) => (None, "the cluster's API does not answer".to_owned()),
        };
        may_exist = true;
        let (asked_for, why) = wait;
        let wait = asked_for.unwrap_or_else(|| backoff.next_wait());
        if clock::now() + wait >= until {
            return Err(Hindrance::Unknown(why));
        }
        tokio::time::sleep(wait).await;
    }
}

fn jobs(namespace: &str) -> Request {
    Request::new(Job::url_path(&(), Some(namespace)))
}

/// An answer that is no error is not looked at.
async fn ask(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<(), Error> {
    let mut request = request.map_err(Error::BuildRequest)?;
    request.headers_mut().insert(ACCEPT, METADATA_ONLY);
    client.request_text(request).await.map(drop)
}

/// Looks whether somebody created it: this worker whose reply was lost, or another whose launch was taken over. `refusal`: what holds if nobody did.
pub async fn adopt(
    client: &Client,
    namespace: &str,
    attempt: AttemptId,
    installation: Uuid,
    refusal: Option<Hindrance>,
) -> Result<(), Hindrance> {
    let api: Api<Job> = Api::namespaced(client.clone(), namespace);
    let name = job_name(attempt);
    let is_ours =
        |job: &PartialObjectMeta<Job>| job.labels().get(labels::INSTALLATION) == Some(&installation.to_string());
    match tokio::time::timeout(ANSWER_TIMEOUT, api.get_metadata_opt(&name)).await {
        Ok(Ok(Some(found))) if is_ours(&found) => Ok(()),
        Ok(Ok(Some(_))) => Err(Hindrance::Refused(Reason::new(
            Reason::CREATE_REJECTED,
            format!("the Job {name} is there and is another installation's"),
        ))),
        // Without a refusal it was there a moment ago, and its end is seen and told as any other.
        Ok(Ok(None)) => refusal.map_or(Ok(()), Err),
        // It is asked for again all the same, and this says more.
        Ok(Err(_)) | Err(_) if matches!(refusal, Some(Hindrance::NotNow(_))) => refusal.map_or(Ok(()), Err),
        Ok(Err(error)) => Err(Hindrance::Unknown(error.to_string())),
        Err(_) => Err(Hindrance::Unknown("the cluster's API does not answer".to_owned())),
    }
}

/// What the API server's word means; `None`: ask again.
fn refusal(status: &Status) -> Option<Hindrance> {
    let reason = |code: &str| Reason::new(code, status.message.clone());
    // As webhooks and ValidatingAdmissionPolicies say it.
    let is_denied = || ["denied the request", "denied request"].iter().any(|words| status.message.contains(words));
    match status.code {
        403 if status.message.contains("exceeded quota") => Some(Hindrance::NotNow(reason(Reason::QUOTA_EXCEEDED))),
        403 if is_denied() => Some(Hindrance::Refused(reason(Reason::CREATE_REJECTED))),
        401 | 403 | 404 => Some(Hindrance::NotNow(reason(Reason::CREATE_REJECTED))),
        408 | 409 | 429 => None,
        400..=499 => Some(Hindrance::Refused(reason(Reason::CREATE_REJECTED))),
        _ => None,
    }
}

fn retry_after(status: &Status) -> Option<Duration> {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    (seconds > 0).then(|| Duration::from_secs(seconds.into()).min(LONGEST_RETRY_AFTER))
}

/// How a Job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Its pods are ended first, and the Job is there until they are gone.
    PodsFirst,
    /// Its pods are over and follow.
    PodsAfter,
}

/// Deletes Jobs in the background, a few at a time.
#[derive(Clone)]
pub struct Deleter {
    client: Client,
    places: Arc<Semaphore>,
    /// Being deleted: once is enough, however often it is asked for.
    under_way: Arc<Mutex<HashSet<AttemptId>>>,
    log: Logger,
}

impl Deleter {
    pub fn new(client: Client, max_in_flight: usize, log: Logger) -> Self {
        Self { client, places: Arc::new(Semaphore::new(max_in_flight)), under_way: Arc::default(), log }
    }

    pub fn delete(&self, attempt: AttemptId, namespace: String, how: Deletion) {
        let Self { client, places, under_way, log } = self.clone();
        if !under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt) {
            return;
        }
        tokio::spawn(async move {
            let _place = places.acquire_owned().await;
            if !delete(&client, &namespace, &job_name(attempt), how).await {
                warn!(log, "a Job can't be deleted now"; "job" => job_name(attempt), "namespace" => namespace);
            }
            under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&attempt);
        });
    }
}

/// Answers whether the Job is deleted, or on its way.
async fn delete(client: &Client, namespace: &str, name: &str, how: Deletion) -> bool {
    let policy = match how {
        Deletion::PodsFirst => PropagationPolicy::Foreground,
        Deletion::PodsAfter => PropagationPolicy::Background,
    };
    let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
    let try_once = || ask(client, jobs(namespace).delete(name, &params));
    let (mut backoff, until) = (Backoff::default(), clock::now() + DELETION_PATIENCE);
    loop {
        match tokio::time::timeout(ANSWER_TIMEOUT, try_once()).await {
            Ok(Ok(())) => return true,
            Ok(Err(Error::Api(status))) if status.code == 404 => return true,
            Ok(Err(Error::Api(status)))
                if (400..500).contains(&status.code) && ![408, 409, 429].contains(&status.code) =>
            {
                return false;
            }
            Ok(Err(_)) | Err(_) => {}
        }
        let wait = backoff.next_wait();
        if clock::now() + wait >= until {
            return false;
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, message: &str) -> String {
        let status = Status { code, message: message.to_owned(), ..Status::success() };
        match refusal(&status) {
            Some(Hindrance::Refused(reason)) => format!("{}, for good", reason.code),
            Some(Hindrance::NotNow(reason)) => format!("{}, now", reason.code),
            Some(Hindrance::Unknown(_)) => "unknown".into(),
            None => "again".into(),
        }
    }

    #[test]
    fn an_api_servers_word_is_a_refusal_or_a_reason_to_ask_again() {
        for (code, message, expected) in [
            (403, "jobs.batch is forbidden: exceeded quota: jobs", "quota_exceeded, now"),
            (403, "admission webhook \"x\" denied the request: no", "create_rejected, for good"),
            (403, "ValidatingAdmissionPolicy 'x' with binding 'y' denied request: no", "create_rejected, for good"),
            (401, "Unauthorized", "create_rejected, now"),
            (403, "User \"x\" cannot create resource", "create_rejected, now"),
            (404, "namespaces \"sandbox-a\" not found", "create_rejected, now"),
            (422, "Job.batch is invalid", "create_rejected, for good"),
            (400, "bad", "create_rejected, for good"),
            (429, "too many requests", "again"),
            (409, "conflict", "again"),
            (500, "etcdserver: leader changed", "again"),
            (503, "", "again"),
        ] {
            assert_eq!(told(code, message), expected, "{code} {message}");
        }
    }
}
