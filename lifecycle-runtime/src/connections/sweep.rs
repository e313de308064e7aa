//! The one timer that closes the idle connections of a set.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::time::{MissedTickBehavior, interval};

use super::{CloseReason, Shared};
use crate::gate::Gate;

/// The number of idle checks within one idle timeout.
const CHECKS: u32 = 16;

/// Starts the task that closes the set's idle connections, unless that task is already running.
pub(super) fn watch(shared: &Arc<Shared>, idle: Duration) {
    // Relaxed is enough: only the thread that changes the flag to true spawns the task.
    if shared.sweeping.load(Ordering::Relaxed) || shared.sweeping.swap(true, Ordering::Relaxed) {
        return;
    }
    let guard = SweepGuard(Arc::downgrade(shared));
    tokio::spawn(sweep(guard, shared.tracked.gate.clone(), idle));
}

/// A guard that clears `sweeping` when the task ends. If the task ended with its runtime, the next connection starts
/// another task.
struct SweepGuard(Weak<Shared>);

impl Drop for SweepGuard {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.sweeping.store(false, Ordering::Relaxed);
        }
    }
}

/// Signals idle connections to close at each tick, until the set is closed. Dropping the set closes it.
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
        // This loop runs after the registry's lock is released, since it wakes the connections' tasks.
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
