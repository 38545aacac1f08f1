//! `roadstead artifacts`: what an execution left behind, listed or downloaded.

use super::{Session, execution_id};
use crate::args::{ArtifactsArgs, Format};
use crate::artifact_file::ArtifactFile;
use crate::client::{Call, Client};
use crate::failure::Failure;
use crate::model::{self, Artifact, Page};
use crate::output::Output;
use crate::progress;
use crate::table::{Kind, bytes, table};
use crate::terminal::{complain, harmless};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Pages of the list that are followed.
const MAX_PAGES: u32 = 10_000;

pub async fn run(args: &ArtifactsArgs, session: &Session) -> Result<(), Failure> {
    let id = execution_id(&args.id)?;
    let client = session.client()?;
    match &args.download {
        None => list(&client, &id, session.output).await,
        Some(folder) => download_all(&client, &id, folder, session.output).await,
    }
}

pub async fn list(client: &Client, id: &str, output: Output) -> Result<(), Failure> {
    let answer = client.document(Call::get(&["executions", id, "artifacts"])).await?;
    let page: Page = model::read(&answer)?;
    let artifacts = artifacts(&page)?;
    output.document(&answer, |palette| {
        let columns = [("PATH", Kind::Text), ("SIZE", Kind::Text), ("SHA-256", Kind::Text)];
        let row =
            |artifact: &Artifact| vec![artifact.path.clone(), bytes(artifact.size_bytes), artifact.sha256.clone()];
        table(&columns, &artifacts.iter().map(row).collect::<Vec<_>>(), palette)
    })
}

fn artifacts(page: &Page) -> Result<Vec<Artifact>, Failure> {
    page.items.iter().map(|item| model::read(item.get().as_bytes())).collect()
}

#[derive(Serialize)]
struct Saved {
    path: String,
    size_bytes: u64,
    sha256: String,
    file: PathBuf,
}

async fn download_all(client: &Client, id: &str, folder: &Path, output: Output) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|e| Failure::local(folder.display(), e))?;
    let (mut saved, mut failed) = (Vec::new(), Vec::new());
    let end = tokio::select! {
        end = save_all(client, id, folder, &mut saved, &mut failed) => end,
        // A download that is dropped removes its unfinished file.
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::Local("interrupted".to_owned())),
    };
    let shown = if saved.is_empty() && end.is_err() { Ok(()) } else { show(&saved, output) };
    for failure in &failed {
        complain(&failure.to_string());
    }
    end?;
    match failed.len() {
        0 => shown,
        n => Err(Failure::Local(format!("{n} of {} artifacts were not saved", n + saved.len()))),
    }
}

/// One that can't be saved does not keep the others from it.
async fn save_all(
    client: &Client,
    id: &str,
    folder: &Path,
    saved: &mut Vec<Saved>,
    failed: &mut Vec<Failure>,
) -> Result<(), Failure> {
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let call = Call::get(&["executions", id, "artifacts"]).query("cursor", cursor.as_deref());
        let page: Page = model::read(&client.document(call).await?)?;
        for artifact in artifacts(&page)? {
            match download(client, id, folder, &artifact).await {
                Ok(file) => {
                    let Artifact { path, size_bytes, sha256 } = artifact;
                    saved.push(Saved { path, size_bytes, sha256, file });
                }
                // Whoever is away, or lets nobody in, is so for the others too.
                Err(failure) if matches!(failure.exit_status(), 4 | 5) => return Err(failure),
                Err(failure) => failed.push(failure),
            }
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

fn show(saved: &[Saved], output: Output) -> Result<(), Failure> {
    if output.format == Format::Table {
        for one in saved {
            output.line(&harmless(&one.file.display().to_string()))?;
        }
        return Ok(());
    }
    let answer = serde_json::to_vec(&serde_json::json!({ "items": saved }));
    output.document(&answer.map_err(|e| Failure::local("can't write the list", e))?, |_| String::new())
}

async fn download(client: &Client, id: &str, folder: &Path, artifact: &Artifact) -> Result<PathBuf, Failure> {
    let mut file = ArtifactFile::create(folder, &artifact.path)?;
    let mut path = vec!["executions", id, "artifacts"];
    path.extend(artifact.path.split('/'));
    let mut response = client.download(Call::get(&path)).await?;
    let bar = progress::transfer(&artifact.path, artifact.size_bytes);
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|e| Failure::local(format_args!("the download of {} broke off", artifact.path), e.without_url()))?
    {
        file.write(&piece)?;
        bar.inc(piece.len() as u64);
    }
    bar.finish_and_clear();
    file.finish(artifact.size_bytes, &artifact.sha256)
}
