//! `GET /v1/executions/{id}/result`: the result document, byte for byte as the last step wrote it.
//!
//! Only of an execution that has ended, and only the current attempt's.

use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::query::{Params, execution_id, load, reads};
use crate::state::App;
use actix_web::body::SizedStream;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::objects::{Store, layout};
use roadstead_domain::execution::State;
use roadstead_domain::ids::AttemptId;

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/executions/{id}/result").route(reads().to(result)));
}

/// The result document
#[utoipa::path(
    get, path = "/v1/executions/{id}/result", tag = "executions", operation_id = "getResult",
    description = "Of an execution that has ended; before, and where none was left, the problem is `no-result`.",
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 200, description = "The document", body = serde_json::Value),
        (status = 404, response = crate::openapi::NotFound),
    ),
)]
pub async fn result(
    app: web::Data<App>,
    principal: Principal,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    let id = execution_id(&id)?;
    let execution = load(&app, &principal.tenant.name, id).await?;
    if !execution.state.is_terminal() {
        return Err(none(format!("the execution is {}: it has no result yet", execution.state)));
    }
    let mut response = HttpResponse::Ok();
    response.content_type("application/json").insert_header(("X-Content-Type-Options", "nosniff"));
    let Some(size_bytes) = execution.result_bytes else {
        let ended = match execution.state {
            State::Cancelled => "was cancelled",
            State::TimedOut => "timed out",
            state => state.as_str(),
        };
        return Err(none(format!("the execution {ended} and left no result")));
    };
    // The row's copy went through JSON, which drops white space around a document: then the object alone has all bytes.
    if let Some(document) = execution.result.filter(|document| document.len() as u64 == size_bytes.unsigned_abs()) {
        return Ok(response.body(document));
    }
    let key = layout::result(&principal.tenant.name, AttemptId { execution_id: id, attempt: execution.attempt });
    let content = app.objects.get_stream(Store::Content, &key).await?;
    let content = content.ok_or_else(|| none("the result is no longer stored".to_owned()))?;
    // A stream that gives another number of bytes breaks the answer off: it is never taken for whole.
    Ok(response.body(SizedStream::new(size_bytes.unsigned_abs(), content)))
}

fn none(detail: String) -> Problem {
    Problem::new(Kind::NoResult, detail)
}
