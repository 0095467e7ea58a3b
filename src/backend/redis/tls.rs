//! TLS, where the feature `redis-tls` is on. `without_tls.rs` stands in its place else.
#![forbid(unsafe_code)]

use super::failed::Failed;
use crate::error::ErrorKind;
use redis::cluster::ClusterClientBuilder;
use redis::{Client, ConnectionInfo, TlsCertificates, TlsMode};
use std::path::Path;

pub(super) const IS_THERE: bool = true;

/// The connections take the process's provider of cryptography; one that has none gets this one.
fn provide() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn certificates(ca: &Path) -> Result<TlsCertificates, Failed> {
    let pem = std::fs::read(ca)
        .map_err(|_| Failed::new(ErrorKind::Config, "the file of certificates `ca` can't be read"))?;
    Ok(TlsCertificates { client_tls: None, root_cert: Some(pem) })
}

pub(super) fn client(info: ConnectionInfo, ca: Option<&Path>) -> Result<Client, Failed> {
    provide();
    match ca {
        Some(ca) => Ok(Client::build_with_tls(info, certificates(ca)?)?),
        None => Ok(Client::open(info)?),
    }
}

pub(super) fn cluster(
    builder: ClusterClientBuilder,
    ca: Option<&Path>,
) -> Result<ClusterClientBuilder, Failed> {
    provide();
    let builder = builder.tls(TlsMode::Secure);
    match ca {
        Some(ca) => Ok(builder.certs(certificates(ca)?)),
        None => Ok(builder),
    }
}
