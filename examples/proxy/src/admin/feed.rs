//! Status snapshots as server-sent events: one snapshot each second, and one at every change of a
//! shutdown. When the shutdown closes the admin listener, the stream ends with an event named
//! `last`.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::unfold;
use hyper::body::Frame;
use lifecycle_runtime::{CloseReason, Connection, Progress, ReadyState};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::status::Status;

/// The longest interval between two snapshots.
pub const PERIOD: Duration = Duration::from_secs(1);

/// The field that makes a client reconnect after one second.
const RETRY: &str = "retry: 1000\n\n";

/// Returns a stream of events, which ends when `connection` is to close.
pub fn stream(
    status: Arc<Status>,
    period: Duration,
    connection: Connection,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let sources = status.sources();
    let watch = Watch {
        ticks,
        progress: Some(sources.handle.progress()),
        requested: Some(sources.handle.token()),
        readiness: sources.readiness.watch(),
        closing: Box::pin(async move { connection.cancelled().await }),
    };
    unfold((Some(watch), RETRY), move |(watch, lead)| {
        let status = status.clone();
        async move {
            let mut watch = watch?;
            let (name, next) = if watch.changed().await {
                ("snapshot", Some(watch))
            } else {
                ("last", None)
            };
            let frame = Frame::data(event(lead, name, &status.json()));
            Some((Ok(frame), (next, "")))
        }
    })
}

/// The changes that cause a snapshot to be sent.
struct Watch {
    /// The timer for regular snapshots, whose first tick is due at once.
    ticks: Interval,
    /// The progress of the shutdown. `None` once it cannot change any more.
    progress: Option<Progress>,
    requested: Option<CancellationToken>,
    readiness: watch::Receiver<ReadyState>,
    closing: Pin<Box<dyn Future<Output = CloseReason> + Send>>,
}

impl Watch {
    /// Waits for the next change. Returns false once the connection is to close.
    async fn changed(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.closing.as_mut() => return false,
            more = next(&mut self.progress) => if !more { self.progress = None },
            () = requested(&self.requested) => self.requested = None,
            // Ignores the result: the error would mean that the sender is gone, but `sources` holds
            // it.
            _ = self.readiness.changed() => {}
            _ = self.ticks.tick() => {}
        }
        true
    }
}

async fn next(progress: &mut Option<Progress>) -> bool {
    match progress {
        Some(progress) => progress.changed().await,
        None => std::future::pending().await,
    }
}

async fn requested(requested: &Option<CancellationToken>) {
    match requested {
        Some(requested) => requested.cancelled().await,
        None => std::future::pending().await,
    }
}

/// Formats an event. One `data` line is enough, since the JSON text has no line ends.
fn event(lead: &str, name: &str, json: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(json.len() + 64);
    for part in [lead, "event: ", name, "\ndata: "] {
        text.put_slice(part.as_bytes());
    }
    text.put_slice(json);
    text.put_slice(b"\n\n");
    text.freeze()
}
