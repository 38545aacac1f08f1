//! The input, as the file that `ROADSTEAD_INPUT` names: the submitted bytes, streamed when they are many.

use crate::api::retry::retry;
use crate::http::{Body, Client, Failure};
use crate::workspace::Workspace;
use hyper::Request;
use roadstead_domain::attempt::protocol::Input;
use std::fs::File;
use std::io::{Seek, Write};
use std::time::Duration;

/// A store that sends nothing for this long has lost the download.
const IDLE: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("the input can't be written: {0}")]
    Write(#[from] std::io::Error),
    #[error("the input can't be fetched: {0}")]
    Fetch(#[from] Failure),
}

pub async fn lay(input: &Input, workspace: &Workspace, client: &Client) -> Result<(), InputError> {
    match input {
        Input::Inline(document) => workspace.lay_input(document.get().as_bytes())?,
        Input::Url { url, size_bytes } => {
            let file = workspace.create_input()?;
            retry(PATIENCE, |_| true, || async { fetch(client, url, *size_bytes, &file).await }).await?;
        }
    }
    Ok(())
}

/// One try, from the beginning.
async fn fetch(client: &Client, url: &str, size_bytes: u64, mut file: &File) -> Result<(), InputError> {
    file.rewind()?;
    file.set_len(0)?;
    let unlike = |what: String| InputError::Fetch(Failure::Unreachable(what));
    let request = Request::get(url).body(Body::empty()).map_err(|_| Failure::BadUrl("its URL is not one"))?;
    let mut received = 0;
    let status = client
        .receive(request, IDLE, |piece| {
            received += piece.len() as u64;
            if received > size_bytes {
                return Err(Failure::Unreachable(format!("it is longer than {size_bytes} bytes")));
            }
            file.write_all(piece).map_err(|error| Failure::Unreachable(format!("it can't be written: {error}")))
        })
        .await?;
    if !status.is_success() {
        return Err(unlike(format!("the object store answered {status}")));
    }
    if received != size_bytes {
        return Err(unlike(format!("{received} of {size_bytes} bytes came")));
    }
    Ok(())
}
