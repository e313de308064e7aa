//! WebSocket connections on their way through (RFC 6455): relayed frame by frame
//! as they are, with pings that tell whether the client is still there, and with
//! an orderly close when the proxy is to end.

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

const BUFFER: usize = 16 * 1024;

/// A ping without data, as a server sends it: unmasked.
const PING: [u8; 2] = [0x89, 0];

/// Close, 1001 "going away".
const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xe9];

const CLOSE: u8 = 0x8;

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
                _ = connection.closing(), if whole => {
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

/// Where a direction stands: in a frame, or between two.
#[derive(Debug, Default)]
struct Frames {
    /// What has arrived of a frame's header.
    header: [u8; 14],
    have: usize,
    /// What has not arrived of its payload.
    left: u64,
}

impl Frames {
    fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// These bytes pass. Whether a close frame has ended in them.
    fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut closed = false;
        while !bytes.is_empty() {
            if self.have < self.header_length() {
                self.header[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                if self.have == self.header_length() {
                    self.left = self.payload_length();
                }
            } else {
                let part =
                    usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= part as u64;
                bytes = &bytes[part..];
            }
            if self.have == self.header_length() && self.left == 0 {
                closed |= self.header[0] & 0xf == CLOSE;
                self.have = 0;
            }
        }
        closed
    }

    /// As far as it is known from what has arrived: two bytes tell.
    fn header_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let big = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        match self.header[1] & 0x7f {
            126 => big(&self.header[2..4]),
            127 => big(&self.header[2..10]),
            length => u64::from(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use lifecycle_runtime::CloseReason;
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Ends {
        client: DuplexStream,
        upstream: DuplexStream,
        connection: Connection,
        relay: JoinHandle<End>,
    }

    fn ends(ping: Duration) -> Ends {
        let (client, inner) = duplex(1 << 16);
        let (outer, upstream) = duplex(1 << 16);
        let connection = Connection::alone("client");
        let told = connection.clone();
        let relay = tokio::spawn(async move { pass(inner, outer, ping, &told).await });
        Ends {
            client,
            upstream,
            connection,
            relay,
        }
    }

    async fn read<const N: usize>(from: &mut DuplexStream) -> [u8; N] {
        let mut bytes = [0; N];
        from.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// A frame as a client sends it: masked, with a mask of zeros.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![first, 0x80 | length, 0, 0, 0, 0];
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_are_told_apart_however_their_bytes_arrive() {
        let mut stream = masked(0x81, b"hello");
        stream.extend([0x82, 126, 0x01, 0x00]);
        stream.extend([7; 256]);
        stream.extend([0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        stream.extend([7; 65536]);
        stream.extend(PING);
        let ends = [11, 271, 65817, 65819];
        for step in [1, 2, 3, 1000, stream.len()] {
            let mut frames = Frames::default();
            let mut passed = 0;
            for part in stream.chunks(step) {
                assert!(!frames.pass(part));
                passed += part.len();
                assert_eq!(
                    frames.is_between(),
                    ends.contains(&passed),
                    "{step} {passed}"
                );
            }
            assert!(frames.pass(&masked(0x88, &[3, 232])));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_pass_both_ways_and_a_client_that_leaves_ends_it() {
        let mut ends = ends(30 * SECOND);
        let hello = masked(0x81, b"hello");
        ends.client.write_all(&hello).await.unwrap();
        assert_eq!(read::<11>(&mut ends.upstream).await, hello[..]);
        ends.upstream.write_all(&[0x81, 1, b'!']).await.unwrap();
        assert_eq!(read::<3>(&mut ends.client).await, [0x81, 1, b'!']);
        drop(ends.client);
        assert_eq!(ends.upstream.read(&mut [0]).await.unwrap(), 0);
        assert!(matches!(ends.relay.await.unwrap(), End::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_pinged_and_a_pong_keeps_it() {
        let mut ends = ends(30 * SECOND);
        for _ in 0..5 {
            assert_eq!(read(&mut ends.client).await, PING);
            ends.client.write_all(&masked(0x8a, b"")).await.unwrap();
            assert_eq!(read::<6>(&mut ends.upstream).await[0], 0x8a);
        }
        let silent = Instant::now();
        assert_eq!(read(&mut ends.client).await, PING);
        assert!(matches!(ends.relay.await.unwrap(), End::Expired));
        assert_eq!(silent.elapsed(), 60 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_the_client_is_told_between_frames_and_its_answer_reaches_the_upstream() {
        let mut ends = ends(30 * SECOND);
        ends.upstream.write_all(&[0x81, 2, b'a']).await.unwrap();
        assert_eq!(read::<3>(&mut ends.client).await[2], b'a');
        ends.connection.close(CloseReason::Drain);
        tokio::task::yield_now().await;
        ends.upstream.write_all(b"b").await.unwrap();
        assert_eq!(read::<1>(&mut ends.client).await, *b"b");
        assert_eq!(read(&mut ends.client).await, GOING_AWAY);
        let answer = masked(0x88, &[3, 0xe9]);
        ends.client.write_all(&answer).await.unwrap();
        assert_eq!(read::<8>(&mut ends.upstream).await, answer[..]);
        drop(ends.upstream);
        assert_eq!(ends.client.read(&mut [0]).await.unwrap(), 0);
        assert!(matches!(ends.relay.await.unwrap(), End::Closed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_answer_the_close_is_left_after_a_while() {
        let ends = ends(30 * SECOND);
        ends.connection.close(CloseReason::Drain);
        let start = Instant::now();
        assert!(matches!(ends.relay.await.unwrap(), End::Closed));
        assert_eq!(start.elapsed(), FAREWELL);
    }
}
