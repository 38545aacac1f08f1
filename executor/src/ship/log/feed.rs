//! One pipe of one step, read no faster than the spool takes it.

use super::lines::{Encoder, Lines};
use super::{Inner, Log, READ_BYTES};
use crate::clock;
use roadstead_domain::attempt::protocol::Stream;
use std::io;
use std::os::fd::OwnedFd;
use tokio::net::unix::pipe::Receiver;

#[derive(Debug)]
pub struct Feed {
    /// `None` once the last writer closed its end.
    pipe: Option<Receiver>,
    lines: Lines,
    encoder: Encoder,
}

impl Feed {
    pub fn new(pipe: OwnedFd, step: &str, stream: Stream, log: &Log) -> io::Result<Self> {
        Ok(Self {
            pipe: Some(Receiver::from_owned_fd(pipe)?),
            lines: Lines::new(log.max_line_bytes),
            encoder: Encoder::new(step, stream),
        })
    }

    /// Reads until the last writer closed its end. May be dropped and called again.
    pub async fn flow(&mut self, log: &Log) {
        while let Some(pipe) = &self.pipe {
            let open = pipe.readable().await.is_ok() && self.take(log);
            if !open {
                self.pipe = None;
            }
        }
    }

    /// Ends the last line, if it has no end of its own.
    pub fn finish(mut self, log: &Log) {
        let moment_ms = clock::wall_ms();
        log.write(|spool| self.lines.finish(|line| spool.add(&mut self.encoder, moment_ms, line)));
    }

    /// Takes what is there, up to one buffer; answers whether more may come.
    fn take(&mut self, log: &Log) -> bool {
        let Some(pipe) = &self.pipe else { return false };
        let mut inner = log.lock();
        let mut buffer = std::mem::take(&mut inner.read_buffer);
        drop(inner);
        buffer.clear();
        // Reserved, not filled: a step that prints nothing touches none of it.
        buffer.reserve(READ_BYTES);
        let open = match pipe.try_read_buf(&mut buffer) {
            Ok(0) => false,
            Ok(_) => {
                let moment_ms = clock::wall_ms();
                log.write(|spool| {
                    self.lines.feed(&buffer, |line| spool.add(&mut self.encoder, moment_ms, line));
                });
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        let Inner { read_buffer, .. } = &mut *log.lock();
        *read_buffer = buffer;
        open
    }
}
