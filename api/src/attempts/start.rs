//! `start`: the one grant of an attempt, with everything that its executor needs to know.
//!
//! Invariant: nothing that can fail stands between the grant's commit and its answer but what failing again would repeat: an executor whose answer is
//! lost asks again with the same session and is granted the same.

use super::{Caller, caller, document, gone, limits};
use crate::auth::bearer;
use crate::problem::{Kind, Problem};
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::objects::{ObjectsError, layout};
use roadstead_backend::secrets;
use roadstead_backend::store::start::{Granted, Start, StartClaim};
use roadstead_backend::telemetry::metrics::SUBMIT_TO_START_SECONDS;
use roadstead_domain::attempt::protocol::{Limits, StartRequest};
use roadstead_domain::ids::AttemptId;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// Three of them fit well into the shortest lease.
const HEARTBEAT_SECONDS: u32 = 2;
const TOKEN_DIGITS: usize = 64;
const MAX_BODY_BYTES: usize = 4 << 10;

/// `StartGrant`, with the definition and the input as the bytes that are stored.
#[derive(Serialize)]
struct Grant<'a> {
    workflow: &'a RawValue,
    input: Input<'a>,
    timeout_seconds: u32,
    lease_seconds: u32,
    heartbeat_seconds: u32,
    grace_seconds: u32,
    outcome_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
    limits: Limits,
}

/// `protocol::Input`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Input<'a> {
    Inline(&'a RawValue),
    Url { url: String, size_bytes: u64 },
}

pub async fn start(app: web::Data<App>, request: HttpRequest, mut body: web::Payload) -> Result<HttpResponse, Problem> {
    let Caller { attempt, secret_hash } = caller(&request)?;
    let StartRequest { session_token } = document(&request, &mut body, MAX_BODY_BYTES).await?;
    if session_token.len() != TOKEN_DIGITS || !session_token.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Problem::field("/session_token", format!("must be {TOKEN_DIGITS} hex digits")));
    }
    let launch_hash = match &app.identity {
        None => Some(secret_hash),
        Some(identity) => {
            identity.prove(attempt, bearer(&request)?, &app.database, &app.log).await?;
            None
        }
    };
    let claim = StartClaim { attempt, launch_hash, session_hash: secrets::hash(&session_token) };
    match app.reports.starts.submit(claim).await?? {
        Start::Granted(granted) => {
            if let Some(waited) = granted.waited {
                metrics::histogram!(SUBMIT_TO_START_SECONDS).record(waited);
            }
            app.changes.touch(attempt.execution_id);
            answer(&app, attempt, &granted).await
        }
        Start::NotCurrent => Err(gone()),
        Start::Again => {
            Err(Problem::new(Kind::Unavailable, "the same start is being granted; ask again").retry_after(1))
        }
    }
}

async fn answer(app: &App, attempt: AttemptId, granted: &Granted) -> Result<HttpResponse, Problem> {
    let definition = definition(app, granted).await?;
    let executions = &app.config.executions;
    let timeout_seconds = granted.timeout_seconds.unsigned_abs();
    let lease_seconds = granted.lease_seconds.unsigned_abs();
    // Long enough for the last retry of an attempt that uses all of its time.
    let until_the_end =
        Duration::from_secs(u64::from(timeout_seconds) + u64::from(lease_seconds)) + executions.kill_grace;
    let outcome = layout::outcome(&granted.tenant, attempt);
    let grant = Grant {
        workflow: &definition,
        input: match &granted.input {
            Some(inline) => Input::Inline(stored_json(inline)?),
            None if granted.input_bytes == 0 => Input::Inline(RawValue::NULL),
            None => Input::Url {
                url: app
                    .objects
                    .presign_get(&layout::payload(&granted.tenant, attempt.execution_id), None)
                    .await
                    .map_err(unsigned)?,
                size_bytes: granted.input_bytes.unsigned_abs(),
            },
        },
        timeout_seconds,
        lease_seconds,
        heartbeat_seconds: HEARTBEAT_SECONDS,
        grace_seconds: executions.kill_grace.as_secs() as u32,
        outcome_url: app.objects.presign_put_unsized(&outcome, until_the_end).await.map_err(unsigned)?,
        traceparent: granted.traceparent.as_deref(),
        limits: limits(executions),
    };
    Ok(HttpResponse::Ok().json(grant))
}

async fn definition(app: &App, granted: &Granted) -> Result<Box<RawValue>, Problem> {
    if let Some(spec) = &granted.spec {
        return stored_json(spec).map(ToOwned::to_owned);
    }
    let missing = || Problem::internal("an execution has neither a definition nor a workflow");
    let (name, version) = granted.workflow.as_ref().ok_or_else(missing)?;
    let found = app.workflows.version(&app.database, &granted.tenant, name, *version).await?;
    Ok(found.ok_or_else(missing)?.definition.clone())
}

/// What was checked before it was stored.
fn stored_json(text: &str) -> Result<&RawValue, Problem> {
    serde_json::from_str(text).map_err(Problem::internal)
}

fn unsigned(error: ObjectsError) -> Problem {
    Problem::unavailable("a URL could not be signed; ask again", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::attempt::protocol::{self, StartGrant};

    fn granted(input: Input<'_>) -> StartGrant {
        let definition: Box<RawValue> =
            RawValue::from_string(r#"{"steps":[{"id":"a","command":["true"]}]}"#.into()).unwrap();
        let grant = Grant {
            workflow: &definition,
            input,
            timeout_seconds: 60,
            lease_seconds: 90,
            heartbeat_seconds: 2,
            grace_seconds: 10,
            outcome_url: "http://s3/x".into(),
            traceparent: Some("00-1-2-01"),
            limits: Limits {
                max_line_bytes: 1,
                segment_bytes: 2,
                max_log_bytes: 3,
                max_result_bytes: 4,
                inline_result_bytes: 5,
                max_artifacts: 6,
                max_artifact_bytes: 7,
                part_bytes: 8,
            },
        };
        serde_json::from_str(&serde_json::to_string(&grant).unwrap()).unwrap()
    }

    #[test]
    fn a_grant_is_the_protocols() {
        let inline = granted(Input::Inline(RawValue::NULL));
        assert_eq!((inline.workflow.steps[0].id.as_str(), inline.traceparent.as_deref()), ("a", Some("00-1-2-01")));
        assert!(matches!(inline.input, protocol::Input::Inline(raw) if raw.get() == "null"));
        let url = granted(Input::Url { url: "http://s3/p".into(), size_bytes: 9 });
        assert!(matches!(url.input, protocol::Input::Url { size_bytes: 9, .. }));
    }
}
