//! The token by which a pod proves its attempt: laid by the init container, and gone before anything of the workflow's runs.

use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A ServiceAccount token has one or two thousand; a header line with more is refused by most.
const MAX_BYTES: u64 = 16 * 1024;

/// None of them quotes the file's name or content: somebody may have taken one for the other.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token's file can't be read: {0}")]
    Unreadable(#[source] io::Error),
    #[error("the token's file can't be removed, so the workflow could find it: {0}")]
    Unremovable(#[source] io::Error),
    #[error("the token's file can't be removed, so the workflow could find it: it has another name, too")]
    Linked,
    #[error("the token's file holds something else")]
    NotAToken,
}

/// Reads the token and leaves it in no file.
pub fn take(path: &Path) -> Result<String, TokenError> {
    let unreadable = |error: rustix::io::Errno| TokenError::Unreadable(error.into());
    // A link would be removed instead of what it leads to, and a pipe would be waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(open(path, flags, Mode::empty()).map_err(unreadable)?);
    let token = read(&file);
    fs::remove_file(path).map_err(TokenError::Unremovable)?;
    if file.metadata().map_err(TokenError::Unremovable)?.nlink() > 0 {
        return Err(TokenError::Linked);
    }
    token
}

/// The token in a file that stays.
pub fn look(path: &Path) -> Result<String, TokenError> {
    read(&File::open(path).map_err(TokenError::Unreadable)?)
}

fn read(file: &File) -> Result<String, TokenError> {
    let mut text = String::new();
    match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(TokenError::NotAToken),
        Err(error) => return Err(TokenError::Unreadable(error)),
    }
    let token = text.trim_ascii_end();
    let is_one = (1..=MAX_BYTES as usize).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic());
    if is_one { Ok(token.to_owned()) } else { Err(TokenError::NotAToken) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_token_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "a.b.c\n").unwrap();
        assert_eq!(look(&path).unwrap(), "a.b.c");
        assert_eq!(take(&path).unwrap(), "a.b.c");
        assert!(!path.exists());
        assert!(matches!(take(&path), Err(TokenError::Unreadable(_))));
    }

    #[test]
    fn a_token_that_could_be_found_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("token"), folder.path().join("other"));
        fs::write(&path, "hush").unwrap();
        fs::hard_link(&path, &other).unwrap();
        assert!(matches!(take(&path), Err(TokenError::Linked)));
        symlink(&other, &path).unwrap();
        assert!(matches!(take(&path), Err(TokenError::Unreadable(_))));
        rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), Mode::RUSR).unwrap();
        assert!(take(&folder.path().join("pipe")).is_err());
    }

    #[test]
    fn what_is_not_a_token_is_removed_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for content in [&b""[..], b"\n", b"hush hush", b"hush\xff", b"hush\nhush", &"h".repeat(20_000).into_bytes()] {
            fs::write(&path, content).unwrap();
            let error = take(&path).unwrap_err().to_string();
            assert!(!error.contains('h') || error == "the token's file holds something else", "{error}");
            assert!(!path.exists());
        }
    }
}
