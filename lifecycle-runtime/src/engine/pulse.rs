//! What wakes a plan that waits: its next deadline, a forced end, and the time to say how it goes.

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::Live;
use super::timer::Timer;
use crate::context::after;
use crate::{clock, log};

/// How often a running shutdown says what it waits for.
const PROGRESS: Duration = Duration::from_secs(5);

/// How often a plan that waits shows that the executor gets to it.
const BEAT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Pulse {
    timer: Timer,
    /// When to say how it goes. Only the root does.
    progress: Option<Instant>,
}

impl Pulse {
    pub(crate) fn new(live: &Live, root: bool) -> Self {
        Self {
            timer: Timer::new(),
            progress: root.then(|| {
                let mut next = after(live.origin.began, PROGRESS);
                skip_past(&mut next, clock::now());
                next
            }),
        }
    }

    /// Has a forced end wake this task. Call before looking whether there was one.
    pub(crate) fn register(&self, live: &Live, cx: &Context<'_>) {
        if self.progress.is_some() {
            live.origin.register(cx.waker());
        }
    }

    /// Ready when it is time to look again: at `next`, or after it told how things go.
    pub(crate) fn poll(
        &mut self,
        live: &Live,
        mut next: Option<Instant>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if let Some(progress) = &mut self.progress {
            live.origin.beat();
            let now = clock::now();
            if now >= *progress {
                log::progress(live, now);
                skip_past(progress, now);
            }
            let beat = now + BEAT;
            let own = beat.min(*progress);
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
