//! HTTPS: trusted by the certificate file that the executor was pointed to, and by nothing else.

use crate::harness::{Scenario, sh};
use crate::peer::Peer;
use roadstead_domain::attempt::protocol::Status;
use std::process::Command;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A scenario over HTTPS, and its certificate as PEM.
fn scenario(steps: &str) -> (Scenario, String) {
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let scenario = Scenario::against(steps, |_| {}, |grant| Peer::start_with(grant, Some(acceptor)));
    (scenario, certified.cert.pem())
}

#[test]
fn an_api_and_a_store_behind_tls_are_trusted_by_the_named_certificate() {
    let (scenario, certificate) =
        scenario(&sh("a", "head -c 300000 /dev/zero > $ROADSTEAD_ARTIFACTS/zeros; echo hi", ""));
    std::fs::write(scenario.path("ca.pem"), certificate).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead-executor"));
    scenario.start_as(command.env("SSL_CERT_FILE", scenario.path("ca.pem"))).ends_with(0);
    assert_eq!(scenario.finish().outcome.status, Status::Succeeded);
    assert_eq!(scenario.peer.state().objects["artifacts/zeros"].len(), 300_000);
}

#[test]
fn a_peer_that_is_not_trusted_learns_nothing() {
    let (scenario, _) = scenario(&sh("a", "touch {dir}/ran", ""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_roadstead-executor"));
    let executor = scenario.start_as(command.env_remove("SSL_CERT_FILE"));
    scenario.peer.wait_for("two refused handshakes", |state| (state.connections > 1).then_some(()));
    executor.signal(rustix::process::Signal::TERM);
    executor.ends_with(5);
    assert!(scenario.peer.state().requests.is_empty() && !scenario.path("ran").exists());
}
