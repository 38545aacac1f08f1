//! API keys: stored as SHA-256, shown once.

use super::statement::statement;
use super::tenants::Tenant;
use super::{Connection, StoreResult};
use chrono::{DateTime, Utc};
use diesel::sql_types::{Binary, Bool, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{OptionalExtension, QueryableByName};
use diesel_async::RunQueryDsl;
use std::time::Duration;
use uuid::Uuid;

/// How long a server may go on believing what it read of a key: a revocation is in force everywhere after this.
pub const BELIEF: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, QueryableByName)]
pub struct Key {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub role: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    pub revoked: bool,
    #[diesel(embed)]
    pub tenant: Tenant,
}

const FIND: &str = "
SELECT k.id, k.role, k.expires_at, k.revoked_at IS NOT NULL AS revoked, t.name, t.weight, t.max_concurrent, t.max_queued
FROM api_keys k JOIN tenants t ON t.name = k.tenant WHERE k.hash = {}";

/// By the SHA-256 of the whole key.
pub async fn find(connection: &mut Connection, hash: &[u8]) -> StoreResult<Option<Key>> {
    Ok(statement(FIND).bind::<Binary, _>(hash.to_vec()).get_result(connection).await.optional()?)
}

pub async fn create(
    connection: &mut Connection,
    tenant: &str,
    role: &str,
    prefix: &str,
    hash: &[u8],
    expires_at: Option<DateTime<Utc>>,
) -> StoreResult<Uuid> {
    let id = Uuid::now_v7();
    super::tenants::set(connection, tenant, super::tenants::Change::default()).await?;
    statement("INSERT INTO api_keys (id, tenant, role, prefix, hash, expires_at) VALUES ({}, {}, {}, {}, {}, {})")
        .bind::<SqlUuid, _>(id)
        .bind::<Text, _>(tenant.to_owned())
        .bind::<Text, _>(role.to_owned())
        .bind::<Text, _>(prefix.to_owned())
        .bind::<Binary, _>(hash.to_vec())
        .bind::<Nullable<Timestamptz>, _>(expires_at)
        .execute(connection)
        .await?;
    Ok(id)
}

/// A key as it is listed: never the key itself.
#[derive(Clone, Debug, QueryableByName)]
pub struct Listed {
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    #[diesel(sql_type = Text)]
    pub tenant: String,
    #[diesel(sql_type = Text)]
    pub role: String,
    #[diesel(sql_type = Text)]
    pub prefix: String,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub expires_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub revoked_at: Option<DateTime<Utc>>,
}

pub async fn list(connection: &mut Connection) -> StoreResult<Vec<Listed>> {
    Ok(statement(
        "SELECT id, tenant, role, prefix, created_at, expires_at, revoked_at FROM api_keys ORDER BY tenant, created_at",
    )
    .load(connection)
    .await?)
}

const REVOKE: &str =
    "UPDATE api_keys SET revoked_at = now() WHERE (id::text = {} OR prefix = {} OR hash = {}) AND revoked_at IS NULL";

/// Revokes by id, by prefix, or by the SHA-256 of the key itself; answers how many keys that were.
pub async fn revoke(connection: &mut Connection, id_or_prefix: &str, hash: &[u8]) -> StoreResult<usize> {
    Ok(statement(REVOKE)
        .bind::<Text, _>(id_or_prefix.to_owned())
        .bind::<Text, _>(id_or_prefix.to_owned())
        .bind::<Binary, _>(hash.to_vec())
        .execute(connection)
        .await?)
}
