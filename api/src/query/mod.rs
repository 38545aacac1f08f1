//! Reading executions: one, many, their attempts and their timeline.
//!
//! Invariants: every read names the tenant of a checked key; what is not there and what is another tenant's get the same answer; a reader that waits or follows
//! is woken by a change, looks by itself all the same, and costs bounded memory.

mod answer;
pub mod attempts;
mod cursor;
pub mod events;
pub mod get;
pub mod list;
pub mod live;
mod negotiate;
mod params;
mod sse;
pub mod view;

pub use answer::{Preconditions, cached, immutable, json, tag_of, tagged};
pub use attempts::{AttemptView, Attempts, StepView, attempts};
pub use cursor::Listing;
pub use events::{EventView, Events, events};
pub use get::{get, load};
pub use list::{ExecutionPage, list};
pub use negotiate::content_type;
pub use params::Params;
pub use sse::{CONTENT_TYPE as EVENT_STREAM, end, message};

use crate::problem::Problem;
use actix_web::{Route, guard, web};
use roadstead_domain::ids::ExecutionId;

/// `GET /v1/executions` shares its path with the submission and is registered beside it.
pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/executions/{id}").route(reads().to(get)))
        .service(web::resource("/v1/executions/{id}/attempts").route(reads().to(attempts)))
        .service(web::resource("/v1/executions/{id}/events").route(reads().to(events)));
}

/// GET, and HEAD, which is GET without the body.
pub fn reads() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The id in a path. What is no id names nothing.
pub fn execution_id(text: &str) -> Result<ExecutionId, Problem> {
    text.parse().map_err(|_| Problem::not_found())
}
