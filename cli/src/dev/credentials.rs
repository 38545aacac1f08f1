//! The private stack's own secrets: made once, kept across restarts in a file that only its owner may read.

use super::error::DevError;
use super::folder::write_private;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    pub postgres_password: String,
    pub redis_password: String,
    pub s3_access_key_id: String,
    pub s3_secret_access_key: String,
    /// The key for people; nothing until the first start has made it.
    #[serde(default)]
    pub api_key: Option<String>,
}

impl Credentials {
    pub fn generate() -> Self {
        Self {
            postgres_password: random_hex(),
            redis_password: random_hex(),
            s3_access_key_id: format!("dev{}", &random_hex()[..17]),
            s3_secret_access_key: random_hex(),
            api_key: None,
        }
    }

    /// Those in the file; nothing when there is no file yet.
    pub fn load(path: &Path) -> Result<Option<Self>, DevError> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DevError::io(path.display())(error)),
        };
        let invalid = |e: serde_json::Error| DevError::io(path.display())(e.into());
        serde_json::from_slice(&text).map(Some).map_err(invalid)
    }

    pub fn save(&self, path: &Path) -> Result<(), DevError> {
        let text = serde_json::to_vec_pretty(self).map_err(|e| DevError::io(path.display())(e.into()))?;
        write_private(path, &text)
    }
}

/// 192 random bits. Hex, so that it can stand in a URL, a configuration file and a command as it is.
fn random_hex() -> String {
    hex::encode(rand::random::<[u8; 24]>())
}
