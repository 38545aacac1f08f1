//! The OpenAPI 3.1 document, made from the handlers and the types that they answer with.
//!
//! `openapi.json` beside this crate's manifest is its snapshot; a test fails when it is stale, and `UPDATE_GENERATED=1` writes it anew. The executor's routes are not in
//! it: they are this release's own, not a promise.

use crate::problem::{Kind, TYPE_BASE};
use crate::query::view;
use crate::{artifacts, cancel, capacity, logs, query, result, retry, submit, workflows};
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, Utc};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{AdditionalProperties, Object, Type};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr, Schema};
use utoipa::{Modify, OpenApi, ToResponse, ToSchema};

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    let mut text = Api::openapi().to_pretty_json().expect("the document is made of strings and numbers");
    text.push('\n');
    text
});

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/openapi.json").route(query::reads().to(serve)));
}

async fn serve(request: HttpRequest) -> HttpResponse {
    query::cached(&request, "application/json", DOCUMENT.as_str())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Roadstead",
        description = "An execution queue for Kubernetes: takes work over HTTP, keeps it safe, and runs each piece in isolation when there is room.\n\nEvery refusal is an RFC 9457 problem with a stable `type`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/")),
    tags(
        (name = "executions", description = "Work: submitted, watched, cancelled, retried"),
        (name = "workflows", description = "Definitions by name, in immutable versions"),
        (name = "capacity", description = "How full the system is"),
    ),
    paths(
        submit::one, submit::batch, query::list::list, query::get::get, cancel::cancel, retry::retry,
        query::attempts::attempts, query::events::events, logs::logs,
        result::result, artifacts::artifacts, artifacts::artifact, workflows::list, workflows::put, workflows::latest, workflows::version,
        capacity::capacity,
    ),
    components(
        schemas(ProblemView, FieldErrorView),
        responses(
            BadRequest, Unauthenticated, Forbidden, NotFound, NotAcceptable, Conflict, PreconditionFailed, TooLarge, UnsupportedMediaType, KeyReused, QuotaExceeded, Unavailable,
        ),
    ),
    modifiers(&Everywhere),
    security(("key" = [])),
)]
struct Api;

/// What is sent: a member that is not among theirs is refused.
const REQUESTS: &[&str] = &["Submission", "BatchSubmission", "Workflow", "StepDefinition", "Resources"];

/// What holds for every operation: the key, and how it may be refused.
struct Everywhere;

impl Modify for Everywhere {
    fn modify(&self, document: &mut Document) {
        let key = Http::builder()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key, as `roadstead-api keys create` prints it"))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(key));
        if let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut("Problem")
            && let Some(RefOr::T(Schema::Object(kind))) = problem.properties.get_mut("type")
        {
            kind.enum_values =
                Some(Kind::ALL.iter().map(|kind| format!("{TYPE_BASE}{}", kind.slug()).into()).collect());
        }
        for name in REQUESTS {
            if let Some(RefOr::T(Schema::Object(request))) = components.schemas.get_mut(*name) {
                request.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
        for name in ["QuotaExceeded", "Unavailable"] {
            if let Some(RefOr::T(response)) = components.responses.get_mut(name) {
                let seconds = Header::builder()
                    .schema(Some(Object::with_type(Type::Integer)))
                    .description(Some("Seconds"))
                    .build();
                response.headers.insert("Retry-After".to_owned(), RefOr::T(seconds));
            }
        }
        for path in document.paths.paths.values_mut() {
            for operation in [&mut path.get, &mut path.put, &mut path.post].into_iter().filter_map(Option::as_mut) {
                refuse(operation, "400", "BadRequest");
                refuse(operation, "401", "Unauthenticated");
                refuse(operation, "503", "Unavailable");
            }
            // A key of role `read` may do nothing else.
            for operation in [&mut path.put, &mut path.post].into_iter().filter_map(Option::as_mut) {
                refuse(operation, "403", "Forbidden");
            }
        }
    }
}

fn refuse(operation: &mut Operation, status: &str, response: &str) {
    operation.responses.responses.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(response).into());
}

/// A refusal, after RFC 9457.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[expect(dead_code, reason = "the shape of a problem, for the document only; a test compares them")]
pub struct ProblemView {
    /// What kind of problem it is; stable.
    #[schema(example = json!(format!("{TYPE_BASE}invalid-request")))]
    r#type: String,
    title: String,
    status: u16,
    /// What is wrong with this request.
    detail: String,
    request_id: String,
    /// What is wrong in which field.
    #[schema(required = false)]
    errors: Vec<FieldErrorView>,
}

#[derive(ToSchema)]
#[schema(as = FieldError)]
#[expect(dead_code, reason = "the shape of a field's error, for the document only")]
pub struct FieldErrorView {
    /// JSON pointer (RFC 6901) into the body, or the name of a query parameter.
    #[schema(example = "/spec/steps/0/needs/0")]
    pointer: String,
    detail: String,
}

macro_rules! refusals {
    ($($name:ident = $description:literal;)+) => {
        $(
            #[derive(ToResponse)]
            #[response(description = $description, content_type = "application/problem+json")]
            #[expect(dead_code, reason = "a response of the document's")]
            pub struct $name(ProblemView);
        )+
    };
}

refusals! {
    BadRequest = "Something in the request is not valid; `errors` says what";
    Unauthenticated = "The API key is missing, unknown, expired or revoked";
    Forbidden = "The key's role does not allow this";
    NotFound = "There is no such thing, or it is another tenant's";
    NotAcceptable = "None of the accepted content types can be given";
    Conflict = "The execution's state does not allow this";
    PreconditionFailed = "It is not as `If-Match` or `If-None-Match` expects it";
    TooLarge = "The body is too large";
    UnsupportedMediaType = "The content type is not supported";
    KeyReused = "The Idempotency-Key was used for another request";
    QuotaExceeded = "Too many executions are waiting; `Retry-After` says when to come again";
    Unavailable = "The service can't do this right now; `Retry-After` says when to come again";
}

/// Work to be done. Either `workflow` or `spec`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a submission, for the document only; a test compares them")]
pub struct Submission {
    /// `name` for the newest version, `name@3` for a certain one.
    #[schema(example = "word-count")]
    workflow: Option<String>,
    spec: Option<WorkflowDefinition>,
    /// Any JSON. Up to 64 MiB; its bytes are kept as they are.
    input: Option<Value>,
    #[schema(inline = false, default = "normal")]
    priority: Option<view::PriorityWord>,
    /// Not before then.
    run_at: Option<DateTime<Utc>>,
    /// Up to 64.
    labels: Option<BTreeMap<String, String>>,
    /// Run deadline of an attempt.
    #[schema(minimum = 1, maximum = 604_800)]
    timeout_seconds: Option<u32>,
    /// It times out when no attempt has begun by then.
    #[schema(minimum = 1, maximum = 604_800)]
    queue_timeout_seconds: Option<u32>,
    #[schema(minimum = 0, maximum = 100)]
    max_retries: Option<u32>,
}

/// Up to a thousand submissions, recorded all or none.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a batch, for the document only")]
pub struct BatchSubmission {
    #[schema(min_items = 1, max_items = 1_000)]
    executions: Vec<Submission>,
}

/// What a workflow does.
#[derive(ToSchema)]
#[schema(as = Workflow)]
#[expect(dead_code, reason = "the shape of a definition, for the document only; a test compares them")]
pub struct WorkflowDefinition {
    /// Container image; ignored by the process launcher.
    #[schema(example = "docker.io/library/python:3.12-slim")]
    image: Option<String>,
    #[schema(min_items = 1, max_items = 1_000)]
    steps: Vec<StepDefinition>,
    /// Run deadline of an attempt.
    #[schema(minimum = 1, maximum = 604_800)]
    timeout_seconds: Option<u32>,
    #[schema(minimum = 0, maximum = 100)]
    max_retries: Option<u32>,
    resources: Option<ResourcesDefinition>,
}

/// One process of the workflow.
#[derive(ToSchema)]
#[schema(as = StepDefinition)]
#[expect(dead_code, reason = "the shape of a step, for the document only; a test compares them")]
pub struct StepDefinition {
    #[schema(pattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$")]
    id: String,
    /// The program and its arguments; never given to a shell.
    #[schema(min_items = 1)]
    command: Vec<String>,
    /// Ids of the steps that must have succeeded first.
    #[schema(required = false)]
    needs: Vec<String>,
    #[schema(required = false)]
    env: BTreeMap<String, String>,
    #[schema(minimum = 1, maximum = 604_800)]
    timeout_seconds: Option<u32>,
    /// How often it is started again within the attempt when it failed.
    #[schema(required = false, minimum = 0, maximum = 100)]
    retries: u32,
    /// Files written into the workspace before its first start: relative path to content.
    #[schema(required = false)]
    files: BTreeMap<String, String>,
}

/// Kubernetes quantities.
#[derive(ToSchema)]
#[schema(as = Resources)]
#[expect(dead_code, reason = "the shape of the resources, for the document only; a test compares them")]
pub struct ResourcesDefinition {
    #[schema(example = "500m")]
    cpu: Option<String>,
    #[schema(example = "256Mi")]
    memory: Option<String>,
    #[schema(example = "1Gi")]
    ephemeral_storage: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;
    use roadstead_domain::decode::FieldError;
    use roadstead_domain::workflow::{Resources, Step, Workflow};
    use serde::Serialize;
    use std::collections::BTreeSet;
    use std::path::Path;
    use utoipa::PartialSchema;

    #[test]
    fn the_committed_document_is_the_codes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&path, DOCUMENT.as_str()).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == *DOCUMENT,
            "api/openapi.json is stale: run the tests of roadstead-api with UPDATE_GENERATED=1"
        );
    }

    fn members(value: &Value) -> BTreeSet<String> {
        value.as_object().unwrap().keys().cloned().collect()
    }

    fn documented<T: PartialSchema>() -> BTreeSet<String> {
        members(&serde_json::to_value(T::schema()).unwrap()["properties"])
    }

    fn sent(value: &impl Serialize) -> BTreeSet<String> {
        members(&serde_json::to_value(value).unwrap())
    }

    #[test]
    fn a_documented_definition_has_the_domains_members() {
        let resources =
            Resources { cpu: Some(String::new()), memory: Some(String::new()), ephemeral_storage: Some(String::new()) };
        let one = || BTreeMap::from([(String::new(), String::new())]);
        let step = Step {
            id: String::new(),
            command: Vec::new(),
            needs: vec![String::new()],
            env: one(),
            timeout_seconds: Some(1),
            retries: 1,
            files: one(),
        };
        assert_eq!(documented::<ResourcesDefinition>(), sent(&resources));
        assert_eq!(documented::<StepDefinition>(), sent(&step));
        let workflow = Workflow {
            image: Some(String::new()),
            steps: vec![step],
            timeout_seconds: Some(1),
            max_retries: Some(1),
            resources,
        };
        assert_eq!(documented::<WorkflowDefinition>(), sent(&workflow));
    }

    #[test]
    fn a_documented_problem_has_the_members_that_are_sent() {
        let errors = vec![FieldError { pointer: String::new(), detail: String::new() }];
        assert_eq!(documented::<FieldErrorView>(), sent(&errors[0]));
        let body = Problem::new(Kind::InvalidRequest, "").with_errors(errors).body("1");
        assert_eq!(documented::<ProblemView>(), sent(&serde_json::from_slice::<Value>(&body).unwrap()));
    }

    #[test]
    fn every_kind_of_problem_is_documented() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let documented = &document["components"]["schemas"]["Problem"]["properties"]["type"]["enum"];
        assert_eq!(documented.as_array().unwrap().len(), Kind::ALL.len());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(&DOCUMENT).unwrap();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(target)) = map.get("$ref") {
                        references += 1;
                        assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
                    }
                    open.extend(map.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 50, "{references}");
    }
}
