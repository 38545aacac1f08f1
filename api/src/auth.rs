//! Who asks: the API key's tenant and role.
//!
//! Invariant: a key is believed for [`BELIEF`] at most, so that a revocation is in force everywhere when `keys revoke` returns; expiry is checked at every
//! request. The key itself is neither stored nor logged; it is looked up by its SHA-256, which tells nothing through timing.

use crate::problem::{Kind, Problem};
use crate::state::App;
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use chrono::Utc;
use roadstead_backend::store::keys::{self, BELIEF, Key};
use roadstead_backend::store::tenants::Tenant;
use sha2::{Digest, Sha256};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use uuid::Uuid;

/// Every key begins with this.
pub const KEY_PREFIX: &str = "rsk_";
/// Most keys, known and unknown ones, that are remembered.
const MAX_REMEMBERED: u64 = 10_000;

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `GET` of everything of the tenant's.
    Read,
    /// Everything on executions and workflows of the tenant's.
    Submit,
    /// As `submit`, and `GET /v1/capacity` of all tenants.
    Admin,
}

impl Role {
    /// The CHECK on the column admits these words only.
    fn of(word: &str) -> Self {
        match word {
            "admin" => Self::Admin,
            "submit" => Self::Submit,
            _ => Self::Read,
        }
    }
}

/// The one who asks, as a handler's argument. A key of role `read` gets no further than this with anything but `GET`.
#[derive(Clone, Debug)]
pub struct Principal {
    pub tenant: Arc<Tenant>,
    pub role: Role,
    pub key_id: Uuid,
}

impl Principal {
    pub fn tenant_name(&self) -> &str {
        &self.tenant.name
    }
}

#[derive(Clone, Debug)]
struct Remembered {
    id: Uuid,
    role: Role,
    expires_at: Option<chrono::DateTime<Utc>>,
    revoked: bool,
    tenant: Arc<Tenant>,
}

/// What was read of keys in the last second; unknown ones too.
#[derive(Clone, Debug)]
pub struct KeyCache(moka::sync::Cache<[u8; 32], Option<Remembered>>);

impl Default for KeyCache {
    fn default() -> Self {
        Self(moka::sync::Cache::builder().max_capacity(MAX_REMEMBERED).time_to_live(BELIEF).build())
    }
}

impl FromRequest for Principal {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let request = request.clone();
        Box::pin(async move {
            let app = request.app_data::<web::Data<App>>().ok_or_else(|| Problem::internal("no application state"))?;
            let principal = identify(app, &request).await?;
            let reads = matches!(*request.method(), Method::GET | Method::HEAD);
            if principal.role == Role::Read && !reads {
                return Err(Problem::new(Kind::Forbidden, "a key with the role `read` may only GET"));
            }
            Ok(principal)
        })
    }
}

async fn identify(app: &App, request: &HttpRequest) -> Result<Principal, Problem> {
    if let Some(principal) = &app.everybody {
        return Ok(principal.clone());
    }
    let hash = Sha256::digest(bearer(request)?.as_bytes()).into();
    let remembered = match app.keys.0.get(&hash) {
        Some(remembered) => remembered,
        None => look_up(app, hash).await?,
    };
    let refused = |kind, detail| Err(Problem::new(kind, detail));
    match remembered {
        None => refused(Kind::Unauthenticated, "this API key is not known"),
        Some(key) if key.revoked => refused(Kind::KeyRevoked, "this API key was revoked; use another one"),
        Some(key) if key.expires_at.is_some_and(|at| at <= Utc::now()) => {
            refused(Kind::KeyExpired, "this API key has expired; use another one")
        }
        Some(key) => Ok(Principal { tenant: key.tenant, role: key.role, key_id: key.id }),
    }
}

async fn look_up(app: &App, hash: [u8; 32]) -> Result<Option<Remembered>, Problem> {
    let found =
        app.database.run(async |connection| keys::find(connection, &hash).await).await?.map(|key: Key| Remembered {
            id: key.id,
            role: Role::of(&key.role),
            expires_at: key.expires_at,
            revoked: key.revoked,
            tenant: Arc::new(key.tenant),
        });
    app.keys.0.insert(hash, found.clone());
    Ok(found)
}

/// The token of `Authorization: Bearer …`.
pub fn bearer(request: &HttpRequest) -> Result<&str, Problem> {
    let missing = |detail| Problem::new(Kind::Unauthenticated, detail);
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let header = headers.next().ok_or_else(|| missing("the header `Authorization: Bearer <key>` is missing"))?;
    if headers.next().is_some() {
        return Err(missing("the header `Authorization` is there twice"));
    }
    let malformed = || missing("the header `Authorization` must read `Bearer <key>`");
    let (scheme, token) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    let token = token.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() { Ok(token) } else { Err(malformed()) }
}
