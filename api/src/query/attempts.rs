//! `GET /v1/executions/{id}/attempts`: every attempt with its steps; as events, each attempt whenever something in it changed.

use super::live::{self, Feed, Step};
use super::view::{ReasonView, Time};
use super::{EVENT_STREAM, Params, content_type, end, execution_id, json, message};
use crate::auth::Principal;
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::DateTime;
use roadstead_backend::store::{follow, query};
use roadstead_domain::attempt::protocol::{StepReport, StepState};
use roadstead_domain::execution::{Reason, State};
use roadstead_domain::ids::ExecutionId;
use serde::Serialize;
use utoipa::ToSchema;

/// The attempts of an execution, in order.
#[derive(Serialize, ToSchema)]
pub struct Attempts {
    pub items: Vec<AttemptView>,
}

/// One attempt at an execution.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Attempt)]
pub struct AttemptView {
    /// From 1.
    pub attempt: i32,
    /// `launching`, `running`, or how it ended: `succeeded`, `failed`, `timed_out`, `cancelled`, `lost`.
    pub state: String,
    #[schema(value_type = Option<ReasonView>)]
    pub reason: Option<Reason>,
    #[schema(value_type = chrono::DateTime<chrono::Utc>)]
    pub claimed_at: Time,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    pub launched_at: Option<Time>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    pub started_at: Option<Time>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    pub finished_at: Option<Time>,
    /// As the executor last reported them; empty before its first report.
    pub steps: Vec<StepView>,
}

/// Where one step of the workflow stands.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub struct StepView {
    pub id: String,
    /// `pending`, `running`, `succeeded`, `failed`, `timed_out`, `cancelled`, or `skipped`: a step that it needs did not succeed.
    #[schema(value_type = String)]
    pub state: StepState,
    /// Times that it was tried, whether or not there was a program to start.
    pub tries: u32,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    pub started_at: Option<Time>,
    #[schema(value_type = Option<chrono::DateTime<chrono::Utc>>)]
    pub finished_at: Option<Time>,
    pub message: Option<String>,
}

/// The attempts, with their steps
#[utoipa::path(
    get, path = "/v1/executions/{id}/attempts", tag = "executions", operation_id = "listAttempts",
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 200, description = "As events: an attempt each time something in it changed, then an event `end`", content(
            (Attempts = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 404, response = crate::openapi::NotFound),
        (status = 406, response = crate::openapi::NotAcceptable),
    ),
)]
pub async fn attempts(
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
        let feed = AttemptFeed { app: app.clone(), tenant: tenant.clone(), id, told: Vec::new(), ended: None };
        return live::respond(&app, &request, &tenant, id, wanted, feed).await;
    }
    let (_, items) = look(&app, &tenant, id).await?;
    json(&Attempts { items })
}

/// The attempts, and the execution's state from before them: once that is terminal, they are complete.
async fn look(app: &App, tenant: &str, id: ExecutionId) -> Result<(State, Vec<AttemptView>), Problem> {
    let found = app.database.run(async |connection| {
        let Some(growth) = follow::growth(connection, tenant, id).await? else { return Ok(None) };
        Ok(Some((growth.state, query::attempts(connection, tenant, id).await?)))
    });
    let (state, attempts) = found.await?.ok_or_else(Problem::not_found)?;
    Ok((state, attempts.into_iter().map(AttemptView::from).collect()))
}

impl From<query::Attempt> for AttemptView {
    fn from(attempt: query::Attempt) -> Self {
        // Steps are written by this API from a checked report; none are shown if they can't be read.
        let steps: Vec<StepReport> =
            attempt.steps.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Self {
            attempt: attempt.attempt,
            state: attempt.state,
            reason: attempt
                .reason_code
                .map(|code| Reason { code, message: attempt.reason_message.unwrap_or_default() }),
            claimed_at: Time(attempt.claimed_at),
            launched_at: attempt.launched_at.map(Time),
            started_at: attempt.started_at.map(Time),
            finished_at: attempt.finished_at.map(Time),
            steps: steps.into_iter().map(StepView::from).collect(),
        }
    }
}

impl From<StepReport> for StepView {
    fn from(step: StepReport) -> Self {
        let time = |ms: Option<i64>| ms.and_then(DateTime::from_timestamp_millis).map(Time);
        Self {
            id: step.id,
            state: step.state,
            tries: step.tries,
            exit_code: step.exit_code,
            signal: step.signal,
            started_at: time(step.started_at_ms),
            finished_at: time(step.finished_at_ms),
            message: step.message,
        }
    }
}

struct AttemptFeed {
    app: web::Data<App>,
    tenant: String,
    id: ExecutionId,
    /// What was last said of each attempt.
    told: Vec<String>,
    ended: Option<State>,
}

impl Feed for AttemptFeed {
    async fn next(&mut self) -> Result<Step, Problem> {
        if let Some(state) = self.ended {
            return Ok(Step::End(end(state)));
        }
        let (state, attempts) = look(&self.app, &self.tenant, self.id).await?;
        self.ended = state.is_terminal().then_some(state);
        let mut news = String::new();
        for (place, attempt) in attempts.iter().enumerate() {
            let text = serde_json::to_string(attempt).map_err(Problem::internal)?;
            if self.told.get(place) == Some(&text) {
                continue;
            }
            message(&mut news, None::<u8>, &text);
            match self.told.get_mut(place) {
                Some(told) => *told = text,
                None => self.told.push(text),
            }
        }
        Ok(if news.is_empty() && self.ended.is_none() { Step::Idle } else { Step::Data(news) })
    }
}
