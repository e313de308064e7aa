//! The events that wake a waiting plan: its next deadline, a forced end, a hurry, and the time of the next progress
//! log.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::running::RunningPlan;
use super::timer::Timer;
use crate::context::after;
use crate::{clock, log};

/// The time between two logs of the steps that a running shutdown waits for.
const PROGRESS: Duration = Duration::from_secs(5);

/// The time between two records that the executor still polls a waiting plan.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Wakeups {
    timer: Timer,
    /// The time of the next log of the steps that the shutdown waits for. `None` in nested plans, which do not log
    /// this.
    progress: Option<Instant>,
}

impl Wakeups {
    pub(crate) fn new(plan: &RunningPlan, is_root: bool) -> Self {
        Self {
            timer: Timer::new(),
            progress: is_root.then(|| {
                let mut next = after(plan.shared.began, PROGRESS);
                skip_past(&mut next, clock::now());
                next
            }),
        }
    }

    /// Registers this task to be woken by a forced end or a hurry. Call this before you check whether the end was
    /// forced or hurried.
    pub(crate) fn register(&self, plan: &RunningPlan, cx: &Context<'_>) {
        if self.progress.is_some() {
            plan.shared.register(cx.waker());
        }
    }

    /// Returns `Ready` when the steps should be polled again: at `next`, or at the time of a heartbeat or a progress
    /// log.
    pub(crate) fn poll(
        &mut self,
        plan: &RunningPlan,
        mut next: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if let Some(progress) = &mut self.progress {
            plan.shared.record_heartbeat();
            let now = clock::now();
            if now >= *progress {
                log::progress(plan, now);
                skip_past(progress, now);
            }
            let own = (now + HEARTBEAT).min(*progress);
            next = Some(next.map_or(own, |next| next.min(own)));
        }
        self.timer.poll(next, cx)
    }
}

fn skip_past(next: &mut Instant, now: Instant) {
    while *next <= now {
        *next += PROGRESS;
    }
}
