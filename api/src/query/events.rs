//! `GET /v1/executions/{id}/events`: the timeline; as events, each entry when it is written.

use super::live::{self, Feed, Step};
use super::view::Time;
use super::{EVENT_STREAM, Params, content_type, end, execution_id, json, message};
use crate::auth::Principal;
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use roadstead_backend::store::{follow, query};
use roadstead_domain::execution::State;
use roadstead_domain::ids::ExecutionId;
use serde::Serialize;
use std::collections::HashSet;
use utoipa::ToSchema;

/// The timeline of an execution.
#[derive(Serialize, ToSchema)]
pub struct Events {
    pub items: Vec<EventView>,
}

/// One thing that happened to an execution.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventView {
    /// Grows along the timeline; 0 is the submission.
    pub id: i64,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    pub at: Time,
    /// `submitted`, `queued`, `claimed`, `launched`, `started`, `cancel_requested`, `retry_scheduled`, `succeeded`, `failed`, `timed_out` or
    /// `cancelled`.
    pub kind: String,
    /// The attempt it is about; 0 before the first.
    pub attempt: i32,
    pub detail: Option<String>,
}

/// The timeline
#[utoipa::path(
    get, path = "/v1/executions/{id}/events", tag = "executions", operation_id = "listEvents",
    params(
        ("id" = uuid::Uuid, Path),
        ("Last-Event-ID" = Option<i64>, Header, description = "As events: go on after this one"),
    ),
    responses(
        (status = 200, description = "As events: each entry when it is written, then an event `end`", content(
            (Events = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 404, response = crate::openapi::NotFound),
        (status = 406, response = crate::openapi::NotAcceptable),
    ),
)]
pub async fn events(
    app: web::Data<App>,
    principal: Principal,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    let wanted = content_type(request.headers(), &["application/json", EVENT_STREAM])?;
    let id = execution_id(&id)?;
    let tenant = principal.tenant.name.clone();
    if wanted == EVENT_STREAM {
        let after = live::last_event_id(&request, |text| text.parse::<i64>().ok())?.unwrap_or(-1);
        let feed = EventFeed { app: app.clone(), tenant: tenant.clone(), id, after, told: HashSet::new(), ended: None };
        return live::respond(&app, &request, &tenant, id, wanted, feed).await;
    }
    let (_, items) = look(&app, &tenant, id).await?;
    json(&Events { items })
}

/// The timeline, and the execution's state from before it: once that is terminal, it is complete.
async fn look(app: &App, tenant: &str, id: ExecutionId) -> Result<(State, Vec<EventView>), Problem> {
    let found = app.database.run(async |connection| {
        let Some(growth) = follow::growth(connection, tenant, id).await? else { return Ok(None) };
        Ok(Some((growth.state, query::events(connection, tenant, id).await?)))
    });
    let (state, events) = found.await?.ok_or_else(Problem::not_found)?;
    Ok((state, events.into_iter().map(EventView::from).collect()))
}

impl From<query::Event> for EventView {
    fn from(event: query::Event) -> Self {
        Self { id: event.id, at: Time(event.at), kind: event.kind, attempt: event.attempt, detail: event.detail }
    }
}

struct EventFeed {
    app: web::Data<App>,
    tenant: String,
    id: ExecutionId,
    after: i64,
    /// By id, not by the highest one: two transactions may commit in the other order than they took their ids.
    told: HashSet<i64>,
    ended: Option<State>,
}

impl Feed for EventFeed {
    async fn next(&mut self) -> Result<Step, Problem> {
        if let Some(state) = self.ended {
            return Ok(Step::End(end(state)));
        }
        let (state, events) = look(&self.app, &self.tenant, self.id).await?;
        self.ended = state.is_terminal().then_some(state);
        let mut news = String::new();
        for event in events.iter().filter(|event| event.id > self.after) {
            if self.told.insert(event.id) {
                let text = serde_json::to_string(event).map_err(Problem::internal)?;
                message(&mut news, Some(event.id), &text);
            }
        }
        Ok(if news.is_empty() && self.ended.is_none() { Step::Idle } else { Step::Data(news) })
    }
}
