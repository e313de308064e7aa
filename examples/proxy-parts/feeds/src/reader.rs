//! A reader of the events in a body, with limits for the size of an event and for the time without
//! data.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{Stream, try_unfold};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use lifecycle_runtime::BoxError;
use sse_stream::{Sse, SseByteStream};
use tokio::time::timeout;

/// The limits of a stream of events.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The size of the largest event, in bytes.
    pub longest: usize,
    /// The longest time without a byte. Bytes of comments count as bytes.
    pub idle: Duration,
}

/// The reason why the reading of a stream was aborted.
#[derive(Debug)]
pub enum Broken {
    /// No byte came within the time limit.
    Silent,
    /// An event was larger than the limit.
    TooLong,
    /// The body failed, such as when the connection broke.
    Body(BoxError),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no data for too long"),
            Self::TooLong => f.write_str("an event was too long"),
            Self::Body(error) => write!(f, "the connection broke: {error}"),
        }
    }
}

impl Error for Broken {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Body(error) => Some(&**error),
            _ => None,
        }
    }
}

/// Returns the events of `body`, up to its end or the first error.
pub fn events<B>(body: B, limits: Limits) -> impl Stream<Item = Result<Sse, sse_stream::Error>>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    let pieces = try_unfold(
        (body, Block::default()),
        move |(mut body, mut block)| async move {
            loop {
                let frame = timeout(limits.idle, body.frame()).await;
                let Some(frame) = frame.map_err(|_| Broken::Silent)? else {
                    return Ok(None);
                };
                let frame = frame.map_err(|error| Broken::Body(error.into()))?;
                let Ok(bytes) = frame.into_data() else {
                    continue; // Trailers.
                };
                if block.longest_after(&bytes) > limits.longest {
                    return Err(Broken::TooLong);
                }
                return Ok(Some((bytes, (body, block))));
            }
        },
    );
    SseByteStream::new(Box::pin(pieces))
}

/// A counter for the length of the current event, without comments.
#[derive(Debug, Default)]
struct Block {
    length: usize,
    line: Line,
}

/// The state of the line that is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Line {
    #[default]
    Empty,
    /// An empty line after a CR. If the next byte is a LF, it belongs to the same line end.
    AfterReturn,
    Field,
    Comment,
}

impl Block {
    /// Counts these bytes. Returns the largest length that an event had reached meanwhile.
    fn longest_after(&mut self, bytes: &[u8]) -> usize {
        let mut longest = 0;
        for byte in bytes {
            self.line = match (byte, self.line) {
                (b'\n', Line::AfterReturn) => Line::Empty,
                (b'\r' | b'\n', line) => {
                    if matches!(line, Line::Empty | Line::AfterReturn) {
                        self.length = 0;
                    }
                    if *byte == b'\r' {
                        Line::AfterReturn
                    } else {
                        Line::Empty
                    }
                }
                (b':', Line::Empty | Line::AfterReturn) | (_, Line::Comment) => Line::Comment,
                _ => Line::Field,
            };
            self.length += usize::from(self.line == Line::Field);
            longest = longest.max(self.length);
        }
        longest
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use tokio::time::Instant;

    use super::*;

    const LIMITS: Limits = Limits {
        longest: 20,
        idle: Duration::from_secs(60),
    };

    async fn data(text: impl Into<Bytes>) -> Vec<Option<String>> {
        let events = events(Full::from(text.into()), LIMITS);
        events
            .map(|event| event.ok().and_then(|event| event.data))
            .collect()
            .await
    }

    #[tokio::test]
    async fn an_event_may_be_as_long_as_allowed_however_many_there_are() {
        let most = "data: 90123456789012";
        let three = format!("{most}\n\n").repeat(3) + &format!("{most}\r\n\r\n").repeat(3);
        assert_eq!(data(three).await.len(), 6);
        let longer = format!("data: x\n\n{most}3\n\n");
        assert_eq!(data(longer.clone() + "data: y\n\n").await, [None]);
        let comments = ": not counted, for ever\n".repeat(100) + "data: x\n\n";
        assert_eq!(data(comments).await, [Some("x".into())]);
        let lines = "data: 1\r".repeat(4);
        assert_eq!(data(lines).await, [None], "of several lines");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_is_aborted() {
        let start = Instant::now();
        let pieces = futures_util::stream::iter(["data: x\n\n", ":\n"]).then(|piece| async move {
            tokio::time::sleep(Duration::from_secs(50)).await;
            Ok::<_, Broken>(Frame::data(Bytes::from(piece)))
        });
        let body = StreamBody::new(Box::pin(pieces.chain(futures_util::stream::pending())));
        let mut events = Box::pin(events(body, LIMITS));
        assert!(events.next().await.unwrap().is_ok());
        let error = events.next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("no data"), "{error}");
        assert_eq!(start.elapsed().as_secs(), 50 + 50 + 60);
    }
}
