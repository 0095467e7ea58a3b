//! Where the servers are, and how one gets there: one server, the master that sentinels name, or a cluster.
#![forbid(unsafe_code)]

use super::failed::Failed;
use super::tls;
use crate::error::ErrorKind;
use crate::time::{Clock, Instant, PreciseClock};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, Value,
};
use std::path::PathBuf;
use std::time::Duration;

/// A server's host and port.
pub(super) type Node = (String, u16);

#[derive(Clone)]
pub(super) enum Place {
    Tcp(Node),
    Unix(PathBuf),
    Sentinel { sentinels: Vec<Node>, service: String },
    Cluster(Vec<Node>),
}

/// All that a connection is made from. Has no `Debug`: it knows the password.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) place: Place,
    pub(super) has_tls: bool,
    /// A file of certificates, in the place of the system's.
    pub(super) ca: Option<PathBuf>,
    pub(super) db: i64,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) is_resp3: bool,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
}

/// How much of a time is left.
pub(super) fn left(until: Instant) -> Result<Duration, Failed> {
    let left = until.saturating_duration_since(PreciseClock.precise());
    if left.is_zero() { Err(Failed::late()) } else { Ok(left) }
}

impl Target {
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    fn address(&self, (host, port): &Node) -> ConnectionAddr {
        if self.has_tls {
            ConnectionAddr::TcpTls { host: host.clone(), port: *port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host.clone(), *port)
        }
    }

    fn redis(&self) -> RedisConnectionInfo {
        // Its name and version would be two questions more for each connection.
        let mut redis = RedisConnectionInfo::default().set_db(self.db).set_skip_set_lib_name();
        if let Some(user) = &self.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &self.password {
            redis = redis.set_password(password);
        }
        if self.is_resp3 { redis.set_protocol(ProtocolVersion::RESP3) } else { redis }
    }

    fn info(&self, address: ConnectionAddr, redis: RedisConnectionInfo) -> Result<ConnectionInfo, Failed> {
        let info = address.into_connection_info()?;
        Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)).set_redis_settings(redis))
    }

    fn client_of(&self, address: ConnectionAddr, redis: RedisConnectionInfo) -> Result<Client, Failed> {
        let info = self.info(address, redis)?;
        if self.has_tls { tls::client(info, self.ca.as_deref()) } else { Ok(Client::open(info)?) }
    }

    /// How long each step of connecting may last: to connect, and to be let in, by two questions at the most.
    pub(super) fn patience(&self, until: Instant) -> Result<Duration, Failed> {
        let asks = u32::from(self.password.is_some() || self.is_resp3) + u32::from(self.db != 0);
        Ok(left(until)?.min(self.connect_timeout) / asks.max(1))
    }

    /// The server that all goes to. Asks the sentinels, if there are some: may block until then.
    pub(super) fn client(&self, until: Instant) -> Result<Client, Failed> {
        match &self.place {
            Place::Tcp(node) => self.client_of(self.address(node), self.redis()),
            Place::Unix(path) => self.client_of(ConnectionAddr::Unix(path.clone()), self.redis()),
            Place::Sentinel { sentinels, service } => {
                let master = self.master(sentinels, service, until)?;
                self.client_of(self.address(&master), self.redis())
            }
            // For messages any will do: they pass them on to each other.
            Place::Cluster(nodes) => {
                let mut failed = Failed::new(ErrorKind::Unavailable, "no node of the cluster answers");
                for node in nodes {
                    let client = self.client_of(self.address(node), self.redis())?;
                    match client.get_connection_with_timeout(self.patience(until)?) {
                        Ok(_) => return Ok(client),
                        Err(error) => failed = error.into(),
                    }
                }
                Err(failed)
            }
        }
    }

    /// Who is the master now, as the first sentinel that answers has it.
    fn master(&self, sentinels: &[Node], service: &str, until: Instant) -> Result<Node, Failed> {
        let mut failed = Failed::new(ErrorKind::Unavailable, "no sentinel is given");
        for (i, sentinel) in sentinels.iter().enumerate() {
            // One that is silent leaves time for the others.
            let patience = left(until)?.min(self.connect_timeout) / (sentinels.len() - i) as u32;
            let ask = || -> Result<Value, Failed> {
                let quiet = RedisConnectionInfo::default().set_skip_set_lib_name();
                let client = self.client_of(self.address(sentinel), quiet)?;
                let mut connection = client.get_connection_with_timeout(patience)?;
                connection.set_read_timeout(Some(patience))?;
                let mut question = redis::cmd("SENTINEL");
                Ok(question.arg("get-master-addr-by-name").arg(service).query(&mut connection)?)
            };
            match ask() {
                Ok(Value::Array(found)) => match found.as_slice() {
                    [Value::BulkString(host), Value::BulkString(port)] => {
                        let host = String::from_utf8(host.clone()).map_err(|_| Failed::strange())?;
                        let port = std::str::from_utf8(port).ok().and_then(|port| port.parse().ok());
                        return Ok((host, port.ok_or_else(Failed::strange)?));
                    }
                    _ => failed = Failed::strange(),
                },
                Ok(_) => {
                    failed = Failed::new(ErrorKind::Unavailable, "the sentinels know no such `service`");
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    pub(super) async fn cluster(&self, nodes: &[Node]) -> Result<ClusterConnection, Failed> {
        let infos = nodes
            .iter()
            .map(|node| self.info(self.address(node), self.redis()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut builder = ClusterClientBuilder::new(infos)
            .retries(2)
            .connection_timeout(self.connect_timeout)
            .response_timeout(self.timeout)
            .overall_response_timeout(Some(self.timeout))
            .tcp_settings(TcpSettings::default().set_nodelay(true));
        if self.is_resp3 {
            builder = builder.use_protocol(ProtocolVersion::RESP3);
        }
        let builder = if self.has_tls { tls::cluster(builder, self.ca.as_deref())? } else { builder };
        Ok(builder.build()?.get_async_connection().await?)
    }
}
