//! `GET /v1/executions/{id}/artifacts`: what the current attempt left behind, and the way to each piece of it.
//!
//! The bytes never pass through the API: a reader is sent to a presigned URL. Only what is in the reported manifest has one.

use crate::auth::Principal;
use crate::problem::Problem;
use crate::query::{Params, execution_id, json, reads};
use crate::state::App;
use actix_web::http::header::{LOCATION, REFERRER_POLICY};
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::objects::layout;
use roadstead_backend::store::query;
use roadstead_domain::attempt::protocol::Artifact;
use roadstead_domain::ids::{AttemptId, ExecutionId};
use serde::Serialize;
use std::fmt::Write;
use utoipa::ToSchema;

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/executions/{id}/artifacts").route(reads().to(artifacts)))
        .service(web::resource("/v1/executions/{id}/artifacts/{path:.*}").route(reads().to(artifact)));
}

/// What the current attempt left behind.
#[derive(Serialize, ToSchema)]
pub struct Artifacts {
    pub items: Vec<ArtifactView>,
}

/// A file that a step left.
#[derive(Serialize, ToSchema)]
#[schema(as = Artifact)]
pub struct ArtifactView {
    #[schema(example = "charts/top.svg")]
    pub path: String,
    pub size_bytes: u64,
    /// Of the content, in hex.
    pub sha256: String,
    pub links: ArtifactLinks,
}

#[derive(Serialize, ToSchema)]
pub struct ArtifactLinks {
    /// Answers with a redirect to the content.
    #[serde(rename = "self")]
    pub itself: String,
}

/// What it left behind
#[utoipa::path(
    get, path = "/v1/executions/{id}/artifacts", tag = "executions", operation_id = "listArtifacts",
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 200, description = "Empty while the attempt has not ended", body = Artifacts),
        (status = 404, response = crate::openapi::NotFound),
    ),
)]
pub async fn artifacts(
    app: web::Data<App>,
    principal: Principal,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    let id = execution_id(&id)?;
    let (_, artifacts) = manifest(&app, &principal.tenant.name, id).await?;
    let view = |artifact: Artifact| ArtifactView {
        links: ArtifactLinks { itself: link(id, &artifact.path) },
        path: artifact.path,
        size_bytes: artifact.size_bytes,
        sha256: artifact.sha256,
    };
    json(&Artifacts { items: artifacts.into_iter().map(view).collect() })
}

/// One artifact's content
#[utoipa::path(
    get, path = "/v1/executions/{id}/artifacts/{path}", tag = "executions", operation_id = "getArtifact",
    params(("id" = uuid::Uuid, Path), ("path" = String, Path, description = "As listed; `/` may stand as it is")),
    responses(
        (status = 307, description = "The content is there, for some minutes, without an API key", headers(("Location" = String))),
        (status = 404, response = crate::openapi::NotFound),
    ),
)]
pub async fn artifact(
    app: web::Data<App>,
    principal: Principal,
    path: web::Path<(String, String)>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    let (id, path) = path.into_inner();
    let id = execution_id(&id)?;
    let tenant = &principal.tenant.name;
    let (attempt, artifacts) = manifest(&app, tenant, id).await?;
    let artifact = artifacts.iter().find(|artifact| artifact.path == path).ok_or_else(Problem::not_found)?;
    let name = artifact.path.rsplit('/').next();
    let url = app.objects.presign_get(&layout::artifact(tenant, attempt, &artifact.path), name).await?;
    Ok(HttpResponse::TemporaryRedirect()
        .insert_header((LOCATION, url))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .finish())
}

async fn manifest(app: &App, tenant: &str, id: ExecutionId) -> Result<(AttemptId, Vec<Artifact>), Problem> {
    let manifest = app
        .database
        .run(async |connection| query::manifest(connection, tenant, id).await)
        .await?
        .ok_or_else(Problem::not_found)?;
    let artifacts = manifest.artifacts.as_deref().map(serde_json::from_str).transpose().map_err(Problem::internal)?;
    Ok((AttemptId { execution_id: id, attempt: manifest.attempt }, artifacts.unwrap_or_default()))
}

/// The artifact's own path here; its parts are encoded, so that none of it is read as a query or another part.
fn link(id: ExecutionId, path: &str) -> String {
    let mut link = format!("/v1/executions/{id}/artifacts/");
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => link.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => drop(write!(link, "%{byte:02X}")),
        }
    }
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_to_its_artifact_whatever_it_is_called() {
        let id: ExecutionId = "01939d3c-7c1e-7000-8000-0000000000aa".parse().unwrap();
        assert_eq!(link(id, "a b/ü?#%2F.csv"), format!("/v1/executions/{id}/artifacts/a%20b/%C3%BC%3F%23%252F.csv"));
    }
}
