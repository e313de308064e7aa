//! WebSocket connections on their way through (RFC 6455): relayed frame by frame
//! as they are, with pings that tell whether the client is still there, and with
//! an orderly close when the proxy is to end.

mod frames;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use lifecycle_runtime::Connection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, sleep_until, timeout};

use crate::inbound::connection::End;
use frames::Frames;

const BUFFER: usize = 16 * 1024;

/// A ping without data, as a server sends it: unmasked.
const PING: [u8; 2] = [0x89, 0];

/// Close, 1001 "going away".
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// How long a client has to answer a close.
const FAREWELL: Duration = Duration::from_secs(5);

/// Connections that are open now. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn enter(&self) -> Entered {
        self.0.fetch_add(1, Ordering::Relaxed);
        Entered(self.clone())
    }
}

/// One of them.
struct Entered(Open);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a connection is kept.
#[derive(Clone, Debug)]
pub struct WebSocketOptions {
    /// After so long without a byte of the client it is sent a ping; after as
    /// long again it is gone.
    pub ping: Duration,
    /// Where it is counted.
    pub open: Open,
}

/// Relays between a client and an upstream that have both agreed to it, until
/// either is gone, or `connection` is told to close and the client has said goodbye.
pub async fn relay(
    client: OnUpgrade,
    upstream: OnUpgrade,
    options: WebSocketOptions,
    connection: Connection,
) -> End {
    let _entered = options.open.enter();
    let both = async { tokio::try_join!(client, upstream) };
    match both.await {
        Ok((client, upstream)) => {
            let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
            pass(client, upstream, options.ping, &connection).await
        }
        Err(error) => End::Failed(error.into()),
    }
}

async fn pass(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    ping: Duration,
    connection: &Connection,
) -> End {
    let (from_client, to_client) = split(client);
    let (from_upstream, to_upstream) = split(upstream);
    let heard = Heard::default();
    let up = pass_up(from_client, to_upstream, &heard);
    let down = Down {
        to_client,
        frames: Frames::default(),
        ping,
        heard: &heard,
    };
    let down = down.pass(from_upstream, connection);
    let ended = tokio::select! {
        ended = up => ended.map(|()| End::Closed),
        ended = down => ended,
    };
    ended.unwrap_or_else(|error| End::Failed(error.into()))
}

/// What the other direction knows of the client.
#[derive(Debug)]
struct Heard {
    since: Instant,
    /// Milliseconds from `since` to the client's last byte.
    last: AtomicU64,
}

impl Default for Heard {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Heard {
    fn touch(&self) {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// Passes the client's frames on, up to its close.
async fn pass_up(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    heard: &Heard,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut frames = Frames::default();
    loop {
        let length = from.read(&mut buffer).await?;
        heard.touch();
        let bytes = &buffer[..length];
        to.write_all(bytes).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        if frames.pass(bytes) {
            // The close is on its way; it is for the upstream to answer, and
            // the end comes from there.
            to.flush().await?;
            let rest = timeout(FAREWELL, from.read(&mut buffer)).await;
            drop(rest);
            return to.shutdown().await;
        }
    }
}

/// The way to the client, on which something can be put in between two frames.
struct Down<'a, W> {
    to_client: W,
    frames: Frames,
    ping: Duration,
    heard: &'a Heard,
}

impl<W: AsyncWrite + Unpin> Down<'_, W> {
    async fn pass(
        mut self,
        mut from: impl AsyncRead + Unpin,
        connection: &Connection,
    ) -> io::Result<End> {
        let mut buffer = vec![0; BUFFER];
        // When the client was asked, and when it had last been heard then.
        let mut asked: Option<(Instant, Instant)> = None;
        loop {
            asked = asked.filter(|(_, heard)| *heard == self.heard.last());
            let since = asked.map_or_else(|| self.heard.last(), |(at, _)| at);
            let next = since + self.ping;
            let whole = self.frames.is_between();
            tokio::select! {
                read = from.read(&mut buffer) => {
                    let length = read?;
                    if length == 0 {
                        self.to_client.shutdown().await?;
                        return Ok(End::Closed);
                    }
                    let bytes = &buffer[..length];
                    let write = self.to_client.write_all(bytes);
                    match timeout(self.ping * 2, write).await {
                        Ok(written) => written?,
                        Err(_) => return Ok(End::Expired),
                    }
                    self.frames.pass(bytes);
                    if !self.frames.is_between() {
                        // A client that takes in a long frame cannot be asked.
                        self.heard.touch();
                    }
                }
                _ = connection.cancelled(), if whole => {
                    return self.say_goodbye(from).await;
                }
                () = sleep_until(next) => {
                    let heard = self.heard.last();
                    match asked {
                        Some((_, before)) if before == heard => return Ok(End::Expired),
                        None if heard + self.ping <= Instant::now() => {}
                        // It was heard while this slept.
                        _ => continue,
                    }
                    asked = Some((Instant::now(), heard));
                    if whole {
                        self.to_client.write_all(&PING).await?;
                        self.to_client.flush().await?;
                    }
                }
            }
        }
    }

    /// Tells the client, and lets it tell the upstream: what that still says is
    /// read, and goes no further.
    async fn say_goodbye(mut self, mut from: impl AsyncRead + Unpin) -> io::Result<End> {
        let goodbye = async {
            self.to_client.write_all(&GOING_AWAY).await?;
            self.to_client.flush().await?;
            let mut scrap = vec![0; BUFFER];
            while from.read(&mut scrap).await? > 0 {}
            self.to_client.shutdown().await
        };
        match timeout(FAREWELL, goodbye).await {
            Ok(ended) => ended.map(|()| End::Closed),
            Err(_) => Ok(End::Closed),
        }
    }
}

#[cfg(test)]
mod tests;
