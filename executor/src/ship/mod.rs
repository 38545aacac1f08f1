//! Everything that leaves the attempt for the object store: its log, its artifacts, its result.
//!
//! Memory is flat whatever the sizes are: files are read in a few chunks at a time.

pub mod artifact;
pub mod chunks;
mod hash;
pub mod log;
pub mod put;
pub mod result;

use crate::api::ApiError;
use crate::http::Failure;
use std::io;
use std::path::PathBuf;

/// Why something was not shipped.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the object store did not answer: {0}")]
    Unreachable(#[from] Failure),
    #[error("the object store refused: {0}")]
    Store(String),
    #[error("`{}` can't be read: {error}", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("the artifact `{path}` could not be kept: {error}")]
    Artifact { path: String, error: Box<ShipError> },
}

impl ShipError {
    /// Whether another try, with a fresh URL, may help. A store's refusal may: the URL may have expired on the way.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api(error) => error.is_passing(),
            Self::Unreachable(_) | Self::Store(_) => true,
            Self::Unreadable { .. } => false,
            Self::Artifact { error, .. } => error.is_passing(),
        }
    }

    /// The same of one artifact. That the attempt is no longer current is nothing about an artifact.
    fn of_artifact(self, path: &str) -> Self {
        match self {
            Self::Api(ApiError::Gone) => self,
            error => Self::Artifact { path: path.to_owned(), error: Box::new(error) },
        }
    }
}
