//! `POST /v1/executions/{id}/retry`: a new execution of the same definition with the same input.
//!
//! The definition is asked what a submission's is: what could run once may not now, after another configuration. A large input is copied first: each
//! execution owns its objects, and retention deletes them with it.

use crate::auth::Principal;
use crate::clock;
use crate::json_body;
use crate::problem::{Kind, Problem};
use crate::query::{Params, execution_id, load};
use crate::state::App;
use crate::submit::{self, Definition, Own, Runnable};
use actix_web::{HttpRequest, HttpResponse, rt, web};
use roadstead_backend::objects::{Store, layout};
use roadstead_backend::store::query::{self, Execution};
use roadstead_backend::store::submit::{IdempotencyKey, NewExecution};
use roadstead_backend::store::tenants::Tenant;
use roadstead_domain::ids::ExecutionId;
use sha2::{Digest, Sha256};
use slog::warn;
use std::sync::Arc;

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/executions/{id}/retry").route(web::post().to(retry)));
}

/// Run it anew
#[utoipa::path(
    post, path = "/v1/executions/{id}/retry", tag = "executions", operation_id = "retryExecution",
    description = "A new execution with the same definition, input, priority, labels, run timeout and retries; it begins to wait now, without a queue timeout. A definition that would be refused if it were submitted now is refused here too, with the same errors.",
    params(("id" = uuid::Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses(
        (status = 202, description = "The new execution", body = crate::query::view::ExecutionView<'static>, headers(("Location" = String))),
        (status = 400, response = crate::openapi::BadRequest),
        (status = 404, response = crate::openapi::NotFound),
        (status = 409, response = crate::openapi::Conflict),
        (status = 422, response = crate::openapi::KeyReused),
        (status = 429, response = crate::openapi::QuotaExceeded),
    ),
)]
pub async fn retry(
    app: web::Data<App>,
    principal: Principal,
    id: web::Path<String>,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    json_body::nothing(&request, &mut body).await?;
    let id = execution_id(&id)?;
    let idempotency = submit::idempotency_key(&request)?
        .map(|key| IdempotencyKey { key, fingerprint: Sha256::digest(format!("retry {id}")).to_vec() });
    let tenant = principal.tenant;
    let old = load(&app, &tenant.name, id).await?;
    if !old.state.is_terminal() {
        return Err(Problem::new(
            Kind::Conflict,
            format!("the execution is {}; only one that has ended can be retried", old.state),
        ));
    }
    // A task of its own: a client that goes away in the middle must not leave a copied input behind.
    let traceparent = submit::traceparent(&request);
    let submission = rt::spawn(async move { resubmit(&app, &tenant, &old, idempotency, traceparent).await });
    let new = submission.await.map_err(Problem::internal)??;
    Ok(submit::accepted(&new))
}

async fn resubmit(
    app: &App,
    tenant: &Tenant,
    old: &Execution,
    idempotency: Option<IdempotencyKey>,
    traceparent: Option<String>,
) -> Result<Execution, Problem> {
    let stored = app.database.run(async |connection| query::definition(connection, &tenant.name, old.id).await).await?;
    let query::Definition { spec, input } = stored.ok_or_else(Problem::not_found)?;
    let definition = definition(old, spec.as_deref())?;
    let runnable = submit::runnable(app, &tenant.name, &definition).await?.map_err(Problem::from)?;
    let new = NewExecution { traceparent, ..again(old, runnable, input) };
    let id = new.id;
    let copied = new.input.is_none() && new.input_bytes > 0;
    if copied {
        copy_payload(app, &tenant.name, old.id, id).await?;
    }
    let answer = submit::service::accept(app, tenant, idempotency, vec![new]).await.and_then(|mut accepted| {
        accepted.pop().ok_or_else(|| Problem::internal("a submission of one execution was answered with none"))
    });
    // Not recorded, or an earlier request's: then nobody owns the copy. Only a commit of unknown outcome keeps it.
    let unused = match &answer {
        Ok(accepted) => accepted.id != id,
        Err(problem) => !problem.kind().status().is_server_error(),
    };
    if copied && unused {
        delete_payload(app, &tenant.name, id).await;
    }
    answer
}

/// What it was submitted with; of a workflow, the version that was the newest then.
fn definition(old: &Execution, spec: Option<&str>) -> Result<Definition, Problem> {
    match (spec, &old.workflow) {
        (Some(spec), _) => {
            let workflow = serde_json::from_str(spec).map_err(Problem::internal)?;
            Ok(Definition::Own(Arc::new(Own { workflow, text: spec.into() })))
        }
        (None, Some((name, version))) => Ok(Definition::Named { name: name.clone(), version: Some(*version) }),
        (None, None) => Err(Problem::internal("an execution has neither a definition nor a workflow")),
    }
}

fn again(old: &Execution, Runnable { workflow, spec, .. }: Runnable, input: Option<String>) -> NewExecution {
    NewExecution {
        id: ExecutionId::new(),
        priority: old.priority,
        workflow,
        spec,
        input,
        input_bytes: old.input_bytes,
        timeout_seconds: old.timeout_seconds,
        max_attempts: old.max_attempts,
        labels: old.labels.clone(),
        traceparent: None,
        retry_of: Some(old.id),
        created_at: clock::now(),
        run_at: None,
        queue_deadline: None,
        enqueued: true,
    }
}

async fn copy_payload(app: &App, tenant: &str, from: ExecutionId, to: ExecutionId) -> Result<(), Problem> {
    let from = layout::payload(tenant, from);
    let gone = || Problem::new(Kind::Conflict, "the execution's input is no longer stored");
    let content = app.objects.get_stream(Store::Content, &from).await?.ok_or_else(gone)?;
    let copied =
        app.objects.put_stream(Store::Content, &layout::payload(tenant, to), "application/json", content).await;
    copied.map(drop).map_err(Problem::from)
}

async fn delete_payload(app: &App, tenant: &str, id: ExecutionId) {
    if let Err(error) = app.objects.delete(Store::Content, &layout::payload(tenant, id)).await {
        warn!(app.log, "an unused copy of an input could not be deleted"; "execution" => %id, "error" => %error);
    }
}
