//! What went wrong with a server, in the words of this crate: never an address with its password, a value, or a server's own text,
//! which may repeat what it was sent.
#![forbid(unsafe_code)]

use crate::error::{Error, ErrorKind};
use redis::{RedisError, ServerErrorKind};
use std::borrow::Cow;

/// Why a command has no reply.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    kind: ErrorKind,
    detail: Cow<'static, str>,
    /// The connection had been closed, or broke.
    pub(super) is_dropped: bool,
    /// The server has refused this one command, and the connection is as good as before.
    pub(super) is_refusal: bool,
    /// The server does not know the script: it is to be sent whole.
    pub(super) lacks_script: bool,
    /// This server takes no writes (any more): there may be another one that does.
    pub(super) is_demoted: bool,
}

impl Failed {
    pub(super) fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            is_dropped: false,
            is_refusal: false,
            lacks_script: false,
            is_demoted: false,
        }
    }

    pub(super) fn late() -> Self {
        Self::new(ErrorKind::Timeout, "raise `timeout` if the server is only slow")
    }

    /// A reply that no such command has.
    pub(super) fn strange() -> Self {
        Self::new(
            ErrorKind::Unavailable,
            "the server's reply is not one of Redis: is it another kind of server?",
        )
    }

    pub(super) fn by(self, operation: &'static str) -> Error {
        Error::new(self.kind, operation).detail(self.detail)
    }
}

impl From<RedisError> for Failed {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::late();
        }
        let code = error.code().unwrap_or("");
        // Older servers report an error within a script as text.
        let says = |what: &str| code == what || error.detail().is_some_and(|detail| detail.contains(what));
        let is_refusal = !code.is_empty();
        if says("WRONGTYPE") {
            let detail = "a key has something else than an entry of this layout: written by another application, or by a \
                          region with another envelope; give the region a `prefix` of its own";
            return Self { is_refusal, ..Self::new(ErrorKind::Unsupported, detail) };
        }
        if says("OOM") {
            let detail = "raise the server's `maxmemory`, or set a `maxmemory-policy` that evicts";
            return Self { is_refusal, ..Self::new(ErrorKind::Full, detail) };
        }
        if says("NOAUTH") || says("WRONGPASS") || error.kind() == redis::ErrorKind::AuthenticationFailed {
            return Self::new(ErrorKind::Unavailable, "it wants another user name or password");
        }
        if says("NOPERM") {
            let detail = "the user may not do that: it needs the commands of strings, hashes and scripts, and these keys";
            return Self { is_refusal, ..Self::new(ErrorKind::Unavailable, detail) };
        }
        if is_refusal {
            let is_demoted = matches!(
                error.kind(),
                redis::ErrorKind::Server(
                    ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
                )
            );
            let lacks_script = error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript);
            // The code is the server's, one word.
            let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
            let detail = format!("the server refuses with {code}");
            return Self {
                is_refusal,
                lacks_script,
                is_demoted,
                ..Self::new(ErrorKind::Unavailable, detail)
            };
        }
        let is_dropped = error.is_connection_dropped();
        let detail = if error.is_connection_refusal() {
            "nobody answers at its address: is it running?"
        } else if is_dropped {
            "the connection was closed"
        } else if error.is_cluster_error() {
            "the cluster has nobody for this key at the moment"
        } else if error.is_io_error() {
            "it can't be connected to: look at host, port and, with TLS, its certificate"
        } else {
            "the client has refused: look at the settings"
        };
        Self { is_dropped, ..Self::new(ErrorKind::Unavailable, detail) }
    }
}
