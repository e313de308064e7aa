//! Status snapshots as server-sent events: one a second, and one at every change of a shutdown. The
//! stream ends in the admin listener's own step, with an event that is called `last`.

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

/// The time after which a client reconnects.
const RETRY: &str = "retry: 1000\n\n";

/// Returns the events, until `connection` is to close.
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

/// The changes that cause a snapshot.
struct Watch {
    /// The interval, whose first tick is due at once.
    ticks: Interval,
    /// `None` once no more changes can come.
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
            // The sender is in `sources`, so an error cannot occur.
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

/// Formats an event. JSON text has no line ends, so one `data` line is enough.
fn event(lead: &str, name: &str, json: &[u8]) -> Bytes {
    let mut text = BytesMut::with_capacity(json.len() + 64);
    for part in [lead, "event: ", name, "\ndata: "] {
        text.put_slice(part.as_bytes());
    }
    text.put_slice(json);
    text.put_slice(b"\n\n");
    text.freeze()
}
