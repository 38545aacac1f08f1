//! Workflows by name, in immutable versions.
//!
//! PostgreSQL is the truth. The copy in the META bucket is written after the version's row is committed, and again by every PUT of the same definition; one that
//! could not be written fails no PUT. A definition is stored in its canonical form only, so equal definitions have equal digests.

use crate::auth::Principal;
use crate::json_body;
use crate::problem::{Kind, Problem};
use crate::query::view::Time;
use crate::query::{Listing, Params, Preconditions, immutable, json, reads, tag_of, tagged};
use crate::state::App;
use crate::submit::{placeable, version_number};
use actix_web::http::header::{ETAG, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::objects::{Store, layout};
use roadstead_backend::store::workflows::{self, Version};
use roadstead_domain::decode::Errors;
use roadstead_domain::document;
use roadstead_domain::ids::is_name;
use roadstead_domain::workflow::validate::MAX_DEFINITION_BYTES;
use roadstead_domain::workflow::{Workflow, decode, from_text};
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use slog::warn;
use utoipa::ToSchema;

/// YAML with comments, and JSON with white space, are longer than what is kept of them.
const MAX_BODY_BYTES: usize = 2 * MAX_DEFINITION_BYTES;
const DEFAULT_LIMIT: i64 = 50;
const MAX_LIMIT: i64 = 500;
const JSON: &str = "application/json";
const CONTENT_TYPES: &[&str] = &[JSON, "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/workflows").route(reads().to(list)))
        .service(web::resource("/v1/workflows/{name}").route(reads().to(latest)).route(web::put().to(put)))
        .service(web::resource("/v1/workflows/{name}/versions/{version}").route(reads().to(version)));
}

/// A version of a workflow.
#[derive(Serialize, ToSchema)]
#[schema(as = WorkflowVersion)]
pub struct VersionView<'a> {
    pub name: &'a str,
    pub version: i32,
    /// SHA-256 of the definition's canonical form, in hex.
    pub digest: String,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    pub created_at: Time,
    /// Not in a listing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<crate::openapi::WorkflowDefinition>)]
    pub definition: Option<Box<RawValue>>,
    pub links: VersionLinks,
}

#[derive(Serialize, ToSchema)]
pub struct VersionLinks {
    /// This version.
    #[serde(rename = "self")]
    pub itself: String,
    pub latest: String,
}

/// A page of workflows, by name.
#[derive(Serialize, ToSchema)]
#[schema(as = WorkflowPage)]
pub struct WorkflowPage<'a> {
    /// The newest version of each.
    pub items: Vec<VersionView<'a>>,
    pub next_cursor: Option<String>,
}

impl<'a> VersionView<'a> {
    fn of(version: &'a Version) -> Self {
        Self {
            name: &version.name,
            version: version.version,
            digest: hex::encode(&version.digest),
            created_at: Time(version.created_at),
            definition: RawValue::from_string(version.definition.clone()).ok(),
            links: VersionLinks {
                itself: location(&version.name, version.version),
                latest: format!("/v1/workflows/{}", version.name),
            },
        }
    }
}

fn location(name: &str, version: i32) -> String {
    format!("/v1/workflows/{name}/versions/{version}")
}

/// Store a definition
#[utoipa::path(
    put, path = "/v1/workflows/{name}", tag = "workflows", operation_id = "putWorkflow",
    description = "A definition that differs from the newest version becomes the next version; the same one makes none. One that could not run here is refused. `If-Match` with the `ETag` of the newest version keeps two editors from overwriting each other; `If-None-Match: *` stores a first version only.",
    params(
        ("name" = String, Path, description = "1 to 63 of a-z, 0-9 and `-`"),
        ("If-Match" = Option<String>, Header), ("If-None-Match" = Option<String>, Header),
    ),
    request_body(description = "The definition, as JSON or YAML", content(
        (crate::openapi::WorkflowDefinition = "application/json"),
        (crate::openapi::WorkflowDefinition = "application/yaml"),
    )),
    responses(
        (status = 200, description = "It is the newest version already", body = VersionView<'static>, headers(("ETag" = String))),
        (status = 201, description = "It is the newest version now", body = VersionView<'static>, headers(("Location" = String), ("ETag" = String))),
        (status = 400, response = crate::openapi::BadRequest),
        (status = 412, response = crate::openapi::PreconditionFailed),
        (status = 413, response = crate::openapi::TooLarge),
        (status = 415, response = crate::openapi::UnsupportedMediaType),
    ),
)]
pub async fn put(
    app: web::Data<App>,
    principal: Principal,
    name: web::Path<String>,
    request: HttpRequest,
    mut payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    if !is_name(&name) {
        return Err(Problem::new(
            Kind::InvalidRequest,
            "a workflow's name has 1 to 63 of the characters a-z, 0-9 and `-`, with a letter or digit at both ends",
        ));
    }
    let content_type = json_body::content_type(&request, CONTENT_TYPES)?;
    let body = json_body::read(&request, &mut payload, MAX_BODY_BYTES).await?;
    let workflow = read_definition(content_type, &body)?;
    let objections = placeable::against_sent(&workflow, "", app.config.kubernetes.as_ref());
    if !objections.is_empty() {
        return Err(Problem::fields(objections));
    }
    let definition = serde_json::to_string(&workflow).map_err(Problem::internal)?;
    let digest = Sha256::digest(&definition);
    let tenant = &principal.tenant.name;
    let tag = |version: &Version| tag_of(&VersionView::of(version)).unwrap_or_default();
    let preconditions = Preconditions::of(&request);
    let is_done = |newest: &Version| newest.digest == digest[..];
    let permits =
        |newest: Option<&Version>| preconditions.hold(newest.map(tag).as_deref(), newest.is_some_and(is_done));
    let put = app
        .database
        .run(async |connection| workflows::put(connection, tenant, &name, &digest, &definition, &permits).await)
        .await?
        .ok_or_else(|| Problem::new(Kind::PreconditionFailed, "the newest version is not the one that is expected"))?;
    if put.created {
        app.workflows.forget_latest(tenant, &name);
    }
    copy(&app, tenant, &put.version).await;
    let mut response = if put.created { HttpResponse::Created() } else { HttpResponse::Ok() };
    response.insert_header((LOCATION, location(&name, put.version.version))).insert_header((ETAG, tag(&put.version)));
    Ok(response.json(VersionView::of(&put.version)))
}

fn read_definition(content_type: &str, body: &[u8]) -> Result<Workflow, Problem> {
    if content_type == JSON {
        let mut errors = Errors::default();
        let value =
            document::from_json(json_body::text(body)?, "", &mut errors).map_err(|error| json_body::invalid(&error))?;
        return decode(value, errors).map_err(Problem::fields);
    }
    let text = std::str::from_utf8(body).map_err(|error| Problem::field("", format!("is not UTF-8: {error}")))?;
    from_text(text).map_err(Problem::fields)
}

/// Writes the copy in the META bucket.
async fn copy(app: &App, tenant: &str, version: &Version) {
    let key = layout::workflow(tenant, &version.name, version.version);
    let definition = version.definition.clone().into();
    if let Err(error) = app.objects.put(Store::Meta, &key, definition, JSON).await {
        warn!(app.log, "a workflow's copy could not be written"; "key" => key, "error" => %error);
    }
}

/// The newest version
#[utoipa::path(
    get, path = "/v1/workflows/{name}", tag = "workflows", operation_id = "getWorkflow",
    params(("name" = String, Path), ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, description = "The version", body = VersionView<'static>, headers(("ETag" = String))),
        (status = 304, description = "It is as the client knows it"),
        (status = 404, response = crate::openapi::NotFound),
    ),
)]
pub async fn latest(
    app: web::Data<App>,
    principal: Principal,
    name: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    let version = get(&app, &principal, &name, None).await?;
    tagged(&request, &VersionView::of(&version))
}

/// A version
#[utoipa::path(
    get, path = "/v1/workflows/{name}/versions/{version}", tag = "workflows", operation_id = "getWorkflowVersion",
    params(("name" = String, Path), ("version" = i32, Path), ("If-None-Match" = Option<String>, Header)),
    responses(
        (status = 200, description = "It never changes", body = VersionView<'static>, headers(("ETag" = String))),
        (status = 304, description = "It is as the client knows it"),
        (status = 404, response = crate::openapi::NotFound),
    ),
)]
pub async fn version(
    app: web::Data<App>,
    principal: Principal,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    let (name, version) = path.into_inner();
    let number = version_number(&version).ok_or_else(Problem::not_found)?;
    let version = get(&app, &principal, &name, Some(number)).await?;
    immutable(&request, &version.digest, &VersionView::of(&version))
}

async fn get(app: &App, principal: &Principal, name: &str, version: Option<i32>) -> Result<Version, Problem> {
    if !is_name(name) {
        return Err(Problem::not_found());
    }
    let found = app
        .database
        .run(async |connection| workflows::get(connection, &principal.tenant.name, name, version).await)
        .await?;
    found.ok_or_else(Problem::not_found)
}

/// Workflows, by name
#[utoipa::path(
    get, path = "/v1/workflows", tag = "workflows", operation_id = "listWorkflows",
    params(
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "50 by default"),
    ),
    responses((status = 200, description = "A page", body = WorkflowPage<'static>), (status = 400, response = crate::openapi::BadRequest)),
)]
pub async fn list(app: web::Data<App>, principal: Principal, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let tenant = &principal.tenant.name;
    let mut params = Params::of(request.query_string());
    let cursor = params.one("cursor");
    let limit = params.integer("limit", 1..=MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    params.finish(())?;
    let listing = Listing::new("workflows", tenant, &[]);
    let after = cursor.map(|cursor| name_at(&listing, &cursor)).transpose()?.unwrap_or_default();
    let mut versions =
        app.database.run(async |connection| workflows::list(connection, tenant, &after, limit + 1).await).await?;
    let more = versions.len() > limit as usize;
    versions.truncate(limit as usize);
    let next_cursor = versions.last().filter(|_| more).map(|last| listing.cursor(last.name.as_bytes()));
    // A listing is read without definitions; their empty text is no JSON and hence no definition.
    json(&WorkflowPage { items: versions.iter().map(VersionView::of).collect(), next_cursor })
}

/// A cursor's checksum is no secret, so its position is a name only if it looks like one.
fn name_at(listing: &Listing, cursor: &str) -> Result<String, Problem> {
    let name = String::from_utf8(listing.position(cursor)?).ok().filter(|name| is_name(name));
    name.ok_or_else(|| Problem::new(Kind::InvalidCursor, "the cursor holds no name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(content_type: &str, body: &str) -> Kind {
        read_definition(content_type, body.as_bytes()).unwrap_err().kind()
    }

    #[test]
    fn a_cursor_leads_to_a_name_and_to_nothing_else() {
        let listing = Listing::new("workflows", "acme", &[]);
        assert_eq!(name_at(&listing, &listing.cursor(b"word-count")).unwrap(), "word-count");
        for position in [&b""[..], b"\0", b"word\0count", b"Word", b"\xff", &[b'a'; 64]] {
            let refused = name_at(&listing, &listing.cursor(position)).unwrap_err();
            assert_eq!(refused.kind(), Kind::InvalidCursor, "{position:?}");
        }
    }

    #[test]
    fn one_definition_is_one_text_however_it_is_written() {
        let json = r#"{ "steps": [ {"command": ["x"], "id": "a", "needs": []} ] }"#;
        let yaml = "# a comment\nsteps: [{id: a, command: [x]}]\n";
        let text = |kind, body: &str| serde_json::to_string(&read_definition(kind, body.as_bytes()).unwrap()).unwrap();
        assert_eq!(text(JSON, json), text("text/yaml", yaml));
    }

    #[test]
    fn what_is_wrong_with_a_definition_has_its_own_kind() {
        assert_eq!(refusal(JSON, "{"), Kind::InvalidJson);
        assert_eq!(refusal(JSON, "{}"), Kind::InvalidRequest);
        assert_eq!(refusal(JSON, &"[".repeat(10_000)), Kind::NestingTooDeep);
        assert_eq!(refusal("text/yaml", "steps: [{id: a, command: [x], files: {f: \"\\0\"}}]"), Kind::InvalidRequest);
        assert_eq!(refusal(JSON, r#"{"steps": [{"id": "a", "command": ["\u0000"]}]}"#), Kind::NulCharacter);
        assert_eq!(refusal(JSON, r#"{"steps": [], "steps": [{"id": "a", "command": ["x"]}]}"#), Kind::InvalidRequest);
        assert_eq!(refusal("text/yaml", "steps: ["), Kind::InvalidRequest);
        assert_eq!(refusal("text/yaml", &"[".repeat(10_000)), Kind::InvalidRequest);
    }

    #[test]
    fn aliases_that_multiply_are_refused_quickly() {
        let mut yaml = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let previous = format!("*a{}", n - 1);
            yaml.push_str(&format!("a{n}: &a{n} [{}]\n", vec![previous; 10].join(", ")));
        }
        assert_eq!(refusal("text/yaml", &yaml), Kind::InvalidRequest);
    }
}
