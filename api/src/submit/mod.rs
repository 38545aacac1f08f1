//! `POST /v1/executions` and `POST /v1/executions/batch`: from a body to committed rows.
//!
//! Invariant: a 2xx is sent after the commit, and nothing is stored for a request that was refused. Never waits for Redis.

mod answer;
mod decode;
pub mod definition;
mod grammar;
pub mod idempotency;
mod members;
mod payload;
pub mod placeable;
mod record;
mod resolve;
pub mod service;
mod split;
mod stream;

pub use decode::{Definition, version_number};
pub use definition::Own;
pub use idempotency::idempotency_key;
pub use resolve::{Runnable, runnable};

use crate::auth::Principal;
use crate::clock;
use crate::json_body;
use crate::problem::{Kind, Problem};
use crate::query::Params;
use crate::query::view::{self, ExecutionView};
use crate::state::App;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use decode::Wanted;
use definition::Definitions;
use members::Members;
use payload::Payload;
use resolve::{InputRow, Objection};
use roadstead_backend::store::query::Execution;
use roadstead_backend::store::submit::{IdempotencyKey, NewExecution};
use roadstead_domain::decode::Errors;
use roadstead_domain::ids::ExecutionId;

/// A body up to this is read whole; a longer one is streamed.
const MAX_BUFFERED_BYTES: usize = 128 << 10;
/// An input up to this lies in its row; a longer one is an object.
const MAX_INLINE_BYTES: usize = 64 << 10;
/// A submission without its input: a definition, and room for the rest.
const MAX_OTHERS_BYTES: usize = (1 << 20) + (256 << 10);
const MAX_BATCH_BYTES: usize = 16 << 20;
const MAX_BATCH: usize = 1_000;

const JSON: &[&str] = &["application/json"];

/// Submit an execution
#[utoipa::path(
    post, path = "/v1/executions", tag = "executions", operation_id = "submitExecution",
    description = "Durable when answered: the answer is sent after the commit. With an Idempotency-Key, the same body gets the same answer again.",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body = crate::openapi::Submission,
    responses(
        (status = 202, description = "The execution", body = ExecutionView<'static>, headers(("Location" = String))),
        (status = 400, response = crate::openapi::BadRequest),
        (status = 409, response = crate::openapi::Conflict),
        (status = 413, response = crate::openapi::TooLarge),
        (status = 415, response = crate::openapi::UnsupportedMediaType),
        (status = 422, response = crate::openapi::KeyReused),
        (status = 429, response = crate::openapi::QuotaExceeded),
    ),
)]
pub async fn one(
    app: web::Data<App>,
    principal: Principal,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    json_body::content_type(&request, JSON)?;
    let key = idempotency_key(&request)?;
    let whole = match stream::begin(&request, &mut body, app.config.executions.max_input_bytes).await? {
        stream::Begun::Whole(whole) => whole,
        stream::Begun::Long(head) => {
            let execution = stream::submit(&app, &principal, &request, key, head, body).await?;
            return Ok(accepted(&execution));
        }
    };
    let text = json_body::text(&whole)?;
    let mut errors = Errors::default();
    let members = Members::of(text, "", &mut errors).map_err(|error| json_body::invalid(&error))?;
    let input = members.input;
    let max_input_bytes = app.config.executions.max_input_bytes;
    if input.is_some_and(|input| input.len() as u64 > max_input_bytes) {
        return Err(input_too_large("", max_input_bytes));
    }
    let wanted = decode::decode(members, "", &mut Definitions::new(&app.definitions), &mut errors);
    let wanted = errors.into_result(wanted).map_err(Problem::fields)?.ok_or_else(undecided)?;
    let id = ExecutionId::new();
    let idempotency = key.map(|key| IdempotencyKey { key, fingerprint: idempotency::fingerprint(&whole) });
    let (row, payload) = match input {
        Some(input) if input.len() > MAX_INLINE_BYTES => {
            let content = whole.slice_ref(input.as_bytes());
            (InputRow { inline: None, size_bytes: input.len() as i64 }, Some(content))
        }
        Some(input) => (InputRow { inline: Some(input.to_owned()), size_bytes: input.len() as i64 }, None),
        None => (InputRow::default(), None),
    };
    let mut execution = made(&app, &principal, id, wanted, row).await?;
    execution.traceparent = traceparent(&request);
    let payload = match payload {
        Some(content) => Some(Payload::put(&app.objects, principal.tenant_name(), id, content).await?),
        None => None,
    };
    let execution = record(&app, &principal, idempotency, execution, payload).await?;
    Ok(accepted(&execution))
}

/// Submit up to a thousand executions, all or none
#[utoipa::path(
    post, path = "/v1/executions/batch", tag = "executions", operation_id = "submitExecutions",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters")),
    request_body = crate::openapi::BatchSubmission,
    responses(
        (status = 202, description = "The executions, in the order of their submissions", body = answer::Batch<'static>),
        (status = 400, response = crate::openapi::BadRequest),
        (status = 413, response = crate::openapi::TooLarge),
        (status = 415, response = crate::openapi::UnsupportedMediaType),
        (status = 422, response = crate::openapi::KeyReused),
        (status = 429, response = crate::openapi::QuotaExceeded),
    ),
)]
pub async fn batch(
    app: web::Data<App>,
    principal: Principal,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    json_body::content_type(&request, JSON)?;
    let key = idempotency_key(&request)?;
    let whole = json_body::read(&request, &mut body, MAX_BATCH_BYTES).await?;
    let idempotency = key.map(|key| IdempotencyKey { key, fingerprint: idempotency::fingerprint(&whole) });
    let traceparent = traceparent(&request);
    let mut executions = decode_batch(&app, &principal, json_body::text(&whole)?).await?;
    for execution in &mut executions {
        execution.traceparent.clone_from(&traceparent);
    }
    drop(whole);
    let executions = service::accept(&app, &principal.tenant, idempotency, executions).await?;
    let answer = answer::batch(&executions).map_err(Problem::internal)?;
    Ok(HttpResponse::Accepted().content_type("application/json").body(answer))
}

async fn decode_batch(app: &App, principal: &Principal, text: &str) -> Result<Vec<NewExecution>, Problem> {
    let items = split::batch(text)?;
    if !(1..=MAX_BATCH).contains(&items.len()) {
        return Err(Problem::field("/executions", format!("has {} items; 1 to {MAX_BATCH} are accepted", items.len())));
    }
    // Of a batch in which nothing else is wrong it is said that workflows are unknown, as it is of a single submission.
    let (mut errors, mut unknown) = (Errors::default(), Errors::default());
    let mut definitions = Definitions::new(&app.definitions);
    let mut executions = Vec::with_capacity(items.len());
    let now = clock::now();
    for (index, item) in items.iter().enumerate() {
        let at = format!("/executions/{index}");
        let members = match Members::of(item.get(), &at, &mut errors) {
            Ok(members) => members,
            Err(error) if error.is_data() => {
                errors.push(at, "must be an object");
                continue;
            }
            Err(error) => return Err(json_body::invalid(&error)),
        };
        let input = members.input;
        let max_input_bytes = app.config.executions.max_input_bytes;
        if input.is_some_and(|input| input.len() as u64 > max_input_bytes) {
            return Err(input_too_large(&at, max_input_bytes));
        }
        if input.is_some_and(|input| input.len() > MAX_INLINE_BYTES) {
            let detail = format!(
                "{at}/input: in a batch an input may have {MAX_INLINE_BYTES} bytes at most; submit this execution by itself"
            );
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        let Some(wanted) = decode::decode(members, &at, &mut definitions, &mut errors) else { continue };
        let row = InputRow { inline: input.map(ToOwned::to_owned), size_bytes: input.map_or(0, str::len) as i64 };
        match resolve::resolve(app, principal.tenant_name(), ExecutionId::new(), wanted, row, now).await? {
            Ok(execution) => executions.push(execution),
            Err(Objection { kind: Kind::UnknownWorkflow, errors }) => unknown.extend(&at, &errors),
            Err(Objection { errors: more, .. }) => errors.extend(&at, &more),
        }
    }
    match (errors.into_result(()), unknown.into_result(executions)) {
        (Ok(()), Ok(executions)) => Ok(executions),
        (Ok(()), Err(errors)) => Err(Objection { kind: Kind::UnknownWorkflow, errors }.into()),
        (Err(errors), Ok(_)) => Err(Problem::fields(errors)),
        (Err(errors), Err(unknown)) => Err(Problem::fields([errors, unknown].concat())),
    }
}

async fn made(
    app: &App,
    principal: &Principal,
    id: ExecutionId,
    wanted: Wanted,
    input: InputRow,
) -> Result<NewExecution, Problem> {
    resolve::resolve(app, principal.tenant_name(), id, wanted, input, clock::now()).await?.map_err(Problem::from)
}

fn input_too_large(at: &str, max_bytes: u64) -> Problem {
    Problem::new(Kind::TooLarge, format!("{at}/input: an input may have {max_bytes} bytes at most"))
}

/// Records one execution and, if it is not the one that was recorded, deletes its payload.
async fn record(
    app: &App,
    principal: &Principal,
    idempotency: Option<IdempotencyKey>,
    execution: NewExecution,
    payload: Option<Payload>,
) -> Result<Execution, Problem> {
    let id = execution.id;
    // From here on a commit may happen whatever becomes of this request.
    let payload = payload.map(Payload::keep);
    let answer = service::accept(app, &principal.tenant, idempotency, vec![execution]).await;
    let unused = match &answer {
        Ok(executions) => executions.iter().all(|execution| execution.id != id),
        // Unavailable: whether it was committed is not known, and an object too many is better than one too few.
        Err(problem) => !matches!(problem.kind(), Kind::Unavailable | Kind::Overloaded | Kind::Internal),
    };
    if let Some(payload) = payload.filter(|_| unused) {
        payload.delete();
    }
    answer?.pop().ok_or_else(|| Problem::internal("the executions of this Idempotency-Key are gone"))
}

/// `202` with where it is and what it is.
pub fn accepted(execution: &Execution) -> HttpResponse {
    let body = match serde_json::to_vec(&ExecutionView::of_submitted(execution)) {
        Ok(body) => body,
        Err(error) => return actix_web::ResponseError::error_response(&Problem::internal(error)),
    };
    let mut response = HttpResponse::Accepted();
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
    if let Ok(location) = HeaderValue::try_from(view::location(execution.id).to_string()) {
        response.insert_header((header::LOCATION, location));
    }
    response.body(body)
}

/// Version 00 takes 55. What a later version adds is kept with each execution of a batch.
const MAX_TRACEPARENT_BYTES: usize = 128;

/// W3C Trace Context, kept with the execution and passed on; one that is malformed is as good as none.
pub fn traceparent(request: &HttpRequest) -> Option<String> {
    let text =
        request.headers().get("traceparent")?.to_str().ok().filter(|text| text.len() <= MAX_TRACEPARENT_BYTES)?;
    let lower_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let some = |part: &str, len: usize| lower_hex(part, len) && part.bytes().any(|b| b != b'0');
    let parts: Vec<&str> = text.split('-').collect();
    // A later version may have more parts.
    let formed = matches!(parts.as_slice(), [version, trace, parent, flags, more @ ..]
        if lower_hex(version, 2) && *version != "ff" && (*version != "00" || more.is_empty())
            && some(trace, 32) && some(parent, 16) && lower_hex(flags, 2));
    formed.then(|| text.to_owned())
}

/// Decoding gave nothing and named no mistake.
fn undecided() -> Problem {
    Problem::internal("a submission was neither decoded nor refused")
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    #[test]
    fn a_traceparent_is_kept_as_it_came_or_not_at_all() {
        let (trace, parent) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let (no_trace, no_parent) = ("0".repeat(32), "0".repeat(16));
        for (text, kept) in [
            (format!("00-{trace}-{parent}-01"), true),
            (format!("01-{trace}-{parent}-01-more"), true),
            (format!("00-{trace}-{parent}-01-more"), false),
            (format!("ff-{trace}-{parent}-01"), false),
            (format!("00-{no_trace}-{parent}-01"), false),
            (format!("00-{trace}-{no_parent}-01"), false),
            (format!("01-{trace}-{parent}-01-{}", "x".repeat(100)), false),
        ] {
            let request = TestRequest::post().insert_header(("traceparent", text.as_str())).to_http_request();
            assert_eq!(traceparent(&request), kept.then(|| text.clone()), "{text}");
        }
    }
}
