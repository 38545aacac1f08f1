//! An input that is an object: stored before its row is committed, deleted when no row will name it.

use crate::problem::Problem;
use bytes::Bytes;
use roadstead_backend::objects::{Objects, ObjectsError, Store, layout};
use roadstead_domain::ids::ExecutionId;

const CONTENT_TYPE: &str = "application/json";

/// A stored input. Dropped before it is kept, it is deleted.
#[derive(Debug)]
pub struct Payload {
    kept: Option<Kept>,
}

/// A stored input that a row may name.
#[derive(Clone)]
pub struct Kept {
    objects: Objects,
    key: String,
}

impl Payload {
    /// Stores what is in memory.
    pub async fn put(objects: &Objects, tenant: &str, id: ExecutionId, content: Bytes) -> Result<Self, Problem> {
        let key = layout::payload(tenant, id);
        objects.put(Store::Content, &key, content, CONTENT_TYPE).await.map_err(not_stored)?;
        Ok(Self { kept: Some(Kept { objects: objects.clone(), key }) })
    }

    /// Stores what streams in, in a task of its own: it ends, and cleans up, whatever becomes of the request.
    pub async fn put_stream<S>(
        objects: &Objects,
        tenant: &str,
        id: ExecutionId,
        content: S,
    ) -> Result<Self, ObjectsError>
    where
        S: futures_util::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let kept = Kept { objects: objects.clone(), key: layout::payload(tenant, id) };
        kept.objects.put_stream(Store::Content, &kept.key, CONTENT_TYPE, Box::pin(content)).await?;
        Ok(Self { kept: Some(kept) })
    }

    /// From here on only [`Kept::delete`] deletes it.
    pub fn keep(mut self) -> Kept {
        self.kept.take().expect("only this consumes it")
    }
}

impl Kept {
    /// In the background. What can't be deleted is an object that nothing names; it costs its space.
    pub fn delete(self) {
        tokio::spawn(async move {
            let _ = self.objects.delete(Store::Content, &self.key).await;
        });
    }
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.take() {
            kept.delete();
        }
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("key", &self.key).finish_non_exhaustive()
    }
}

pub fn not_stored(error: ObjectsError) -> Problem {
    Problem::unavailable("the object store does not take the input; try again", error)
}
