//! How client connections are taken in, and what is said to those that are not.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use lifecycle_runtime::{Acceptor, BoxError, CloseReason, Connection, Refused};
use tokio::net::TcpStream;
use tracing::{debug, warn};

use crate::inbound::activity::Limits;
use crate::inbound::connection::{End, Serve};
use crate::telemetry::logging::Throttle;

/// What a client above the limit is told, if it listens.
const REFUSAL: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=connection_limit_reached\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 47\r\n\r\n\
    503 Service Unavailable: too many connections.\n";

/// What a client is told while load is shed.
const OVERLOAD: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    Connection: close\r\n\
    Retry-After: 1\r\n\
    Proxy-Status: lifecycle-proxy; error=proxy_internal_response\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 52\r\n\r\n\
    503 Service Unavailable: this proxy has much to do.\n";

/// Takes connections in, each to be served by a task of its own, or refuses them.
/// A cheap clone, which keeps none.
#[derive(Clone, Debug)]
pub struct Intake {
    acceptor: Acceptor,
    limits: Limits,
    refusals: Arc<Throttle>,
}

impl Intake {
    /// As many as `acceptor` has places for, each within `limits`.
    #[must_use]
    pub fn new(acceptor: Acceptor, limits: Limits) -> Self {
        Self {
            acceptor,
            limits,
            refusals: Arc::default(),
        }
    }

    /// Serves a connection, or refuses it if there are too many.
    pub fn take<S: Serve>(&self, stream: TcpStream, peer: SocketAddr, server: &S) {
        if !server.admits() {
            refuse(stream, OVERLOAD);
            return;
        }
        let admission = match self.acceptor.admit(peer) {
            Ok(admission) => admission,
            Err(refused) => {
                if let Refused::Full { limit } = refused {
                    self.refuse(stream, peer, limit);
                }
                return;
            }
        };
        let Ok(local) = stream.local_addr() else {
            return; // It is gone already.
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "TCP_NODELAY was not set");
        }
        let (server, limits) = (server.clone(), self.limits);
        admission.spawn(|connection| async move {
            let served = server.serve(stream, (peer, local), limits, connection.clone());
            ended(served.await, &connection)
        });
    }

    fn refuse(&self, stream: TcpStream, peer: SocketAddr, limit: usize) {
        if self.refusals.allows() {
            let refused = self.acceptor.stats().rejected;
            warn!(%peer, limit, refused, "connection refused: the limit is reached");
        }
        refuse(stream, REFUSAL);
    }
}

fn ended(end: End, connection: &Connection) -> Result<(), BoxError> {
    match end {
        End::Closed => Ok(()),
        End::Expired => {
            debug!(%connection, "a connection outstayed its time limit");
            connection.close(CloseReason::Idle);
            Ok(())
        }
        End::Failed(error) => Err(error),
    }
}

/// Best effort, without waiting: what has arrived is read first, since closing
/// over unread bytes would reset the connection.
fn refuse(stream: TcpStream, with: &str) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write(with.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_whole_responses() {
        for text in [REFUSAL, OVERLOAD] {
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(
                head.contains(&format!("Content-Length: {}", body.len())),
                "{text}"
            );
        }
    }
}
