//! What the steps left to be kept: regular files only, by paths that are good in every place they will be shown in.
//!
//! Refuses instead of skipping: a file that silently is not there is found out too late.

use roadstead_domain::attempt::protocol::Limits;
use roadstead_domain::workflow::validate::is_relative_path;
use std::fs;
use std::io;
use std::path::Path;

/// Folders hold no artifacts of their own, so they need a bound of their own.
const MAX_FOLDERS: u32 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Relative, with `/` between its parts.
    pub path: String,
    pub size_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    #[error("{0}")]
    Limit(String),
    #[error("the artifact {path:?} {problem}")]
    Invalid { path: String, problem: &'static str },
    #[error("the artifacts can't be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// All artifacts below `root`, by path.
pub fn walk(root: &Path, limits: &Limits) -> Result<Vec<Found>, WalkError> {
    match fs::symlink_metadata(root) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            return Err(WalkError::Invalid { path: ".".to_owned(), problem: "folder was replaced by something else" });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    let mut folders_seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = relative(&folder, &entry.file_name())?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders_seen += 1;
                if folders_seen > MAX_FOLDERS {
                    return Err(WalkError::Limit(format!("there are more than {MAX_FOLDERS} folders of artifacts")));
                }
                folders.push(path);
            } else if kind.is_file() {
                let size_bytes = fs::symlink_metadata(entry.path())?.len();
                check(&found, &path, size_bytes, limits)?;
                found.push(Found { path, size_bytes });
            } else {
                let problem = if kind.is_symlink() {
                    "is a symbolic link; only regular files are uploaded"
                } else {
                    "is not a regular file; nothing else is uploaded"
                };
                return Err(WalkError::Invalid { path, problem });
            }
        }
    }
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn relative(folder: &str, name: &std::ffi::OsStr) -> Result<String, WalkError> {
    let invalid = |path: String, problem| Err(WalkError::Invalid { path, problem });
    let join = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let Some(readable) = name.to_str() else {
        return invalid(join(&name.to_string_lossy()), "has a name that is not UTF-8");
    };
    let path = join(readable);
    if !is_relative_path(&path) {
        return invalid(
            path.chars().take(300).collect(),
            "has a path that is longer than 255 bytes or holds control characters",
        );
    }
    Ok(path)
}

fn check(found: &[Found], path: &str, size_bytes: u64, limits: &Limits) -> Result<(), WalkError> {
    let Limits { max_artifacts, max_artifact_bytes, .. } = limits;
    if found.len() >= *max_artifacts as usize {
        return Err(WalkError::Limit(format!("there are more than {max_artifacts} artifacts")));
    }
    if size_bytes > *max_artifact_bytes {
        return Err(WalkError::Limit(format!(
            "the artifact {path:?} is {size_bytes} bytes; at most {max_artifact_bytes} are accepted"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    fn limits(max_artifacts: u32, max_artifact_bytes: u64) -> Limits {
        Limits {
            max_line_bytes: 0,
            segment_bytes: 0,
            max_log_bytes: 0,
            max_result_bytes: 0,
            inline_result_bytes: 0,
            max_artifacts,
            max_artifact_bytes,
            part_bytes: 0,
        }
    }

    #[test]
    fn files_of_all_folders_are_found_by_path() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("b/empty")).unwrap();
        fs::write(root.path().join("b/x y.txt"), "12").unwrap();
        fs::write(root.path().join("a"), "").unwrap();
        let found = walk(root.path(), &limits(2, 2)).unwrap();
        let expected = [("a", 0), ("b/x y.txt", 2)].map(|(path, size_bytes)| Found { path: path.into(), size_bytes });
        assert_eq!(found, expected);
        assert!(matches!(walk(root.path(), &limits(1, 2)), Err(WalkError::Limit(_))));
        assert!(matches!(walk(root.path(), &limits(2, 1)), Err(WalkError::Limit(_))));
    }

    #[test]
    fn a_folder_that_a_step_removed_holds_nothing_and_one_that_it_replaced_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("artifacts");
        assert_eq!(walk(&root, &limits(9, 9)).unwrap(), []);
        symlink("/etc", &root).unwrap();
        assert!(matches!(walk(&root, &limits(9, 9)), Err(WalkError::Invalid { .. })));
    }

    #[test]
    fn what_can_not_be_kept_is_refused_by_name() {
        type Lay = fn(&Path) -> io::Result<()>;
        let lays: [(&str, Lay); 4] = [
            ("\"d/link\" is a symbolic link", |d| symlink("/etc/passwd", d.join("link"))),
            ("not UTF-8", |d| fs::write(d.join(std::ffi::OsStr::from_bytes(b"\xff")), "")),
            ("control characters", |d| fs::write(d.join("a\nb"), "")),
            ("\"d/socket\" is not a regular file", |d| {
                std::os::unix::net::UnixListener::bind(d.join("socket")).map(|_| ())
            }),
        ];
        for (words, lay) in lays {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("d")).unwrap();
            lay(&root.path().join("d")).unwrap();
            let error = walk(root.path(), &limits(9, 9)).unwrap_err();
            assert!(matches!(error, WalkError::Invalid { .. }));
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
