//! What a request carries: nothing much, or a stretch of a file that is never held whole.

use super::progress::Progress;
use crate::ship::chunks::Chunks;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// A request's body.
#[derive(Debug)]
pub enum Body {
    Whole(Option<Bytes>),
    /// Exactly `remaining` more bytes; the request fails when the file ends before.
    Streamed {
        chunks: Chunks,
        remaining: u64,
        progress: Progress,
    },
}

impl Body {
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(Some(bytes.into()).filter(|bytes: &Bytes| !bytes.is_empty()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed { remaining: 0, .. } => Poll::Ready(None),
            Self::Streamed { chunks, remaining, progress } => {
                let chunk = ready!(chunks.poll_next(cx))?;
                *remaining = remaining.saturating_sub(chunk.len() as u64);
                progress.made();
                if *remaining == 0 {
                    progress.sent();
                }
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None) | Self::Streamed { remaining: 0, .. })
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Self::Whole(bytes) => bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            Self::Streamed { remaining, .. } => *remaining,
        })
    }
}
