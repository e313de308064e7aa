//! The loops that accept.

use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{Acceptor, Peer, Refused, TaskStop};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::app::{App, AppBody};
use crate::connection::{self, Common};
use crate::listener::{is_of_one_client, tune};
use crate::socket::Raw;
use crate::{Handshake, Listener};

/// The pause after an accept that failed for want of something, doubled each time, so that a full descriptor table does
/// not make the loop spin.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Between two complaints about the same.
const QUIET: Duration = Duration::from_secs(5);

/// What a client above the limit is told, if it listens.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    connection: close\r\n\
    retry-after: 1\r\n\
    content-length: 0\r\n\r\n";

/// What an accept loop hands connections to.
pub(crate) struct AcceptContext<H, S> {
    pub(crate) acceptor: Acceptor,
    pub(crate) handshake: H,
    pub(crate) service: S,
    pub(crate) common: Arc<Common>,
    /// Whether a refusal can be said in plain text.
    pub(crate) plain: bool,
    pub(crate) complained: Option<Instant>,
}

/// Accepts until it should stop, then takes in what the kernel had completed, and closes the socket.
pub(crate) async fn accept<H, S, B>(
    listener: Listener,
    mut door: AcceptContext<H, S>,
    stop: TaskStop,
) where
    H: Handshake,
    S: App<B>,
    B: AppBody,
{
    let mut pause = FIRST_PAUSE;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((raw, peer)) => {
                pause = FIRST_PAUSE;
                door.admit(raw, peer);
            }
            Err(error) if is_of_one_client(&error) => {}
            Err(error) => {
                if door.may_complain() {
                    warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                }
                stop.run_until_cancelled(sleep(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    for (raw, peer) in listener.into_queue() {
        door.admit(raw, peer);
    }
}

impl<H, S> AcceptContext<H, S> {
    fn admit<B>(&mut self, raw: Raw, peer: Peer)
    where
        H: Handshake,
        S: App<B>,
        B: AppBody,
    {
        let mut raw = Some(raw);
        let refused = self.acceptor.spawn(peer.clone(), |connection| {
            let raw = raw.take();
            let (handshake, service) = (self.handshake.clone(), self.service.clone());
            let common = Arc::clone(&self.common);
            async move {
                match raw {
                    Some(raw) => {
                        tune(&raw, &common.limits);
                        connection::serve(raw, connection, handshake, service, common).await
                    }
                    // It is called once.
                    None => Ok(()),
                }
            }
        });
        match refused {
            Ok(()) => {}
            Err(Refused::Full { limit }) => {
                if self.may_complain() {
                    warn!(%peer, limit, "connections are refused: the limit is reached");
                }
                if let Some(raw) = raw.filter(|_| self.plain) {
                    refuse(raw);
                }
            }
            Err(refused) => debug!(%peer, %refused, "a connection was not admitted"),
        }
    }

    fn may_complain(&mut self) -> bool {
        let now = Instant::now();
        let may = self
            .complained
            .is_none_or(|last| now.duration_since(last) >= QUIET);
        if may {
            self.complained = Some(now);
        }
        may
    }
}

/// Best effort, without waiting: what has arrived is read first, since closing over unread bytes would reset the
/// connection.
fn refuse(raw: Raw) {
    fn say<T: std::io::Read + std::io::Write>(mut socket: T) {
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write(REFUSAL);
    }
    match raw {
        Raw::Tcp(tcp) => {
            let _ = tcp.into_std().map(say);
        }
        #[cfg(unix)]
        Raw::Unix(unix) => {
            let _ = unix.into_std().map(say);
        }
    }
}
