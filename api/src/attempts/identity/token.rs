//! A pod's token: a JWS in its compact form (RFC 7515) with the claims of a projected ServiceAccount token.
//!
//! Its claims can be had from a checked signature only. The algorithm is the key's; what the token says of it must agree and decides nothing.

use super::key::{Algorithm, Key};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use roadstead_domain::attempt::placement::{TOKEN_AUDIENCE, attempt_of_pod};
use roadstead_domain::ids::AttemptId;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// A pod's token has one or two thousand.
const MAX_BYTES: usize = 16 << 10;
/// Machines' clocks differ. As much as the cluster's own API server allows, so that it never takes a token that is refused here for its time; and little
/// beside the ten minutes that a pod's token is valid at least.
const LEEWAY_SECONDS: i64 = 60;

/// For the log; whoever showed the token is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproven {
    #[error("it is not a signed token")]
    Malformed,
    #[error("it is not signed in one of the ways that a cluster signs")]
    Algorithm,
    #[error("the cluster does not publish the key that it names")]
    UnknownKey,
    #[error("its signature is not the key's")]
    Signature,
    #[error("it lacks claims of a pod's token")]
    Claims,
    #[error("it is not of this cluster's issuer")]
    Issuer,
    #[error("it is not for this audience")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("its pod is not one of the attempt's")]
    Pod,
    #[error("there is no such attempt")]
    UnknownAttempt,
    #[error("it is not of the namespace of the tenant's attempts")]
    Namespace,
    #[error("it is not the executors' service account's")]
    ServiceAccount,
}

impl Unproven {
    /// Whether it can't be had at will: the rest is what anybody may send, as often as they like.
    pub fn is_worth_a_line(self) -> bool {
        !matches!(self, Self::Malformed | Self::Algorithm | Self::Signature)
    }
}

/// Not checked yet.
pub struct Token<'a> {
    header: Header,
    signed: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: Algorithm,
    kid: String,
    /// What must be understood to judge the token: nothing of that is understood here.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
pub struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    nbf: i64,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Bound {
    namespace: String,
    pod: Pod,
}

#[derive(Debug, Deserialize)]
struct Pod {
    name: String,
}

impl<'a> Token<'a> {
    pub fn read(text: &'a str) -> Result<Self, Unproven> {
        if text.len() > MAX_BYTES {
            return Err(Unproven::Malformed);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Unproven::Malformed)?;
        let (header, claims) =
            signed.split_once('.').filter(|(_, rest)| !rest.contains('.')).ok_or(Unproven::Malformed)?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| Unproven::Malformed)?;
        let header: Header = part(header).ok_or(Unproven::Algorithm)?;
        if header.crit.is_some() {
            return Err(Unproven::Algorithm);
        }
        Ok(Self { header, signed, claims, signature })
    }

    pub fn key_id(&self) -> &str {
        &self.header.kid
    }

    pub fn verified(&self, key: &Key) -> Result<Claims, Unproven> {
        if self.header.alg != key.algorithm() {
            return Err(Unproven::Algorithm);
        }
        if !key.has_signed(self.signed.as_bytes(), &self.signature) {
            return Err(Unproven::Signature);
        }
        part(self.claims).ok_or(Unproven::Claims)
    }
}

impl Claims {
    pub fn issuer(&self) -> &str {
        &self.iss
    }

    /// Whether it is for this audience, at this time (seconds since the Unix epoch).
    pub fn check(&self, now: i64) -> Result<(), Unproven> {
        let for_us = match &self.aud {
            Audience::One(audience) => audience == TOKEN_AUDIENCE,
            Audience::Many(audiences) => audiences.iter().any(|audience| audience == TOKEN_AUDIENCE),
        };
        if !for_us {
            return Err(Unproven::Audience);
        }
        if now.saturating_sub(LEEWAY_SECONDS) >= self.exp {
            return Err(Unproven::Expired);
        }
        if now.saturating_add(LEEWAY_SECONDS) < self.nbf {
            return Err(Unproven::Early);
        }
        Ok(())
    }

    /// Whether it is bound to a pod that the attempt's Job made.
    pub fn check_pod(&self, attempt: AttemptId) -> Result<(), Unproven> {
        if attempt_of_pod(&self.bound.pod.name) == Some(attempt) { Ok(()) } else { Err(Unproven::Pod) }
    }

    pub fn check_account(&self, namespace: &str, service_account: &str) -> Result<(), Unproven> {
        if self.bound.namespace != namespace {
            return Err(Unproven::Namespace);
        }
        let subject = format!("system:serviceaccount:{namespace}:{service_account}");
        if self.sub == subject { Ok(()) } else { Err(Unproven::ServiceAccount) }
    }
}

fn part<T: DeserializeOwned>(encoded: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(encoded).ok()?).ok()
}
