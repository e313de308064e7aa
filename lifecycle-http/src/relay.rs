//! Relays WebSockets between a client and an upstream (RFC 6455).

mod frames;

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use lifecycle_runtime::Connection;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::time::{Instant, sleep_until, timeout};

use frames::Frames;

const BUFFER: usize = 16 * 1024;

/// A ping without data, as a server sends it: unmasked.
const PING: [u8; 2] = [0x89, 0];

/// A close frame that says 1001, "going away".
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// A relay of WebSockets between a client and an upstream, for proxies. It passes the frames on unchanged, and reads
/// only where each frame ends.
///
/// The relay pings a silent client, and gives it up if it stays silent. When the client's connection should close, the
/// relay sends the client a close frame (1001) between two frames, and passes the client's answer on to the upstream.
///
/// ```
/// use http::{Request, Response};
/// use lifecycle_http::{NotUpgradable, RequestBody, Upgrade, WebSocketRelay};
/// # async fn ask_upstream() -> (Response<String>, tokio::net::TcpStream) { std::future::pending().await }
///
/// async fn answer(mut request: Request<RequestBody>) -> Result<Response<String>, NotUpgradable> {
///     let upgrade = Upgrade::take(&mut request)?;
///     let (response, upstream) = ask_upstream().await;
///     upgrade.run(async move |client, connection| {
///         WebSocketRelay::new().run(client, upstream, connection.connection()).await.map(drop)
///     })?;
///     Ok(response)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WebSocketRelay {
    ping: Duration,
    farewell: Duration,
}

/// The way in which a [`WebSocketRelay`] ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Relayed {
    /// The client or the upstream closed, or the relay told the client to close.
    Closed,
    /// The client was silent for too long, or did not take the bytes that it was sent.
    Expired,
}

impl Default for WebSocketRelay {
    fn default() -> Self {
        Self {
            ping: Duration::from_secs(30),
            farewell: Duration::from_secs(5),
        }
    }
}

impl WebSocketRelay {
    /// Makes a relay with the default times.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a client may be silent before it is sent a ping. A client that stays silent for as long again is
    /// given up. A client that does not take the bytes that it is sent is given up after twice this time. Default: 30
    /// s.
    #[must_use]
    pub fn ping(mut self, ping: Duration) -> Self {
        self.ping = ping;
        self
    }

    /// Sets how long a client may take to answer a close frame. Default: 5 s.
    #[must_use]
    pub fn farewell(mut self, farewell: Duration) -> Self {
        self.farewell = farewell;
        self
    }

    /// Relays until the client or the upstream has ended, or until `connection` should close and the client has
    /// answered the close frame.
    ///
    /// The pings tell whether the client is still there, so the connection counts as [busy](Connection::busy) while the
    /// relay runs.
    ///
    /// # Errors
    ///
    /// When the connection to the client or to the upstream broke.
    ///
    /// # Cancel safety
    ///
    /// Not safe: bytes that were read from one side and not written to the other are lost.
    pub async fn run(
        &self,
        client: impl AsyncRead + AsyncWrite,
        upstream: impl AsyncRead + AsyncWrite,
        connection: &Connection,
    ) -> io::Result<Relayed> {
        let _busy = connection.busy();
        let (from_client, to_client) = split(client);
        let (from_upstream, to_upstream) = split(upstream);
        let heard = Heard::new();
        let mut up = pin!(self.pass_up(from_client, to_upstream, &heard));
        let down = Down {
            to_client,
            frames: Frames::default(),
            times: self,
            heard: &heard,
        };
        let mut down = pin!(down.pass(from_upstream, connection));
        poll_fn(|cx| {
            if let Poll::Ready(ended) = up.as_mut().poll(cx) {
                return Poll::Ready(ended.map(|()| Relayed::Closed));
            }
            down.as_mut().poll(cx)
        })
        .await
    }

    /// Passes the client's frames on to the upstream, up to the client's close frame.
    async fn pass_up(
        &self,
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
                // The upstream answers the close frame, and then ends the WebSocket from its side. So only the end of
                // the client is awaited here, for a while.
                to.flush().await?;
                let rest = timeout(self.farewell, from.read(&mut buffer)).await;
                drop(rest);
                return to.shutdown().await;
            }
        }
    }
}

/// The time at which the client was last heard.
#[derive(Debug)]
struct Heard {
    since: Instant,
    /// The milliseconds from `since` to the client's last byte.
    last: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn touch(&self) {
        let elapsed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.since + Duration::from_millis(self.last.load(Ordering::Relaxed))
    }
}

/// The direction to the client, in which the relay can send frames of its own between two frames of the upstream.
struct Down<'a, W> {
    to_client: W,
    frames: Frames,
    times: &'a WebSocketRelay,
    heard: &'a Heard,
}

enum Event {
    Read(io::Result<usize>),
    ShouldClose,
    PingIsDue,
}

impl<W: AsyncWrite + Unpin> Down<'_, W> {
    async fn pass(
        mut self,
        mut from: impl AsyncRead + Unpin,
        connection: &Connection,
    ) -> io::Result<Relayed> {
        let ping = self.times.ping;
        let mut buffer = vec![0; BUFFER];
        // The time of the last ping to the client, and the time at which the client had last been heard before that
        // ping.
        let mut asked: Option<(Instant, Instant)> = None;
        loop {
            asked = asked.filter(|(_, heard)| *heard == self.heard.last());
            let since = asked.map_or_else(|| self.heard.last(), |(at, _)| at);
            let is_between = self.frames.is_between();
            let event =
                next_event(&mut from, &mut buffer, connection, is_between, since + ping).await;
            match event {
                Event::Read(read) => {
                    let length = read?;
                    if length == 0 {
                        self.to_client.shutdown().await?;
                        return Ok(Relayed::Closed);
                    }
                    let bytes = &buffer[..length];
                    let write = self.to_client.write_all(bytes);
                    match timeout(ping * 2, write).await {
                        Ok(written) => written?,
                        Err(_) => return Ok(Relayed::Expired),
                    }
                    self.frames.pass(bytes);
                    if !self.frames.is_between() {
                        // No ping can be sent in the middle of a long frame, so a client that takes the bytes of the
                        // frame counts as heard.
                        self.heard.touch();
                    }
                }
                Event::ShouldClose => return self.say_goodbye(from).await,
                Event::PingIsDue => {
                    let heard = self.heard.last();
                    match asked {
                        Some((_, before)) if before == heard => return Ok(Relayed::Expired),
                        None if heard + ping <= Instant::now() => {}
                        // The client was heard while this task waited, so no ping is due yet.
                        _ => continue,
                    }
                    asked = Some((Instant::now(), heard));
                    if is_between {
                        self.to_client.write_all(&PING).await?;
                        self.to_client.flush().await?;
                    }
                }
            }
        }
    }

    /// Sends the client a close frame. Waits until the client's answer has reached the upstream and the upstream has
    /// ended. Drops the bytes that the upstream still sends.
    async fn say_goodbye(mut self, mut from: impl AsyncRead + Unpin) -> io::Result<Relayed> {
        let goodbye = async {
            self.to_client.write_all(&GOING_AWAY).await?;
            self.to_client.flush().await?;
            let mut scrap = vec![0; BUFFER];
            while from.read(&mut scrap).await? > 0 {}
            self.to_client.shutdown().await
        };
        match timeout(self.times.farewell, goodbye).await {
            Ok(ended) => ended.map(|()| Relayed::Closed),
            Err(_) => Ok(Relayed::Closed),
        }
    }
}

/// Waits for the next event in the direction to a client. `is_between` tells whether that direction is between two
/// frames.
async fn next_event(
    from: &mut (impl AsyncRead + Unpin),
    buffer: &mut [u8],
    connection: &Connection,
    is_between: bool,
    ping: Instant,
) -> Event {
    let mut read = pin!(from.read(buffer));
    let mut closing = pin!(connection.cancelled());
    let mut due = pin!(sleep_until(ping));
    poll_fn(|cx| {
        // The upstream is read last, because an upstream that always has bytes ready would keep the close and the ping
        // from their turn.
        if is_between && closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::ShouldClose);
        }
        if due.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Event::PingIsDue);
        }
        read.as_mut().poll(cx).map(Event::Read)
    })
    .await
}

#[cfg(test)]
mod tests;
