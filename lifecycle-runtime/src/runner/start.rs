//! The start: it builds the server, and is told to stop if a shutdown is requested first.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::guard::Guard;
use super::options::StartTimes;
use super::source::{Built, Source};
use super::stop::{self, StopTrigger};
use crate::context::after;
use crate::engine::{EndedStep, Timer, contain};
use crate::report::Outcome;
use crate::text::Time;
use crate::unawaited::{self, UnawaitedDrop};
use crate::{BoxError, Reason, ShutdownHandle, Step, clock, log};

/// The result of a start.
pub(super) struct Started<S> {
    /// The server, or the parts of it that the start's error held. `None` if nothing was returned.
    pub(super) server: Option<S>,
    /// Whether the start returned a whole server, so that main may run.
    pub(super) is_complete: bool,
    /// The time when the start was told to stop. `None` if it was not told to.
    pub(super) stopped_at: Option<Instant>,
    /// The report's row `start`. `None` if there is nothing to report about the start.
    pub(super) row: Option<Step>,
    /// The trigger of the start's `Stop`. Tasks that the start spawned may hold that `Stop`.
    pub(super) trigger: StopTrigger,
}

/// How the future of a start ended.
enum Ended<S> {
    Built(S),
    Failed(Option<S>, BoxError),
    /// The start did not return within the time that it had after it was told to stop.
    TimedOut,
    /// A further signal or a hurry ended the wait for the start.
    Cut,
}

/// The future of a start, and the owners that it dropped without a shutdown.
struct Building<'a, F> {
    future: Pin<&'a mut Option<F>>,
    dropped: Vec<UnawaitedDrop>,
}

/// Runs the start, which builds the server. When a shutdown is requested, tells the start to stop, and gives it a
/// bounded time to return.
pub(super) async fn start<S, B: Source<S>>(
    source: B,
    times: StartTimes,
    handle: &ShutdownHandle,
    guard: &Guard,
) -> Started<S> {
    let began = clock::now();
    let (stop, trigger) = stop::pair();
    let future = pin!(Some(source.server(stop)));
    let mut building = Building {
        future,
        dropped: Vec::new(),
    };
    let mut stopped_at = None;
    let ended = match until_stopped(&mut building, times, handle, began).await {
        Some(ended) => ended,
        None => {
            let now = clock::now();
            stopped_at = Some(now);
            guard.record_begin();
            trigger.fire();
            let ended = until_cut(&mut building, times, handle, now).await;
            handle.end_early_phase();
            ended
        }
    };
    building.clear();
    let (server, outcome) = match ended {
        Ended::Built(server) => (Some(server), Outcome::Done),
        Ended::Failed(server, error) => (server, Outcome::Failed(error.into())),
        Ended::TimedOut => (None, Outcome::TimedOut { waiting_for: None }),
        Ended::Cut => (None, Outcome::Aborted),
    };
    let is_complete = outcome.is_done() && stopped_at.is_none();
    let is_reason = match &outcome {
        Outcome::Failed(error) => handle.request(Reason::StartFailed(Arc::clone(error))),
        _ => false,
    };
    let tells =
        stopped_at.is_some() || !(outcome.is_done() || is_reason) || !building.dropped.is_empty();
    let row = tells.then(|| {
        let since = stopped_at.unwrap_or(began);
        let elapsed = clock::now().saturating_duration_since(since);
        let budget = match stopped_at {
            Some(_) => times.stop_timeout,
            None => elapsed,
        };
        let mut row = Step::outside_plan(START, Duration::ZERO, elapsed, budget);
        row.priority = i32::MIN;
        row.outcome = outcome;
        if let Outcome::Aborted = row.outcome {
            row.why = Some("a signal or a hurry cut it".into());
        }
        row.steps = unawaited::rows(building.dropped, elapsed);
        row
    });
    if let Some(step) = &row {
        let step = step.clone();
        log::step_end(&EndedStep {
            path: START.into(),
            step,
            best_effort: false,
        });
    }
    Started {
        server,
        is_complete,
        stopped_at,
        row,
        trigger,
    }
}

/// The name of the start's row.
const START: &str = "start";

/// Polls the start until it ends. Returns `None` once a shutdown is requested or the start has taken too long.
async fn until_stopped<S, F: Future<Output = Built<S>>>(
    building: &mut Building<'_, F>,
    times: StartTimes,
    handle: &ShutdownHandle,
    began: Instant,
) -> Option<Ended<S>> {
    let mut requested = pin!(handle.requested());
    let limit = times.timeout.map(|timeout| after(began, timeout));
    let mut timer = Timer::new();
    poll_fn(|cx| {
        // The start is polled before the shutdown is checked, since a server that is ready must not be lost.
        if let Poll::Ready(ended) = building.poll(cx) {
            return Poll::Ready(Some(ended));
        }
        if requested.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if timer.poll(limit, cx).is_ready() {
            let timeout = times.timeout.unwrap_or_default();
            let error = BoxError::from(format!("it took more than {}", Time(timeout)));
            handle.request(Reason::StartFailed(error.into()));
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

/// Polls a start that was told to stop, until it ends or its time is over.
async fn until_cut<S, F: Future<Output = Built<S>>>(
    building: &mut Building<'_, F>,
    times: StartTimes,
    handle: &ShutdownHandle,
    stopped_at: Instant,
) -> Ended<S> {
    let over = handle.begin_early_phase(stopped_at);
    let mut over = pin!(over.cancelled());
    let until = after(stopped_at, times.stop_timeout);
    let mut timer = Timer::new();
    poll_fn(|cx| {
        if let Poll::Ready(ended) = building.poll(cx) {
            return Poll::Ready(ended);
        }
        if over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::Cut);
        }
        timer.poll(Some(until), cx).map(|()| Ended::TimedOut)
    })
    .await
}

impl<S, F: Future<Output = Built<S>>> Building<'_, F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended<S>> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return Poll::Pending;
        };
        let polled = unawaited::collect(
            || contain(|| future.poll(cx)),
            |lost| self.dropped.extend(lost),
        );
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(server))) => Poll::Ready(Ended::Built(server)),
            Ok(Poll::Ready(Err((server, error)))) => Poll::Ready(Ended::Failed(server, error)),
            Err(message) => {
                let error = BoxError::from(format!("panicked: {message}"));
                Poll::Ready(Ended::Failed(None, error))
            }
        }
    }

    /// Drops the start's future and the values inside it. Their drops are foreign code.
    fn clear(&mut self) {
        // The result is ignored: a panic of the drop does not change the start's outcome.
        let _ = unawaited::collect(
            || contain(|| self.future.set(None)),
            |lost| self.dropped.extend(lost),
        );
    }
}
