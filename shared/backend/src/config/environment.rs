//! The environment of a program, and what other programs' variables in it mean here. An empty variable counts as not set.

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub fn of_this_process() -> Self {
        std::env::vars_os().collect()
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str())
    }

    pub fn is_in_a_cluster(&self) -> bool {
        self.get("KUBERNETES_SERVICE_HOST").is_some()
    }

    pub fn extra_roots_file(&self) -> Option<PathBuf> {
        self.get("SSL_CERT_FILE").map(PathBuf::from)
    }

    pub fn web_identity(&self) -> Option<(String, PathBuf)> {
        let role = self.get("AWS_ROLE_ARN")?.to_str()?;
        Some((role.to_owned(), PathBuf::from(self.get("AWS_WEB_IDENTITY_TOKEN_FILE")?)))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        let mut all: BTreeMap<OsString, OsString> =
            variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        all.retain(|_, value| !value.is_empty());
        Self(all)
    }
}

/// A PEM file of further root certificates, as OpenSSL's programs take it.
pub fn extra_roots_file() -> Option<PathBuf> {
    Environment::of_this_process().extra_roots_file()
}

/// The certificates of such a file. Those that are no roots by today's rules are passed over, as bundles for everybody hold some.
pub fn read_roots(file: &Path) -> Result<RootCertStore, String> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.map_err(|error| error.to_string())?);
    if roots.is_empty() { Err("it holds no root certificate".to_owned()) } else { Ok(roots) }
}

/// Where programs are looked for; steps of the process launcher get it.
pub fn search_path() -> Option<OsString> {
    std::env::var_os("PATH").filter(|path| !path.is_empty())
}

/// The web identity of the pod, when S3's keys come from one (AWS's variables).
pub fn web_identity() -> Option<(String, PathBuf)> {
    Environment::of_this_process().web_identity()
}

pub fn executor_beside_this_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join("roadstead-executor")))
        .unwrap_or_else(|| PathBuf::from("roadstead-executor"))
}
