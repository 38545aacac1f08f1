//! How full the system is: `GET /v1/capacity`, and what a queued execution waits for.
//!
//! Counted by PostgreSQL when somebody asks, once for all who ask within a second; nothing is counted while nobody asks.

use crate::auth::{Principal, Role};
use crate::problem::Problem;
use crate::query::view::{PriorityWord, WaitingFor};
use crate::query::{Params, json, reads};
use crate::state::App;
use actix_web::{HttpRequest, HttpResponse, web};
use moka::future::Cache;
use roadstead_backend::store::capacity::{depths, recent_rate};
use roadstead_backend::store::claim::{Berths, berths};
use roadstead_backend::store::tenants::Tenant;
use roadstead_domain::execution::Priority;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

const BELIEF: Duration = Duration::from_secs(1);
const MAX_REMEMBERED: u64 = 1_000;

pub fn routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/v1/capacity").route(reads().to(capacity)));
}

/// How full the system is, and how fast it goes.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Capacity {
    /// Attempts that may be live at once, over all workers and tenants.
    pub cap: u32,
    /// Attempts that are, of all tenants.
    pub live: i64,
    /// The own tenant's; all tenants' for a key of role `admin`.
    pub queued: Vec<Queued>,
    /// How long the oldest of those has waited; null when there are none.
    pub oldest_age_seconds: Option<f64>,
    /// Over the last minute, of all tenants.
    pub finished_per_second: f64,
}

/// Executions that wait.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Queued {
    pub tenant: String,
    #[schema(value_type = PriorityWord)]
    pub priority: Priority,
    pub queued: i64,
}

/// What was counted lately.
#[derive(Clone, Debug)]
pub struct LoadCache {
    berths: Cache<(), Arc<Berths>>,
    /// By tenant; `None` is all of them.
    capacity: Cache<Option<String>, Arc<Capacity>>,
}

impl Default for LoadCache {
    fn default() -> Self {
        Self {
            berths: Cache::builder().time_to_live(BELIEF).build(),
            capacity: Cache::builder().time_to_live(BELIEF).max_capacity(MAX_REMEMBERED).build(),
        }
    }
}

impl LoadCache {
    /// How the berths stood within the last second.
    pub async fn berths(&self, app: &App) -> Result<Arc<Berths>, Problem> {
        let count = async { Ok(Arc::new(app.database.run(berths).await?)) };
        self.berths.try_get_with((), count).await.map_err(|problem: Arc<Problem>| problem.as_ref().clone())
    }

    /// What a queued execution of the tenant's waits for.
    pub async fn waiting_for(&self, app: &App, tenant: &Tenant) -> Result<WaitingFor, Problem> {
        let berths = self.berths(app).await?;
        let live = berths.live_by_tenant.get(&tenant.name).copied().unwrap_or(0);
        Ok(queued_for(berths.live, app.config.executions.max_concurrent_jobs, live, tenant.max_concurrent))
    }
}

/// The tenant's own limit is named first: it would hold even if the cap did not.
fn queued_for(live: i64, cap: u32, live_of_tenant: i64, tenant_limit: Option<i32>) -> WaitingFor {
    if tenant_limit.is_some_and(|limit| live_of_tenant >= i64::from(limit)) {
        WaitingFor::TenantLimit
    } else if live >= i64::from(cap) {
        WaitingFor::Cap
    } else {
        WaitingFor::Dispatch
    }
}

/// How full the system is
#[utoipa::path(
    get, path = "/v1/capacity", tag = "capacity", operation_id = "getCapacity",
    responses((status = 200, description = "As counted within the last second", body = Capacity)),
)]
pub async fn capacity(
    app: web::Data<App>,
    principal: Principal,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    Params::of(request.query_string()).finish(())?;
    let tenant = (principal.role != Role::Admin).then(|| principal.tenant.name.clone());
    let counted = app.load.capacity.try_get_with(tenant.clone(), count(&app, tenant)).await;
    json(counted.map_err(|problem: Arc<Problem>| problem.as_ref().clone())?.as_ref())
}

async fn count(app: &App, tenant: Option<String>) -> Result<Arc<Capacity>, Problem> {
    let live = app.load.berths(app).await?.live;
    let counted = app
        .database
        .run(async |connection| Ok((depths(connection, tenant.as_deref()).await?, recent_rate(connection).await?)));
    let (mut depths, finished_per_second) = counted.await?;
    depths.sort_by(|a, b| (&a.tenant, a.priority()).cmp(&(&b.tenant, b.priority())));
    let ages = depths.iter().filter_map(|depth| depth.oldest_age_seconds);
    Ok(Arc::new(Capacity {
        cap: app.config.executions.max_concurrent_jobs,
        live,
        oldest_age_seconds: ages.reduce(f64::max),
        queued: depths
            .into_iter()
            .map(|depth| Queued { priority: depth.priority(), queued: depth.queued, tenant: depth.tenant })
            .collect(),
        finished_per_second,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_the_narrowest_bound() {
        assert_eq!(queued_for(9, 10, 9, None), WaitingFor::Dispatch);
        assert_eq!(queued_for(10, 10, 1, None), WaitingFor::Cap);
        assert_eq!(queued_for(10, 10, 2, Some(2)), WaitingFor::TenantLimit);
        assert_eq!(queued_for(2, 10, 0, Some(0)), WaitingFor::TenantLimit);
        assert_eq!(queued_for(0, 0, 0, None), WaitingFor::Cap);
    }
}
