//! Workspaces whose executor could not remove them: it was killed, or the machine went down with it.

use roadstead_domain::ids::AttemptId;
use roadstead_folder::remove_all;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DOOMED: &str = "doomed";

/// Workspaces below `root` that nobody has touched for `age`, with the attempts that they are of.
pub async fn leftovers(root: PathBuf, age: Duration) -> io::Result<Vec<(AttemptId, PathBuf)>> {
    unblocked(move || {
        let folders = match fs::read_dir(&root) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let old = |path: &Path| {
            let changed = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
            Some(SystemTime::now().duration_since(changed).unwrap_or_default() >= age)
        };
        let attempt = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let attempt = attempt_in(Path::new(&entry.file_name()).with_extension("").to_str()?)?;
            old(&entry.path())?.then_some((attempt, entry.path()))
        };
        Ok(folders.filter_map(attempt).collect())
    })
    .await
}

/// As an attempt's id is written: `<execution>-<attempt>`.
fn attempt_in(name: &str) -> Option<AttemptId> {
    let (execution, attempt) = name.rsplit_once('-')?;
    Some(AttemptId { execution_id: execution.parse().ok()?, attempt: attempt.parse().ok()? })
}

/// Removes a workspace, also what steps made hard to remove. One that is not there is removed. Its executor may be putting it away for another attempt
/// meanwhile: whoever renames it has it.
pub async fn remove(folder: PathBuf) -> io::Result<()> {
    unblocked(move || {
        let folder = match fs::rename(&folder, doomed(&folder)) {
            Ok(()) => doomed(&folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => folder,
        };
        match remove_all(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    })
    .await
}

/// What a workspace is called while it is removed: still its attempt's, should this end in the middle.
fn doomed(folder: &Path) -> PathBuf {
    if folder.extension().is_some_and(|extension| extension == DOOMED) {
        folder.to_owned()
    } else {
        folder.with_extension(DOOMED)
    }
}

async fn unblocked<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use roadstead_domain::ids::ExecutionId;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn only_old_folders_with_an_attempts_name_are_leftovers() {
        let root = tempfile::tempdir().unwrap();
        let attempt = AttemptId { execution_id: ExecutionId::new(), attempt: 12 };
        let folder = root.path().join(attempt.to_string());
        for name in [folder.clone(), root.path().join("something-else"), root.path().join("12")] {
            fs::create_dir(name).unwrap();
        }
        let found = leftovers(root.path().to_owned(), Duration::ZERO).await.unwrap();
        assert_eq!(found, [(attempt, folder.clone())]);
        assert!(leftovers(root.path().to_owned(), Duration::from_secs(60)).await.unwrap().is_empty());
        assert!(leftovers(root.path().join("none"), Duration::ZERO).await.unwrap().is_empty());

        fs::create_dir(folder.join("closed")).unwrap();
        fs::write(folder.join("closed/file"), "x").unwrap();
        fs::set_permissions(folder.join("closed"), Permissions::from_mode(0o000)).unwrap();
        remove(folder.clone()).await.unwrap();
        assert!(!folder.exists() && !doomed(&folder).exists());
        remove(folder.clone()).await.unwrap();

        fs::create_dir(doomed(&folder)).unwrap();
        let found = leftovers(root.path().to_owned(), Duration::ZERO).await.unwrap();
        assert_eq!(found, [(attempt, doomed(&folder))], "somebody ended in the middle");
        remove(doomed(&folder)).await.unwrap();
        assert!(!doomed(&folder).exists());
    }
}
