//! The one timer that watches idle connections.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::{CloseReason, Shared};

/// How often the idle timeout is looked at, within it.
const LOOKS: u32 = 16;

/// Ends with the connections it watches, and with their drain.
pub(super) async fn sweep(shared: Weak<Shared>, idle: Duration) {
    let mut ticks = interval((idle / LOOKS).max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        if shared.tracked.gate.is_closed() {
            return;
        }
        let mut stayed = false;
        for (_, connection) in shared.tracked.all() {
            let since = connection.swept();
            if since >= idle.saturating_mul(2) {
                connection.force();
                stayed = true;
            } else if since >= idle {
                connection.close(CloseReason::Idle);
            }
        }
        if stayed {
            shared
                .tracked
                .abort_where(|connection| connection.close_reason() == Some(CloseReason::Forced));
        }
    }
}
