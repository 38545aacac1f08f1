//! `finish`: the executor's own report of the attempt's end.

use super::{Caller, MAX_REPORT_BYTES, caller, gone};
use crate::json_body::{self, FINISHES_ROOM};
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::store::finish::{Finished, Report};
use roadstead_backend::telemetry::metrics::{EXECUTIONS_FINISHED_TOTAL, RUN_SECONDS};
use roadstead_domain::attempt::check::{self, Bounds};
use roadstead_domain::attempt::protocol::Finish;
use roadstead_domain::execution::State;

/// An artifact's entry: a path, a size and a hash.
const MAX_ARTIFACT_ENTRY_BYTES: usize = 2 << 10;

pub async fn finish(
    app: web::Data<App>,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Caller { attempt, secret_hash } = caller(&request)?;
    let executions = &app.config.executions;
    let max_bytes = MAX_REPORT_BYTES + executions.max_artifacts as usize * MAX_ARTIFACT_ENTRY_BYTES;
    json_body::content_type(&request, &["application/json"])?;
    let mut finish = parse(&json_body::read_into(&FINISHES_ROOM, &request, &mut body, max_bytes).await?)?;
    let bounds = Bounds {
        max_result_bytes: executions.max_result_bytes,
        max_artifacts: executions.max_artifacts,
        max_artifact_bytes: executions.max_artifact_bytes,
    };
    check::finish(&mut finish, &bounds).map_err(Problem::fields)?;
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
