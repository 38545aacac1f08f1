//! `GET /v1/executions/{id}/logs`: what the steps printed, so far or until the end.

mod lines;
mod reader;

use crate::auth::Principal;
use crate::problem::Problem;
use crate::query::live;
use crate::query::{Params, content_type, execution_id, reads};
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use lines::{Filter, Format, parse_event_id};
use reader::{Reader, Selection};
use roadstead_domain::attempt::protocol::Stream;
use utoipa::ToSchema;

/// The most lines that a tail may have.
const MAX_TAIL: i64 = 100_000;

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/executions/{id}/logs").route(reads().to(logs)));
}

/// One line of output.
#[derive(ToSchema)]
#[schema(as = LogLine)]
#[expect(dead_code, reason = "the shape of `LogLine` with its attempt, for the document only; a test compares them")]
pub struct LogLineView {
    attempt: i32,
    /// From 0 over the whole attempt, without gaps.
    n: u64,
    /// Milliseconds since the Unix epoch.
    t: i64,
    step: String,
    /// `stdout`, `stderr`, or `system`: a word of the executor's own.
    stream: String,
    line: String,
}

/// What the steps printed
#[utoipa::path(
    get, path = "/v1/executions/{id}/logs", tag = "executions", operation_id = "readLogs",
    description = "Lines in the order they were printed. Without `attempt`, the latest attempt that has started, and, while following, those after it.",
    params(
        ("id" = uuid::Uuid, Path),
        ("attempt" = Option<i32>, Query, minimum = 1, description = "Of this attempt only"),
        ("step" = Option<String>, Query, description = "Of this step only"),
        ("stream" = Option<String>, Query, description = "`stdout`, `stderr` or `system` only"),
        ("tail" = Option<u32>, Query, maximum = 100_000, description = "Begin with the last so many of the lines that are there"),
        ("follow" = Option<bool>, Query, description = "Go on until the execution has ended; the default for events"),
        ("Last-Event-ID" = Option<String>, Header, description = "As events: go on after this one", example = "1-41"),
    ),
    responses(
        (status = 200, description = "Text, a JSON object a line, or events with those objects; events end with an event `end`", content(
            (String = "text/plain"),
            (LogLineView = "application/x-ndjson"),
            (String = "text/event-stream"),
        )),
        (status = 404, response = crate::openapi::NotFound),
        (status = 406, response = crate::openapi::NotAcceptable),
    ),
)]
pub async fn logs(
    app: web::Data<App>,
    principal: Principal,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let content_type = content_type(request.headers(), Format::CONTENT_TYPES)?;
    let selection = Selection {
        after: live::last_event_id(&request, parse_event_id)?,
        ..selection(request.query_string(), Format::of(content_type))?
    };
    let id = execution_id(&id)?;
    let reader = Reader::new(app.clone(), principal.tenant.name.clone(), id, selection);
    let content_type = if content_type == "text/plain" { "text/plain; charset=utf-8" } else { content_type };
    live::respond(&app, &request, principal.tenant_name(), id, content_type, reader).await
}

fn selection(query: &str, format: Format) -> Result<Selection, Problem> {
    let mut params = Params::of(query);
    let attempt = params.integer("attempt", 1..=i64::from(i32::MAX)).map(|attempt| attempt as i32);
    let step = params.one("step");
    let stream = match params.one("stream").as_deref() {
        Some("stdout") => Some(Stream::Stdout),
        Some("stderr") => Some(Stream::Stderr),
        Some("system") => Some(Stream::System),
        Some(_) => {
            params.error("stream", "must be stdout, stderr or system");
            None
        }
        None => None,
    };
    let follow = params.boolean("follow").unwrap_or(format == Format::Events);
    let tail = params.integer("tail", 0..=MAX_TAIL).map(|tail| tail as u64);
    params.finish(Selection { attempt, filter: Filter { step, stream }, tail, follow, after: None, format })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Kind;
    use roadstead_domain::attempt::protocol::LogLine;
    use utoipa::PartialSchema;

    #[test]
    fn events_follow_unless_they_are_told_not_to() {
        let follows = |query: &str, format| selection(query, format).unwrap().follow;
        assert!(follows("", Format::Events) && follows("follow=true", Format::Text));
        assert!(!follows("follow=false", Format::Events) && !follows("", Format::Ndjson));
    }

    #[test]
    fn parameters_that_can_not_be_used_are_refused() {
        for query in ["attempt=0", "stream=out", "tail=100001", "tail=-1", "follow=maybe", "lines=3"] {
            assert_eq!(selection(query, Format::Text).unwrap_err().kind(), Kind::InvalidRequest, "{query}");
        }
    }

    #[test]
    fn the_documented_line_is_the_domains_with_its_attempt() {
        let line = LogLine { n: 0, t: 0, step: String::new(), stream: Stream::Stdout, line: String::new() };
        let line = serde_json::to_value(line).unwrap();
        let documented = serde_json::to_value(LogLineView::schema()).unwrap();
        let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        let mut expected = names(&line);
        expected.push("attempt".to_owned());
        expected.sort();
        let mut found = names(&documented["properties"]);
        found.sort();
        assert_eq!(found, expected);
    }
}
