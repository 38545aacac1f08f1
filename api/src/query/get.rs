//! `GET /v1/executions/{id}`: the execution, at once or when it has ended.

use super::view::{ExecutionView, Queue, WaitingFor};
use super::{Params, execution_id, tagged};
use crate::auth::Principal;
use crate::changes::LOOK_INTERVAL;
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::store::query::{self, Execution};
use roadstead_backend::store::tenants::Tenant;
use roadstead_domain::execution::State;
use roadstead_domain::ids::ExecutionId;
use std::time::Duration;
use tokio::time::Instant;

/// Proxies give up on a silent answer soon after that.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// The execution
#[utoipa::path(
    get, path = "/v1/executions/{id}", tag = "executions", operation_id = "getExecution",
    params(
        ("id" = uuid::Uuid, Path),
        ("wait" = Option<String>, Query, description = "Hold the answer until the execution has ended, for so long at most (`30s`, `1m` or seconds; at most 60 s)", example = "30s"),
        ("If-None-Match" = Option<String>, Header, description = "An `ETag` of before"),
    ),
    responses(
        (status = 200, description = "The execution", body = ExecutionView<'static>, headers(("ETag" = String))),
        (status = 304, description = "It is as the client knows it"),
        (status = 404, response = crate::openapi::NotFound),
    ),
)]
pub async fn get(
    app: web::Data<App>,
    principal: Principal,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let mut params = Params::of(request.query_string());
    let wait = params.duration("wait", MAX_WAIT);
    let wait = params.finish(wait)?;
    let id = execution_id(&id)?;
    let execution = match wait {
        Some(wait) => until_end(&app, &principal.tenant.name, id, wait).await?,
        None => load(&app, &principal.tenant.name, id).await?,
    };
    let queue = queue(&app, &principal.tenant, &execution).await?;
    tagged(&request, &ExecutionView::of(&execution, queue))
}

/// The execution, if it is the tenant's.
pub async fn load(app: &App, tenant: &str, id: ExecutionId) -> Result<Execution, Problem> {
    app.database.run(async |connection| query::get(connection, tenant, id).await).await?.ok_or_else(Problem::not_found)
}

/// The execution once it has ended, or as it is when the wait is over or the server stops.
async fn until_end(app: &App, tenant: &str, id: ExecutionId, wait: Duration) -> Result<Execution, Problem> {
    let _permit = app.streams.enter(tenant)?;
    let deadline = Instant::now() + wait;
    let mut watch = app.changes.watch(id);
    loop {
        let execution = load(app, tenant, id).await?;
        let left = deadline.saturating_duration_since(Instant::now());
        if execution.state.is_terminal() || left.is_zero() {
            return Ok(execution);
        }
        tokio::select! {
            () = watch.changed(left.min(LOOK_INTERVAL)) => {}
            () = app.stopping.cancelled() => return Ok(execution),
        }
    }
}

async fn queue(app: &App, tenant: &Tenant, execution: &Execution) -> Result<Option<Queue>, Problem> {
    if execution.state != State::Queued {
        return Ok(Queue::uncounted(execution, WaitingFor::Dispatch));
    }
    let waiting_for = app.load.waiting_for(app, tenant).await?;
    let ahead = app.database.run(async |connection| query::ahead(connection, execution).await).await?;
    Ok(Some(Queue { ahead: Some(ahead), waiting_for }))
}
