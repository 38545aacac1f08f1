//! How full the system is: for `GET /v1/capacity`, the metrics and the quotas.

use super::statement::statement;
use super::{Connection, StoreResult};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Double, Nullable, SmallInt, Text};
use diesel_async::RunQueryDsl;
use roadstead_domain::execution::Priority;

/// Executions that wait, by tenant and priority.
#[derive(Clone, Debug, QueryableByName)]
pub struct Depth {
    #[diesel(sql_type = Text)]
    pub tenant: String,
    #[diesel(sql_type = SmallInt)]
    rank: i16,
    #[diesel(sql_type = BigInt)]
    pub queued: i64,
    /// Seconds that the oldest has waited.
    #[diesel(sql_type = Nullable<Double>)]
    pub oldest_age_seconds: Option<f64>,
}

impl Depth {
    pub const fn priority(&self) -> Priority {
        Priority::from_rank(self.rank)
    }
}

/// Queued rows are found in two partial indexes, each of which a part of the union names: the table itself is mostly history.
const DEPTHS: &str = "
SELECT tenant, priority AS rank, count(*) AS queued, extract(epoch FROM now() - min(queued_at))::float8 AS oldest_age_seconds
FROM (SELECT tenant, priority, queued_at FROM executions WHERE state = 'queued' AND enqueued
      UNION ALL SELECT tenant, priority, queued_at FROM executions WHERE state = 'queued' AND NOT enqueued) AS queued
GROUP BY tenant, priority";

/// A statement of its own: statements are planned without their parameters, and a tenant that may be NULL leads to no range of an index.
const DEPTHS_OF_TENANT: &str = "
SELECT tenant, priority AS rank, count(*) AS queued, extract(epoch FROM now() - min(queued_at))::float8 AS oldest_age_seconds
FROM (SELECT tenant, priority, queued_at FROM executions WHERE tenant = {} AND state = 'queued' AND enqueued
      UNION ALL SELECT tenant, priority, queued_at FROM executions WHERE tenant = {} AND state = 'queued' AND NOT enqueued) AS queued
GROUP BY tenant, priority";

/// Of one tenant, or of all.
pub async fn depths(connection: &mut Connection, tenant: Option<&str>) -> StoreResult<Vec<Depth>> {
    let depths = match tenant {
        Some(tenant) => {
            statement(DEPTHS_OF_TENANT).bind::<Text, _>(tenant.to_owned()).bind::<Text, _>(tenant.to_owned())
        }
        None => statement(DEPTHS),
    };
    Ok(depths.load(connection).await?)
}

/// Executions finished in the last minute, a second.
#[derive(Clone, Copy, Debug, QueryableByName)]
struct Rate {
    #[diesel(sql_type = Double)]
    per_second: f64,
}

pub async fn recent_rate(connection: &mut Connection) -> StoreResult<f64> {
    let row: Rate = statement(
        "SELECT (count(*) / 60.0)::float8 AS per_second FROM executions
         WHERE finished_at IS NOT NULL AND finished_at > now() - interval '60 seconds'",
    )
    .get_result(connection)
    .await?;
    Ok(row.per_second)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A tenant's waiting executions, counted no further than `bound`.
pub async fn waiting(connection: &mut Connection, tenant: &str, bound: i64) -> StoreResult<i64> {
    let row: Count = statement(
        "SELECT count(*) AS count FROM (
             SELECT 1 FROM executions WHERE tenant = {} AND state = 'queued' AND enqueued
             UNION ALL SELECT 1 FROM executions WHERE tenant = {} AND state = 'queued' AND NOT enqueued
             UNION ALL SELECT 1 FROM executions WHERE tenant = {} AND state = 'scheduled' LIMIT {}) AS waiting",
    )
    .bind::<Text, _>(tenant.to_owned())
    .bind::<Text, _>(tenant.to_owned())
    .bind::<Text, _>(tenant.to_owned())
    .bind::<BigInt, _>(bound)
    .get_result(connection)
    .await?;
    Ok(row.count)
}
