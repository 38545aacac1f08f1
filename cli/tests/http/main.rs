//! The program against an API that says what a test wants it to say: statuses, retries, streams, and what goes where.

mod download;
mod failures;
mod logs;
mod server;
mod submit;
mod watch;
