//! `POST /v1/executions/{id}/cancel`: at once while nothing is live, otherwise a wish that the executor hears of at its next heartbeat.

use crate::auth::Principal;
use crate::json_body;
use crate::problem::{Kind, Problem};
use crate::query::view::{ExecutionView, Queue, WaitingFor};
use crate::query::{Params, execution_id};
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::store::cancel::{self, Cancel};
use roadstead_backend::store::query::Execution;
use roadstead_backend::telemetry::metrics::EXECUTIONS_FINISHED_TOTAL;

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/executions/{id}/cancel").route(web::post().to(cancel)));
}

/// Cancel it
#[utoipa::path(
    post, path = "/v1/executions/{id}/cancel", tag = "executions", operation_id = "cancelExecution",
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 202, description = "It is cancelled, or will be; asking again gives the same answer", body = ExecutionView<'static>),
        (status = 400, response = crate::openapi::BadRequest),
        (status = 404, response = crate::openapi::NotFound),
        (status = 409, response = crate::openapi::Conflict),
    ),
)]
pub async fn cancel(
    app: web::Data<App>,
    principal: Principal,
    id: web::Path<String>,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    json_body::nothing(&request, &mut body).await?;
    let id = execution_id(&id)?;
    match app.database.run(async |connection| cancel::cancel(connection, &principal.tenant.name, id).await).await? {
        Cancel::Done(execution) => {
            metrics::counter!(EXECUTIONS_FINISHED_TOTAL, "outcome" => execution.state.as_str()).increment(1);
            Ok(accepted(&app, &execution))
        }
        Cancel::Noted(execution) => Ok(accepted(&app, &execution)),
        Cancel::Ended(execution) => {
            Err(Problem::new(Kind::Conflict, format!("the execution is {} already", execution.state)))
        }
        Cancel::NotFound => Err(Problem::not_found()),
    }
}

fn accepted(app: &App, execution: &Execution) -> HttpResponse {
    app.changes.touch(execution.id);
    let queue = Queue::uncounted(execution, WaitingFor::Dispatch);
    HttpResponse::Accepted().json(ExecutionView::of(execution, queue))
}
