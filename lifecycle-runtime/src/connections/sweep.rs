//! The one timer that watches idle connections.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{MissedTickBehavior, interval};

use super::{CloseReason, Shared};
use crate::gate::Gate;

/// How often the idle timeout is looked at, within it.
const LOOKS: u32 = 16;

/// Has the idle connections watched, unless they are.
pub(super) fn watch(shared: &Arc<Shared>, idle: Duration) {
    // Relaxed: of those who come first, one starts it.
    if shared.sweeping.load(Ordering::Relaxed) || shared.sweeping.swap(true, Ordering::Relaxed) {
        return;
    }
    let mark = Mark(Arc::downgrade(shared));
    tokio::spawn(sweep(mark, shared.tracked.gate.clone(), idle));
}

/// Taken back when the watch ends with its runtime, so that the next connection starts another.
struct Mark(Weak<Shared>);

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.sweeping.store(false, Ordering::Relaxed);
        }
    }
}

/// Ends when the connections are closed, which dropping them does.
async fn sweep(mark: Mark, gate: Gate, idle: Duration) {
    let mut ticks = interval((idle / LOOKS).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closed = pin!(gate.closed());
    while let Either::Right(_) = select(closed.as_mut(), pin!(ticks.tick())).await {
        let Some(shared) = mark.0.upgrade() else {
            return;
        };
        shared.sweep(idle);
    }
}

impl Shared {
    fn sweep(&self, idle: Duration) {
        let over = idle.saturating_mul(2);
        // Told outside of the lock: it wakes their tasks.
        for connection in self.tracked.chosen(|connection| connection.swept() >= idle) {
            if connection.idle() >= over {
                connection.force();
            } else {
                connection.close(CloseReason::Idle);
            }
        }
        self.tracked
            .abort_where(|connection| connection.close_reason() == Some(CloseReason::Forced));
    }
}
