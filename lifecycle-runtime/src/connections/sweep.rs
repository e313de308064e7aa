//! The one timer that expires idle connections.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{MissedTickBehavior, interval};

use super::{CloseReason, Shared};
use crate::gate::Gate;

/// How often within the idle timeout the connections are checked.
const CHECKS: u32 = 16;

/// Starts the task that expires idle connections, unless it is running.
pub(super) fn watch(shared: &Arc<Shared>, idle: Duration) {
    // Relaxed: only the thread that sets the flag spawns the task.
    if shared.sweeping.load(Ordering::Relaxed) || shared.sweeping.swap(true, Ordering::Relaxed) {
        return;
    }
    let guard = SweepGuard(Arc::downgrade(shared));
    tokio::spawn(sweep(guard, shared.tracked.gate.clone(), idle));
}

/// Clears `sweeping` when the task ends with its runtime, so that the next connection starts another.
struct SweepGuard(Weak<Shared>);

impl Drop for SweepGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.sweeping.store(false, Ordering::Relaxed);
        }
    }
}

/// Expires idle connections until the set is closed. Dropping the set closes it.
async fn sweep(guard: SweepGuard, gate: Gate, idle: Duration) {
    let mut ticks = interval((idle / CHECKS).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut closed = pin!(gate.closed());
    while let Either::Right(_) = select(closed.as_mut(), pin!(ticks.tick())).await {
        let Some(shared) = guard.0.upgrade() else {
            return;
        };
        shared.sweep(idle);
    }
}

impl Shared {
    fn sweep(&self, idle: Duration) {
        let over = idle.saturating_mul(2);
        // After the lock is released, since this wakes the connections' tasks.
        for connection in self
            .tracked
            .chosen(|connection| connection.record_sweep() >= idle)
        {
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
