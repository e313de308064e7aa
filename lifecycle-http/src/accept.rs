//! The loops that accept connections.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use lifecycle_runtime::{Acceptor, Connection, Gate, Peer, Refused, TaskOutcome};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use crate::entrance::{Policy, Refusal, Runtimes};
use crate::listener::is_of_one_client;
use crate::{Listener, RawStream};

/// The pause after an accept that failed for want of descriptors or memory, so that a full descriptor table does not
/// make the loop spin. Each further failure doubles the pause, up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A server of accepted connections, each of which runs on a task of its own.
pub(crate) trait Serve: Clone + Send + 'static {
    type Outcome: TaskOutcome;

    fn serve(
        self,
        stream: RawStream,
        connection: Connection,
    ) -> impl Future<Output = Self::Outcome> + Send + 'static;
}

/// A loop that accepts connections from one listener.
pub(crate) struct AcceptLoop<S> {
    pub(crate) acceptor: Acceptor,
    pub(crate) service: S,
    pub(crate) runtimes: Runtimes,
    pub(crate) policy: Arc<Policy>,
    /// The gate that ends the loop when it is closed.
    pub(crate) open: Gate,
}

impl<S: Serve> AcceptLoop<S> {
    /// Accepts connections until `open` is closed. Then accepts the connections that are left in the kernel's accept
    /// queue, and closes the socket.
    pub(crate) async fn run(self, listener: Listener) {
        let mut pause = FIRST_PAUSE;
        while let Some(accepted) = unless_closed(&self.open, listener.accept()).await {
            match accepted {
                Ok((raw, peer)) => {
                    pause = FIRST_PAUSE;
                    self.admit(raw, peer);
                }
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    if self.policy.failures.allows() {
                        warn!(%error, pause_ms = pause.as_millis(), "cannot accept connections");
                    }
                    unless_closed(&self.open, sleep(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        let address = listener.local_addr();
        for (raw, peer) in listener.into_queue() {
            self.admit(raw, peer);
        }
        info!(
            address = address.map(tracing::field::display),
            "no longer listening"
        );
    }

    fn admit(&self, raw: RawStream, peer: Peer) {
        if !self.policy.admits() {
            refuse(raw, self.policy.refusal(Refusal::NotAdmitted));
            return;
        }
        match self.acceptor.admit(peer.clone()) {
            Ok(admission) => {
                let service = self.service.clone();
                let Some(runtime) = self.runtimes.least_busy() else {
                    admission.spawn(|connection| service.serve(raw, connection));
                    return;
                };
                match raw.onto(runtime) {
                    Ok(raw) => {
                        let _on_runtime = runtime.enter();
                        admission.spawn(|connection| service.serve(raw, connection));
                    }
                    Err(error) if self.policy.failures.allows() => {
                        warn!(%peer, %error, "cannot serve a connection on its runtime");
                    }
                    Err(_) => {}
                }
            }
            Err(Refused::Full { limit }) => {
                if self.policy.refusals.allows() {
                    let refused = self.acceptor.stats().rejected;
                    warn!(%peer, limit, refused, "connection refused: the limit is reached");
                }
                refuse(raw, self.policy.refusal(Refusal::Full));
            }
            Err(refused) => debug!(%peer, %refused, "a connection was not admitted"),
        }
    }
}

/// Runs `future` to its end, and returns its output. Returns `None` if `open` is closed before that.
async fn unless_closed<F: Future>(open: &Gate, future: F) -> Option<F::Output> {
    let mut closed = pin!(open.closed());
    let mut future = pin!(future);
    poll_fn(|cx| {
        if closed.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Sends `text` to a refused client, without waiting and only as far as the socket takes it. Reads the bytes that have
/// arrived first, because a socket that is closed over unread bytes resets the connection.
fn refuse(raw: RawStream, text: Bytes) {
    fn say<T: std::io::Read + std::io::Write>(mut socket: T, text: &[u8]) {
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write(text);
    }
    if text.is_empty() {
        return;
    }
    match raw {
        RawStream::Tcp(tcp) => {
            let _ = tcp.into_std().map(|tcp| say(tcp, &text));
        }
        #[cfg(unix)]
        RawStream::Unix(unix) => {
            let _ = unix.into_std().map(|unix| say(unix, &text));
        }
    }
}
