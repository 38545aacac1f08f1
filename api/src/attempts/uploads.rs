//! `uploads`: presigned URLs for what a running attempt ships, minted late, per object, with its size signed.
//!
//! Invariant: a key is made of the attempt that the session proved and of a checked path or number, never of anything else that the executor said.

use super::{Caller, PART_BYTES, SEGMENT_BYTES, caller, document, gone};
use crate::problem::{Kind, Problem};
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::config::ExecutionConfig;
use roadstead_backend::objects::{ObjectsError, PresignedPut, layout};
use roadstead_backend::store::uploads::tenant_of_session;
use roadstead_domain::attempt::check::is_sha256;
use roadstead_domain::attempt::protocol::{
    CompleteRequest, Object, PartsGrant, PartsRequest, Upload, UploadGrant, UploadRequest, UploadTarget,
};
use roadstead_domain::workflow::validate::is_relative_path;

/// Objects, or parts, in one request.
const MAX_AT_A_TIME: usize = 64;
const MAX_PARTS: usize = 10_000;
const MAX_BODY_BYTES: usize = 256 << 10;
/// The tags of ten thousand parts.
const MAX_COMPLETE_BYTES: usize = 4 << 20;
const MAX_UPLOAD_ID_BYTES: usize = 2_048;
const MAX_ETAG_BYTES: usize = 256;
/// What every store takes in one PUT: S3 takes 5 GiB, some a little less.
const MAX_PUT_BYTES: u64 = 4 << 30;
/// The lines of a segment are as long as the last one that still went in.
const MAX_SEGMENT_BYTES: u64 = 2 * SEGMENT_BYTES as u64;

pub async fn grant(app: web::Data<App>, request: HttpRequest, mut body: web::Payload) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let UploadRequest { objects } = document(&request, &mut body, MAX_BODY_BYTES).await?;
    if objects.len() > MAX_AT_A_TIME {
        return Err(Problem::field("/objects", format!("at most {MAX_AT_A_TIME} are accepted at a time")));
    }
    for (place, upload) in objects.iter().enumerate() {
        check(upload, &app.config.executions).map_err(|detail| Problem::field(format!("/objects/{place}"), detail))?;
    }
    let tenant = tenant(&app, &caller).await?;
    let mut targets = Vec::with_capacity(objects.len());
    for upload in &objects {
        targets.push(target(&app, &tenant, &caller, upload).await.map_err(unavailable)?);
    }
    Ok(HttpResponse::Ok().json(UploadGrant { targets }))
}

pub async fn parts(app: web::Data<App>, request: HttpRequest, mut body: web::Payload) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let PartsRequest { path, upload_id, parts } = document(&request, &mut body, MAX_BODY_BYTES).await?;
    check_multipart(&path, &upload_id)?;
    if parts.len() > MAX_AT_A_TIME || parts.iter().any(|part| !(1..=MAX_PARTS as u32).contains(part)) {
        let detail = format!("at most {MAX_AT_A_TIME} at a time, each from 1 to {MAX_PARTS}");
        return Err(Problem::field("/parts", detail));
    }
    let key = layout::artifact(&tenant(&app, &caller).await?, caller.attempt, &path);
    let mut urls = Vec::with_capacity(parts.len());
    for part in parts {
        urls.push(app.objects.presign_part(&key, &upload_id, part).await.map_err(unavailable)?);
    }
    Ok(HttpResponse::Ok().json(PartsGrant { urls }))
}

pub async fn complete(
    app: web::Data<App>,
    request: HttpRequest,
    mut body: web::Payload,
) -> Result<HttpResponse, Problem> {
    let caller = caller(&request)?;
    let CompleteRequest { path, upload_id, etags } = document(&request, &mut body, MAX_COMPLETE_BYTES).await?;
    check_multipart(&path, &upload_id)?;
    if !(1..=MAX_PARTS).contains(&etags.len()) || etags.iter().any(|etag| etag.len() > MAX_ETAG_BYTES) {
        return Err(Problem::field("/etags", format!("must be 1 to {MAX_PARTS} entity tags")));
    }
    let key = layout::artifact(&tenant(&app, &caller).await?, caller.attempt, &path);
    match app.objects.complete_multipart(&key, &upload_id, &etags).await {
        Ok(()) => Ok(HttpResponse::Ok().content_type("application/json").body("{}")),
        Err(ObjectsError::Refused(why)) => {
            Err(Problem::new(Kind::BadRequest, format!("the parts were not put together: {why}")))
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// The tenant of the attempt, if it is running and this is its session.
async fn tenant(app: &App, caller: &Caller) -> Result<String, Problem> {
    let Caller { attempt, secret_hash } = caller;
    let tenant = app.database.run(async |connection| tenant_of_session(connection, *attempt, secret_hash).await);
    tenant.await?.ok_or_else(gone)
}

async fn target(app: &App, tenant: &str, caller: &Caller, upload: &Upload) -> Result<UploadTarget, ObjectsError> {
    let key = match &upload.object {
        Object::Log { seq } => layout::log_segment(tenant, caller.attempt, *seq),
        Object::Result => layout::result(tenant, caller.attempt),
        Object::Artifact { path } => layout::artifact(tenant, caller.attempt, path),
    };
    if goes_in_parts(upload) {
        return Ok(UploadTarget::Multipart { upload_id: app.objects.create_multipart(&key).await? });
    }
    let PresignedPut { url, headers } =
        app.objects.presign_put(&key, upload.size_bytes, upload.sha256.as_deref()).await?;
    Ok(UploadTarget::Put { url, headers })
}

fn goes_in_parts(upload: &Upload) -> bool {
    let max_put_bytes = if upload.whole { MAX_PUT_BYTES } else { PART_BYTES };
    matches!(upload.object, Object::Artifact { .. }) && upload.size_bytes > max_put_bytes
}

fn check(upload: &Upload, executions: &ExecutionConfig) -> Result<(), String> {
    let max_bytes = match &upload.object {
        Object::Log { seq } if i32::try_from(*seq).is_err() => return Err("there are no so many segments".to_owned()),
        Object::Log { .. } => MAX_SEGMENT_BYTES,
        Object::Result => executions.max_result_bytes,
        Object::Artifact { path } if !is_relative_path(path) => {
            return Err("the path must be relative, without `..`, empty parts or control characters".to_owned());
        }
        Object::Artifact { .. } => executions.max_artifact_bytes,
    };
    if upload.size_bytes > max_bytes {
        return Err(format!("is {} bytes; at most {max_bytes} are accepted", upload.size_bytes));
    }
    if upload.sha256.as_deref().is_some_and(|sha256| !is_sha256(sha256)) {
        return Err("the SHA-256 must be 64 hex digits".to_owned());
    }
    Ok(())
}

fn check_multipart(path: &str, upload_id: &str) -> Result<(), Problem> {
    if !is_relative_path(path) {
        return Err(Problem::field("/path", "must be relative, without `..`, empty parts or control characters"));
    }
    if !(1..=MAX_UPLOAD_ID_BYTES).contains(&upload_id.len()) {
        return Err(Problem::field("/upload_id", "is not one that was given out"));
    }
    Ok(())
}

fn unavailable(error: ObjectsError) -> Problem {
    Problem::unavailable("the object store does not answer; ask again", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const CONFIG: ExecutionConfig = ExecutionConfig {
        timeout: Duration::from_secs(1),
        max_retries: 0,
        max_concurrent_jobs: 0,
        max_queued_per_tenant: 0,
        max_input_bytes: 0,
        max_result_bytes: 10,
        max_log_bytes: 0,
        max_artifact_bytes: 100,
        max_artifacts: 1,
        attempt_lease: Duration::from_secs(90),
        kill_grace: Duration::from_secs(10),
    };

    fn accepted(object: Object, size_bytes: u64) -> bool {
        check(&Upload { object, size_bytes, sha256: None, whole: false }, &CONFIG).is_ok()
    }

    #[test]
    fn each_kind_of_object_has_its_limit() {
        let artifact = |path: &str| Object::Artifact { path: path.into() };
        assert!(accepted(Object::Result, 10) && !accepted(Object::Result, 11));
        assert!(accepted(artifact("a/b.csv"), 100) && !accepted(artifact("a/b.csv"), 101));
        assert!(accepted(Object::Log { seq: 0 }, 1 << 20) && !accepted(Object::Log { seq: 0 }, 1 << 22));
        assert!(!accepted(Object::Log { seq: u32::MAX }, 1));
    }

    #[test]
    fn an_artifact_goes_in_parts_when_it_is_large_unless_one_put_is_asked_for_and_can_take_it() {
        let parts = |object, size_bytes, whole| goes_in_parts(&Upload { object, size_bytes, sha256: None, whole });
        let artifact = || Object::Artifact { path: "a".into() };
        assert!(!parts(artifact(), PART_BYTES, false) && parts(artifact(), PART_BYTES + 1, false));
        assert!(!parts(artifact(), MAX_PUT_BYTES, true) && parts(artifact(), MAX_PUT_BYTES + 1, true));
        assert!(!parts(Object::Result, PART_BYTES + 1, false));
    }

    #[test]
    fn a_path_stays_within_its_attempt() {
        for bad in ["", "/etc/passwd", "../2/artifacts/x", "a/../../x", "a//b", "a\0"] {
            assert!(!accepted(Object::Artifact { path: bad.into() }, 1), "{bad:?}");
        }
    }
}
