//! In the place of `tls.rs`, where the feature `redis-tls` is off: nothing comes here, since no backend is built for it.
#![forbid(unsafe_code)]

use super::failed::Failed;
use crate::error::ErrorKind;
use redis::cluster::ClusterClientBuilder;
use redis::{Client, ConnectionInfo};
use std::path::Path;

pub(super) const IS_THERE: bool = false;

fn none<T>() -> Result<T, Failed> {
    Err(Failed::new(ErrorKind::Config, "TLS needs the feature `redis-tls`"))
}

pub(super) fn client(_info: ConnectionInfo, _ca: Option<&Path>) -> Result<Client, Failed> {
    none()
}

pub(super) fn cluster(
    _builder: ClusterClientBuilder,
    _ca: Option<&Path>,
) -> Result<ClusterClientBuilder, Failed> {
    none()
}
