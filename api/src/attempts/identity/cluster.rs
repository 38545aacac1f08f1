//! The cluster's API server, as far as it tells each of its ServiceAccounts whom to believe.

use super::keyring::{Documents, Publisher};
use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// Found as every program in a cluster finds it, or by `KUBECONFIG`. A client is made for the one question, because these come hourly: in between it
/// would only take memory, and a certificate or token that was renewed meanwhile is read anew.
#[derive(Debug)]
pub struct Cluster;

impl Publisher for Cluster {
    fn published(&self) -> BoxFuture<'static, anyhow::Result<Documents>> {
        async {
            let config = kube::Config::infer().await.context("neither in a cluster nor told of one")?;
            let client = kube::Client::try_from(config).context("no client can be made for the cluster")?;
            let get = async |path: &'static str| {
                client.request_text(http::Request::get(path).body(Vec::new())?).await.context(path)
            };
            Ok(Documents { configuration: get(CONFIGURATION).await?, keys: get(KEYS).await? })
        }
        .boxed()
    }
}
