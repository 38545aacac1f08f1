//! `finish`: the executor's own report of the attempt's end.

use super::heartbeat::check_segments;
use super::{Caller, INLINE_RESULT_BYTES, MAX_REPORT_BYTES, caller, gone};
use crate::json_body;
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::config::ExecutionConfig;
use roadstead_backend::store::finish::{Finished, Report};
use roadstead_backend::telemetry::metrics::{EXECUTIONS_FINISHED_TOTAL, RUN_SECONDS};
use roadstead_domain::attempt::protocol::{Artifact, Finish};
use roadstead_domain::decode::Errors;
use roadstead_domain::execution::State;
use roadstead_domain::workflow::validate::is_relative_path;

/// An artifact's entry: a path, a size and a hash.
const MAX_ARTIFACT_ENTRY_BYTES: usize = 2 << 10;
const MAX_REASON_CODE_BYTES: usize = 100;

pub async fn finish(
    app: web::Data<App>,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Caller { attempt, secret_hash } = caller(&request)?;
    let executions = &app.config.executions;
    let max_bytes = MAX_REPORT_BYTES + executions.max_artifacts as usize * MAX_ARTIFACT_ENTRY_BYTES;
    json_body::content_type(&request, &["application/json"])?;
    let finish = parse(&json_body::read(&request, &mut body, max_bytes).await?)?;
    check(&finish, executions)?;
    match app.reports.finishes.submit(Report { attempt, session_hash: secret_hash, finish }).await?? {
        Finished::Settled { state, ran, .. } => {
            metrics::histogram!(RUN_SECONDS).record(ran);
            if state.is_terminal() {
                metrics::counter!(EXECUTIONS_FINISHED_TOTAL, "outcome" => state.as_str()).increment(1);
            }
            if state == State::Scheduled {
                app.enqueuer.ring();
            }
            app.changes.touch(attempt.execution_id);
        }
        Finished::Before => {}
        Finished::NotCurrent => return Err(gone()),
    }
    Ok(HttpResponse::Ok().content_type("application/json").body("{}"))
}

/// A result is the user's, whatever JSON it is, and kept as bytes: neither its depth nor U+0000 in its strings is the API's business.
fn parse(document: &[u8]) -> Result<Finish, Problem> {
    serde_json::from_slice(document).map_err(|error| json_body::invalid(&error))
}

/// The document was parsed; this is what its types don't say.
fn check(finish: &Finish, executions: &ExecutionConfig) -> Result<(), Problem> {
    let mut errors = Errors::default();
    if let Some(result) = &finish.result {
        let max_bytes = executions.max_result_bytes;
        if result.size_bytes > max_bytes {
            errors.push("/result/size_bytes", format!("a result may have {max_bytes} bytes at most"));
        }
        if result.inline.as_ref().is_some_and(|inline| inline.get().len() > INLINE_RESULT_BYTES as usize) {
            errors.push("/result/inline", format!("may have {INLINE_RESULT_BYTES} bytes at most"));
        }
    }
    if finish.artifacts.len() > executions.max_artifacts as usize {
        errors.push("/artifacts", format!("at most {} are accepted", executions.max_artifacts));
    }
    for (place, artifact) in finish.artifacts.iter().enumerate() {
        if !is_artifact(artifact, executions.max_artifact_bytes) {
            errors.push(
                format!("/artifacts/{place}"),
                "must have a relative path, a size within the limit, and a SHA-256 in hex",
            );
        }
    }
    if finish.outcome.reason.as_ref().is_some_and(|reason| reason.code.len() > MAX_REASON_CODE_BYTES) {
        errors.push("/outcome/reason/code", format!("may have {MAX_REASON_CODE_BYTES} bytes at most"));
    }
    errors.into_result(()).map_err(Problem::fields)?;
    check_segments(&finish.segments)
}

fn is_artifact(artifact: &Artifact, max_bytes: u64) -> bool {
    is_relative_path(&artifact.path) && artifact.size_bytes <= max_bytes && is_sha256(&artifact.sha256)
}

pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_may_be_any_json() {
        for result in [r#"{"a": "\u0000"}"#.to_owned(), format!("{}{}", "[".repeat(1_000), "]".repeat(1_000))] {
            let document = format!(
                r#"{{"outcome": {{"status": "succeeded", "retryable": false}}, "steps": [], "result": {{"size_bytes": {}, "inline": {result}}}}}"#,
                result.len()
            );
            let finish = parse(document.as_bytes()).unwrap();
            assert_eq!(finish.result.unwrap().inline.unwrap().get(), result);
        }
        assert!(parse(b"{").is_err());
    }
}
