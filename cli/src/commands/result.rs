//! `roadstead result`: the result document, byte for byte, streamed.

use super::{Session, execution_id};
use crate::args::Format;
use crate::client::{Call, Client};
use crate::failure::Failure;
use crate::output::Output;

pub async fn run(id: &str, session: &Session) -> Result<(), Failure> {
    print(&session.client()?, &execution_id(id)?, session.output).await
}

/// Prints the result and, if it has none, a line end.
pub async fn print(client: &Client, id: &str, output: Output) -> Result<(), Failure> {
    let mut response = client.download(Call::get(&["executions", id, "result"])).await?;
    let broke = |e: reqwest::Error| Failure::local("the result broke off", e.without_url());
    if output.format == Format::Yaml {
        let body = response.bytes().await.map_err(broke)?;
        return output.yaml(&body);
    }
    let mut last = None;
    while let Some(piece) = response.chunk().await.map_err(broke)? {
        last = piece.last().copied().or(last);
        output.foreign(&piece)?;
    }
    if last == Some(b'\n') { Ok(()) } else { output.raw(b"\n") }
}
