//! `heartbeat`: what is new, and what the executor should know.

use super::{Caller, MAX_REPORT_BYTES, caller, document, gone};
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::store::heartbeat::Beat;
use roadstead_domain::attempt::protocol::{Heartbeat, Segment};

/// The most that one report may tell of.
const MAX_SEGMENTS: usize = 10_000;

pub async fn heartbeat(
    app: web::Data<App>,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Caller { attempt, secret_hash } = caller(&request)?;
    let Heartbeat { steps, segments } = document(&request, &mut body, MAX_REPORT_BYTES).await?;
    check_segments(&segments)?;
    let is_news = !steps.is_empty() || !segments.is_empty();
    let steps = if steps.is_empty() { None } else { Some(serde_json::to_string(&steps).map_err(Problem::internal)?) };
    let beat = Beat { attempt, session_hash: secret_hash, steps, segments };
    let reply = app.reports.beats.submit(beat).await??.ok_or_else(gone)?;
    if is_news {
        app.changes.touch(attempt.execution_id);
    }
    Ok(HttpResponse::Ok().json(reply))
}

pub fn check_segments(segments: &[Segment]) -> Result<(), Problem> {
    if segments.len() > MAX_SEGMENTS {
        return Err(Problem::field("/segments", format!("at most {MAX_SEGMENTS} are accepted at a time")));
    }
    let fits = |segment: &Segment| {
        i32::try_from(segment.seq).is_ok()
            && i32::try_from(segment.lines).is_ok()
            && i64::try_from(segment.size_bytes).is_ok()
    };
    match segments.iter().position(|segment| !fits(segment)) {
        Some(place) => Err(Problem::field(format!("/segments/{place}"), "holds a number that is too large")),
        None => Ok(()),
    }
}
