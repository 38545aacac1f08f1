//! A submission too long to be held: its input goes to the object store as it arrives, the rest of it is kept.
//!
//! Invariants: memory does not grow with the input; an object is complete only if the text around it was whole, and is deleted when the request is
//! refused or its client goes away before its row is on its way to the database.

use super::decode;
use super::definition::Definitions;
use super::idempotency::Flight;
use super::members::Members;
use super::payload::{Payload, not_stored};
use super::resolve::InputRow;
use super::split::Splitter;
use super::{
    MAX_BUFFERED_BYTES, MAX_INLINE_BYTES, MAX_OTHERS_BYTES, input_too_large, made, record, traceparent, undecided,
};
use crate::auth::Principal;
use crate::json_body::{self, Arriving, announced_length, too_large};
use crate::problem::Problem;
use crate::state::App;
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use roadstead_backend::objects::{Objects, ObjectsError};
use roadstead_backend::store::query::Execution;
use roadstead_backend::store::submit::IdempotencyKey;
use roadstead_domain::decode::Errors;
use roadstead_domain::ids::ExecutionId;
use roadstead_domain::json::Scanner;
use sha2::{Digest, Sha256};
use std::io;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Pieces between the socket and the object store.
const MAX_PIECES: usize = 4;

/// A body whose beginning was read.
pub enum Begun {
    Whole(Bytes),
    /// There is more of it.
    Long(Bytes),
}

/// Reads as much as is read whole.
pub async fn begin(request: &HttpRequest, body: &mut web::Payload, max_input_bytes: u64) -> Result<Begun, Problem> {
    let max_bytes = max_input_bytes + MAX_OTHERS_BYTES as u64;
    let announced = announced_length(request).unwrap_or(0);
    if announced > max_bytes {
        return Err(too_large(max_bytes));
    }
    let mut pieces = Arriving::new(body);
    let Some(first) = pieces.next().await? else { return Ok(Begun::Whole(Bytes::new())) };
    // The common case: one piece, nothing copied.
    if first.len() as u64 == announced {
        return Ok(Begun::Whole(first));
    }
    let mut head = BytesMut::from(&first[..]);
    while head.len() <= MAX_BUFFERED_BYTES {
        match pieces.next().await? {
            Some(piece) => head.extend_from_slice(&piece),
            None => return Ok(Begun::Whole(head.freeze())),
        }
    }
    Ok(Begun::Long(head.freeze()))
}

pub async fn submit(
    app: &App,
    principal: &Principal,
    request: &HttpRequest,
    key: Option<String>,
    head: Bytes,
    body: web::Payload,
) -> Result<Execution, Problem> {
    let flight: Option<Flight> =
        key.as_deref().map(|key| app.in_flight.begin(principal.tenant_name(), key)).transpose()?;
    let id = ExecutionId::new();
    let max_input_bytes = app.config.executions.max_input_bytes;
    let sink = Sink::new(&app.objects, principal.tenant_name(), id, max_input_bytes);
    let taken = take(head, body, sink, key.is_some(), max_input_bytes).await?;

    let mut errors = Errors::default();
    let members = Members::of(&taken.others, "", &mut errors).map_err(|error| json_body::invalid(&error))?;
    let wanted = decode::decode(members, "", &mut Definitions::new(&app.definitions), &mut errors);
    let wanted = errors.into_result(wanted).map_err(Problem::fields)?.ok_or_else(undecided)?;
    let mut execution = made(app, principal, id, wanted, taken.row).await?;
    execution.traceparent = traceparent(request);
    let idempotency = key.zip(taken.fingerprint).map(|(key, fingerprint)| IdempotencyKey { key, fingerprint });
    let answer = record(app, principal, idempotency, execution, taken.payload).await;
    drop(flight);
    answer
}

/// What came of a body.
struct Taken {
    others: String,
    row: InputRow,
    payload: Option<Payload>,
    fingerprint: Option<Vec<u8>>,
}

async fn take(
    head: Bytes,
    mut body: web::Payload,
    mut sink: Sink,
    with_fingerprint: bool,
    max_input_bytes: u64,
) -> Result<Taken, Problem> {
    let max_bytes = max_input_bytes + MAX_OTHERS_BYTES as u64;
    let mut scanner = Scanner::default();
    let mut splitter = Splitter::new(MAX_OTHERS_BYTES);
    let mut hash = with_fingerprint.then(Sha256::new);
    let mut arrived = 0;
    let mut pieces = Arriving::new(&mut body);
    let mut next = Some(head);
    while let Some(piece) = next {
        arrived += piece.len() as u64;
        if arrived > max_bytes {
            return Err(too_large(max_bytes));
        }
        scanner.feed(&piece).map_err(json_body::unacceptable)?;
        if let Some(hash) = &mut hash {
            hash.update(&piece);
        }
        for range in splitter.feed(&piece)? {
            sink.push(piece.slice(range)).await?;
        }
        next = pieces.next().await?;
    }
    let (others, had_input) = splitter.finish()?;
    let (row, payload) = sink.finish(had_input).await?;
    Ok(Taken { others, row, payload, fingerprint: hash.map(|hash| hash.finalize().to_vec()) })
}

/// Where an input goes: into memory while it is small, then to the object store.
struct Sink {
    objects: Objects,
    tenant: String,
    id: ExecutionId,
    max_bytes: u64,
    size_bytes: u64,
    small: BytesMut,
    upload: Option<Upload>,
}

struct Upload {
    /// `None`: that was all of it. A channel that closes without it was cut off.
    pieces: mpsc::Sender<Option<Bytes>>,
    task: JoinHandle<Result<Payload, ObjectsError>>,
}

impl Sink {
    fn new(objects: &Objects, tenant: &str, id: ExecutionId, max_bytes: u64) -> Self {
        let (objects, tenant) = (objects.clone(), tenant.to_owned());
        Self { objects, tenant, id, max_bytes, size_bytes: 0, small: BytesMut::new(), upload: None }
    }

    async fn push(&mut self, piece: Bytes) -> Result<(), Problem> {
        self.size_bytes += piece.len() as u64;
        if self.size_bytes > self.max_bytes {
            return Err(input_too_large("", self.max_bytes));
        }
        if self.upload.is_none() {
            if self.small.len() + piece.len() <= MAX_INLINE_BYTES {
                self.small.extend_from_slice(&piece);
                return Ok(());
            }
            let upload = self.begin_upload();
            let small = self.small.split().freeze();
            let upload = self.upload.insert(upload);
            upload.push(Some(small)).await?;
        }
        match &mut self.upload {
            Some(upload) => upload.push(Some(piece)).await,
            None => Ok(()),
        }
    }

    fn begin_upload(&self) -> Upload {
        let (pieces, arriving) = mpsc::channel(MAX_PIECES);
        let (objects, tenant, id) = (self.objects.clone(), self.tenant.clone(), self.id);
        let task = tokio::spawn(async move { Payload::put_stream(&objects, &tenant, id, content(arriving)).await });
        Upload { pieces, task }
    }

    async fn finish(self, had_input: bool) -> Result<(InputRow, Option<Payload>), Problem> {
        let size_bytes = self.size_bytes as i64;
        if let Some(upload) = self.upload {
            return Ok((InputRow { inline: None, size_bytes }, Some(upload.finish().await?)));
        }
        if !had_input {
            return Ok((InputRow::default(), None));
        }
        let inline = String::from_utf8(self.small.to_vec()).map_err(Problem::internal)?;
        Ok((InputRow { inline: Some(inline), size_bytes }, None))
    }
}

impl Upload {
    async fn push(&mut self, piece: Option<Bytes>) -> Result<(), Problem> {
        if self.pieces.send(piece).await.is_ok() {
            return Ok(());
        }
        // The task reads to the end unless the store failed it.
        match (&mut self.task).await {
            Ok(Err(error)) => Err(not_stored(error)),
            Ok(Ok(_)) | Err(_) => Err(Problem::internal("the upload of an input ended early")),
        }
    }

    async fn finish(mut self) -> Result<Payload, Problem> {
        self.push(None).await?;
        self.task.await.map_err(Problem::internal)?.map_err(not_stored)
    }
}

fn content(arriving: mpsc::Receiver<Option<Bytes>>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::unfold(Some(arriving), async |arriving| {
        let mut arriving = arriving?;
        match arriving.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(arriving))),
            Some(None) => None,
            None => Some((Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the request ended early")), None)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_body::tests::payload;
    use crate::problem::Kind;
    use futures_util::StreamExt;
    use roadstead_backend::config::{ApiConfig, Reader};

    fn silent_after(piece: &'static [u8]) -> impl Stream<Item = &'static [u8]> {
        stream::iter([piece]).chain(stream::pending())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_not_waited_for_at_the_beginning() {
        let (request, mut body) = payload(silent_after(b"{")).await;
        let refusal = begin(&request, &mut body, 1 << 20).await.err().unwrap();
        assert_eq!(refusal.kind(), Kind::RequestTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_falls_silent_is_not_waited_for_amid_its_input() {
        let variables = [
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
            ("REDIS_URL", "redis://127.0.0.1:1"),
            ("S3_ENDPOINT", "http://127.0.0.1:1"),
            ("S3_REGION", "us-east-1"),
            ("S3_ACCESS_KEY_ID", "nobody"),
            ("S3_SECRET_ACCESS_KEY", "nothing"),
            ("META_BUCKET_NAME", "meta"),
            ("CONTENT_BUCKET_NAME", "content"),
        ];
        let mut reader = Reader::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let config = ApiConfig::read(&mut reader);
        let objects = Objects::new(&reader.finish(config).unwrap().objects).unwrap();
        let sink = Sink::new(&objects, "t", ExecutionId::new(), 1 << 20);
        let (_, body) = payload(silent_after(b"1,")).await;
        let refusal = take(Bytes::from_static(b"{\"input\":["), body, sink, false, 1 << 20).await.err().unwrap();
        assert_eq!(refusal.kind(), Kind::RequestTimeout);
    }
}
