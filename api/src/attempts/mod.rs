//! The executor's counterpart: start, heartbeat, finish and uploads of one attempt, after `roadstead_domain::attempt::protocol`.
//!
//! Invariants: an attempt proves itself with a secret of its own or, under Kubernetes, as its pod, never with an API key; what is not current is told `410` and changes nothing; every
//! request may come again after a lost reply. The tenant comes from the row, never from the request.

mod batches;
mod finish;
mod heartbeat;
mod identity;
mod start;
mod uploads;

pub use batches::Reports;
pub use identity::Identity;

use crate::auth::bearer;
use crate::json_body::{self, EXECUTORS_ROOM};
use crate::problem::{Kind, Problem};
use actix_web::{HttpRequest, web};
use roadstead_backend::secrets;
use roadstead_domain::attempt::check::INLINE_RESULT_BYTES;
use roadstead_domain::attempt::protocol::Limits;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use serde::de::DeserializeOwned;

/// A log segment is shipped at this size; one line may go past it.
const SEGMENT_BYTES: u32 = 1 << 20;
const MAX_LINE_BYTES: u32 = 64 << 10;
/// 10,000 parts of this make 320 GiB.
const PART_BYTES: u64 = 32 << 20;
/// The reports of a thousand steps.
const MAX_REPORT_BYTES: usize = 2 << 20;

pub fn routes(cfg: &mut web::ServiceConfig) {
    // Each a resource, which answers another method with what it allows.
    cfg.service(web::resource("/v1/attempts/{execution}/{attempt}/start").route(web::post().to(start::start)))
        .service(
            web::resource("/v1/attempts/{execution}/{attempt}/heartbeat").route(web::post().to(heartbeat::heartbeat)),
        )
        .service(web::resource("/v1/attempts/{execution}/{attempt}/finish").route(web::post().to(finish::finish)))
        .service(web::resource("/v1/attempts/{execution}/{attempt}/uploads").route(web::post().to(uploads::grant)))
        .service(
            web::resource("/v1/attempts/{execution}/{attempt}/uploads/parts").route(web::post().to(uploads::parts)),
        )
        .service(
            web::resource("/v1/attempts/{execution}/{attempt}/uploads/complete")
                .route(web::post().to(uploads::complete)),
        );
}

/// Which attempt, and the hash of the secret that it showed.
struct Caller {
    attempt: AttemptId,
    secret_hash: Vec<u8>,
}

fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    let part = |name| request.match_info().get(name).unwrap_or_default();
    let execution_id: ExecutionId = part("execution").parse().map_err(|_| Problem::not_found())?;
    let attempt = part("attempt").parse().ok().filter(|n: &i32| *n > 0).ok_or_else(Problem::not_found)?;
    Ok(Caller { attempt: AttemptId { execution_id, attempt }, secret_hash: secrets::hash(bearer(request)?) })
}

async fn document<T: DeserializeOwned>(
    request: &HttpRequest,
    body: &mut web::Payload,
    max_bytes: usize,
) -> Result<T, Problem> {
    json_body::content_type(request, &["application/json"])?;
    json_body::parse(&json_body::read_into(&EXECUTORS_ROOM, request, body, max_bytes).await?)
}

fn gone() -> Problem {
    Problem::new(Kind::Gone, "this attempt is no longer current; stop")
}

/// What an attempt may move, by this configuration.
fn limits(executions: &roadstead_backend::config::ExecutionConfig) -> Limits {
    Limits {
        max_line_bytes: MAX_LINE_BYTES,
        segment_bytes: SEGMENT_BYTES,
        max_log_bytes: executions.max_log_bytes,
        max_result_bytes: executions.max_result_bytes,
        inline_result_bytes: INLINE_RESULT_BYTES.min(u32::try_from(executions.max_result_bytes).unwrap_or(u32::MAX)),
        max_artifacts: executions.max_artifacts,
        max_artifact_bytes: executions.max_artifact_bytes,
        part_bytes: PART_BYTES,
    }
}
