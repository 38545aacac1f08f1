//! `GET /v1/executions`: newest first, narrowed by filters, a page at a time.

use super::view::{ExecutionView, Queue, WaitingFor};
use super::{Listing, Params, json};
use crate::auth::Principal;
use crate::problem::{Kind, Problem};
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use roadstead_backend::store::query::{self, Filter};
use roadstead_domain::execution::State;
use roadstead_domain::ids::{ExecutionId, is_name};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

pub const DEFAULT_LIMIT: i64 = 50;
pub const MAX_LIMIT: i64 = 500;

/// A page of executions, newest first.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionPage)]
pub struct ExecutionPage<'a> {
    pub items: Vec<ExecutionView<'a>>,
    /// For the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Executions, newest first
#[utoipa::path(
    get, path = "/v1/executions", tag = "executions", operation_id = "listExecutions",
    params(
        ("state" = Option<Vec<super::view::StateWord>>, Query, description = "One of these states; may be repeated, or several with commas"),
        ("workflow" = Option<String>, Query, description = "Of this workflow"),
        ("label" = Option<Vec<String>>, Query, description = "With this label, as `key:value`; may be repeated: all must be there"),
        ("created_after" = Option<chrono::DateTime<chrono::Utc>>, Query),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before, with the same filters"),
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "50 by default"),
    ),
    responses((status = 200, description = "A page", body = ExecutionPage<'static>), (status = 400, response = crate::openapi::BadRequest)),
)]
pub async fn list(app: web::Data<App>, principal: Principal, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let tenant = &principal.tenant;
    let (mut filter, listing) = filter(request.query_string(), &tenant.name)?;
    let limit = filter.limit as usize;
    // One more than asked for tells whether there is a next page.
    filter.limit += 1;
    let mut executions =
        app.database.run(async |connection| query::list(connection, &tenant.name, &filter).await).await?;
    let more = executions.len() > limit;
    executions.truncate(limit);
    let queued_for = if executions.iter().any(|execution| execution.state == State::Queued) {
        app.load.waiting_for(&app, tenant).await?
    } else {
        WaitingFor::Dispatch
    };
    let next_cursor = executions.last().filter(|_| more).map(|last| listing.cursor(last.id.0.as_bytes()));
    let items = executions.iter().map(|e| ExecutionView::of(e, Queue::uncounted(e, queued_for))).collect();
    json(&ExecutionPage { items, next_cursor })
}

/// What the query string asks for, and the listing that its cursors belong to.
fn filter(query: &str, tenant: &str) -> Result<(Filter, Listing), Problem> {
    let mut params = Params::of(query);
    let states = states(&mut params);
    let workflow = params.one("workflow");
    if workflow.as_deref().is_some_and(|name| !is_name(name)) {
        params.error("workflow", "is not a workflow's name");
    }
    let labels = labels(&mut params);
    let created_after = params.time("created_after");
    let cursor = params.one("cursor");
    let limit = params.integer("limit", 1..=MAX_LIMIT).unwrap_or(DEFAULT_LIMIT);
    let labels_text = labels.as_ref().map(Value::to_string).unwrap_or_default();
    let states_text = states.iter().map(|state| state.as_str()).collect::<Vec<_>>().join(",");
    let after_text = created_after.map(|time| time.to_rfc3339()).unwrap_or_default();
    let filters = [states_text.as_str(), workflow.as_deref().unwrap_or_default(), &labels_text, &after_text];
    let listing = Listing::new("executions", tenant, &filters);
    let created_after = created_after.map(end_of_its_millisecond);
    let filter = Filter { states, workflow, labels, created_after, before: None, limit };
    let filter = params.finish(filter)?;
    let before = cursor.map(|cursor| listing.position(&cursor)).transpose()?;
    let before = before.map(|id| Uuid::from_slice(&id).map(ExecutionId)).transpose();
    let before = before.map_err(|_| Problem::new(Kind::InvalidCursor, "the cursor holds no execution"))?;
    Ok((Filter { before, ..filter }, listing))
}

/// Rows know microseconds, answers tell milliseconds: after an execution's `created_at` as it was answered comes the next one, not itself.
fn end_of_its_millisecond(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(3) + TimeDelta::microseconds(999)
}

/// In the state machine's order and each once, so that another spelling of the same filter takes the same cursors.
fn states(params: &mut Params) -> Vec<State> {
    let mut states = Vec::new();
    for word in params.many("state").iter().flat_map(|value| value.split(',')) {
        match word.trim().parse::<State>() {
            Ok(state) => states.push(state),
            Err(error) => params.error("state", error.to_string()),
        }
    }
    states.sort_unstable();
    states.dedup();
    states
}

fn labels(params: &mut Params) -> Option<Value> {
    let mut labels = Map::new();
    for label in params.many("label") {
        let Some((key, value)) = label.split_once(':').filter(|(key, _)| !key.is_empty()) else {
            params.error("label", "must read `key:value`");
            continue;
        };
        let before = labels.insert(key.to_owned(), Value::from(value));
        if before.is_some_and(|before| before != value) {
            params.error("label", format!("asks for two values of `{}`", key.chars().take(80).collect::<String>()));
        }
    }
    (!labels.is_empty()).then_some(Value::Object(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_from_the_query_string() {
        let query = "state=failed,running&state=running&workflow=w&label=a:b:c&label=d:&limit=7";
        let (filter, _) = filter(query, "acme").unwrap();
        assert_eq!(filter.states, [State::Running, State::Failed]);
        assert_eq!(filter.labels, Some(serde_json::json!({"a": "b:c", "d": ""})));
        assert_eq!((filter.workflow.as_deref(), filter.limit), (Some("w"), 7));
    }

    #[test]
    fn what_was_created_in_the_named_millisecond_is_not_after_it() {
        let after = |text: &str| filter(&format!("created_after={text}"), "acme").unwrap().0.created_after.unwrap();
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(after("2026-11-21T08:30:00.123Z"), time("2026-11-21T08:30:00.123999Z"));
        assert_eq!(after("2026-11-21T08:30:00Z"), time("2026-11-21T08:30:00.000999Z"));
    }

    #[test]
    fn filters_that_can_not_be_meant_are_refused() {
        for query in
            ["state=done", "workflow=A_B", "label=x", "label=:v", "label=a:1&label=a:2", "limit=1000", "page=2"]
        {
            assert_eq!(filter(query, "acme").unwrap_err().kind(), Kind::InvalidRequest, "{query}");
        }
    }

    #[test]
    fn a_cursor_goes_on_with_its_own_filters_only() {
        let id = ExecutionId::new();
        let cursor = filter("state=failed,running", "acme").unwrap().1.cursor(id.0.as_bytes());
        let (same, _) = filter(&format!("cursor={cursor}&state=running&state=failed&limit=3"), "acme").unwrap();
        assert_eq!(same.before, Some(id));
        for (query, tenant) in [("state=failed", "acme"), ("", "acme"), ("state=failed,running", "other")] {
            let refused = filter(&format!("{query}&cursor={cursor}"), tenant).unwrap_err();
            assert_eq!(refused.kind(), Kind::InvalidCursor, "{query}");
        }
    }
}
