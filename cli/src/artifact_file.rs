//! Writing a downloaded artifact below a folder, whatever its path says and whatever lies in the folder already.
//!
//! Invariants: nothing is ever written outside the folder, not through a link either; a file appears under its name only when it is
//! complete and its SHA-256 is right.

use crate::failure::Failure;
use roadstead_domain::workflow::validate::is_relative_path;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

pub struct ArtifactFile {
    file: NamedTempFile,
    target: PathBuf,
    hash: Sha256,
    size_bytes: u64,
}

impl ArtifactFile {
    /// A file that will be `path` below `folder`, which must exist.
    pub fn create(folder: &Path, path: &str) -> Result<Self, Failure> {
        if !is_relative_path(path) {
            return Err(Failure::Local(format!(
                "the artifact's path `{path}` does not stay inside the folder: not downloaded"
            )));
        }
        let mut parent = folder.to_owned();
        let mut parts: Vec<&str> = path.split('/').collect();
        let name = parts.pop().unwrap_or_default();
        for part in parts {
            parent.push(part);
            enter(&parent).map_err(|e| Failure::local(parent.display(), e))?;
        }
        let permissions = fs::Permissions::from_mode(0o666);
        let file = tempfile::Builder::new().prefix(".roadstead-").permissions(permissions).tempfile_in(&parent);
        let file = file.map_err(|e| Failure::local(parent.display(), e))?;
        Ok(Self { file, target: parent.join(name), hash: Sha256::new(), size_bytes: 0 })
    }

    pub fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        self.hash.update(piece);
        self.size_bytes += piece.len() as u64;
        self.file.write_all(piece).map_err(|e| Failure::local(self.target.display(), e))
    }

    /// Gives the file its name, if it is what was announced.
    pub fn finish(self, size_bytes: u64, sha256: &str) -> Result<PathBuf, Failure> {
        let found = hex::encode(self.hash.finalize());
        if self.size_bytes != size_bytes || !found.eq_ignore_ascii_case(sha256) {
            return Err(Failure::Local(format!(
                "{}: {} bytes with SHA-256 {found} came instead of {size_bytes} with {sha256}: not kept",
                self.target.display(),
                self.size_bytes
            )));
        }
        // Renaming replaces a link that has this name; it never writes through it.
        self.file.persist(&self.target).map_err(|e| Failure::local(self.target.display(), e.error))?;
        Ok(self.target)
    }
}

/// Makes a folder, or accepts one that is there; a link to one is refused.
fn enter(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::symlink_metadata(folder)?.is_dir() {
                return Ok(());
            }
            Err(io::Error::new(io::ErrorKind::NotADirectory, "is in the way: it is a link or no folder"))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sha256(content: &[u8]) -> String {
        hex::encode(Sha256::digest(content))
    }

    fn store(folder: &Path, path: &str, content: &[u8]) -> Result<PathBuf, Failure> {
        let mut file = ArtifactFile::create(folder, path)?;
        file.write(content)?;
        file.finish(content.len() as u64, &sha256(content))
    }

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn an_artifact_lands_under_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let file = store(folder.path(), "a/b/c.txt", b"x").unwrap();
        assert_eq!(file, folder.path().join("a/b/c.txt"));
        assert_eq!(fs::read(&file).unwrap(), b"x");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o111, 0);
        store(folder.path(), r"..\c:", b"x").unwrap();
        store(folder.path(), "a/b/c.txt", b"again").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"again");
    }

    #[test]
    fn no_path_leads_outside_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("in");
        fs::create_dir(&folder).unwrap();
        for bad in ["../x", "/x", "a/../../x", "", ".", "..", "a//b", "a/./b", "a\0b", "a\nb", "a/"] {
            assert!(store(&folder, bad, b"x").is_err(), "{bad:?}");
        }
        assert_eq!((entries(outer.path()), entries(&folder)), (1, 0));
    }

    #[test]
    fn no_link_is_written_through() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = elsewhere.path().join("secret");
        fs::write(&secret, b"keep").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("dir")).unwrap();
        std::os::unix::fs::symlink(&secret, folder.path().join("file")).unwrap();
        assert!(store(folder.path(), "dir/secret", b"x").is_err());
        store(folder.path(), "file", b"x").unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"keep");
        assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"x");
    }

    #[test]
    fn what_is_not_what_was_announced_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (size_bytes, hash) in [(2, sha256(b"x")), (1, sha256(b"y"))] {
            let mut file = ArtifactFile::create(folder.path(), "x").unwrap();
            file.write(b"x").unwrap();
            assert!(file.finish(size_bytes, &hash).is_err());
        }
        assert_eq!(entries(folder.path()), 0);
    }
}
