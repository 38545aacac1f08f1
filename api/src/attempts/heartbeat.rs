//! `heartbeat`: what is new, and what the executor should know.

use super::{Caller, MAX_REPORT_BYTES, caller, document, gone};
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::store::heartbeat::Beat;
use roadstead_domain::attempt::check;
use roadstead_domain::attempt::protocol::Heartbeat;
use roadstead_domain::decode::Errors;

pub async fn heartbeat(
    app: web::Data<App>,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let Caller { attempt, secret_hash } = caller(&request)?;
    let Heartbeat { mut steps, segments } = document(&request, &mut body, MAX_REPORT_BYTES).await?;
    let mut errors = Errors::default();
    check::steps(&mut steps, &mut errors);
    check::segments(&segments, &mut errors);
    errors.into_result(()).map_err(Problem::fields)?;
    let is_news = !steps.is_empty() || !segments.is_empty();
    let steps = if steps.is_empty() { None } else { Some(serde_json::to_string(&steps).map_err(Problem::internal)?) };
    let beat = Beat { attempt, session_hash: secret_hash, steps, segments };
    let reply = app.reports.beats.submit(beat).await??.ok_or_else(gone)?;
    if is_news {
        app.changes.touch(attempt.execution_id);
    }
    Ok(HttpResponse::Ok().json(reply))
}
