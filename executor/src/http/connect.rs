//! Opening a connection: TCP, and TLS when the URL says so. The TLS configuration is built at its first use,
//! because most executors speak plain HTTP to a neighbour and live for milliseconds.

use super::dial::dial;
use super::{Failure, Origin};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection's two directions, plain or encrypted.
pub trait Transport: hyper::rt::Read + hyper::rt::Write + Send + Unpin {}
impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin> Transport for T {}

/// Opens connections.
#[derive(Debug)]
pub struct Connector {
    certificates: Option<PathBuf>,
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Connector {
    pub fn new(certificates: Option<PathBuf>) -> Self {
        Self { certificates, tls: OnceLock::new() }
    }

    pub async fn open(&self, origin: &Origin) -> Result<Box<dyn Transport>, Failure> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.open_unbounded(origin))
            .await
            .unwrap_or_else(|_| Err(origin.unreachable("no connection within 5 s")))
    }

    async fn open_unbounded(&self, origin: &Origin) -> Result<Box<dyn Transport>, Failure> {
        let tcp = dial(&origin.host, origin.port).await.map_err(|e| origin.unreachable(e))?;
        tcp.set_nodelay(true).map_err(|e| origin.unreachable(e))?;
        if !origin.tls {
            return Ok(Box::new(TokioIo::new(tcp)));
        }
        let tls = self.tls.get_or_init(|| tls_config(self.certificates.as_deref()));
        let tls = tls.as_ref().map_err(|e| origin.unreachable(e))?;
        let name = ServerName::try_from(origin.host.clone()).map_err(|e| origin.unreachable(e))?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.map_err(|e| origin.unreachable(e))?;
        Ok(Box::new(TokioIo::new(stream)))
    }
}

fn tls_config(certificates: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = certificates {
        let unusable = |e: &dyn std::fmt::Display| format!("SSL_CERT_FILE {} can't be used: {e}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(|e| unusable(&e))? {
            roots.add(certificate.map_err(|e| unusable(&e))?).map_err(|e| unusable(&e))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
