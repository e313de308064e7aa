//! A shutdown written without the derive. Eight steps run in order. Each has a timeout, a row in a report and a log
//! line. A panic of a step is caught, and a step that does not succeed is aborted. If the future of the shutdown is
//! dropped, the next call resumes it with the same deadlines. A call after the end returns the same report.

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, Reason};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Ready;

const TOTAL: Duration = Duration::from_secs(25);
const STEP: Duration = Duration::from_secs(1);

#[derive(Default)]
pub struct ByHand {
    a: Ready,
    b: Ready,
    c: Ready,
    d: Ready,
    e: Ready,
    f: Ready,
    g: Ready,
    h: Ready,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Armed,
    Running(Box<Running>),
    Ended(Arc<HandReport>),
}

struct Running {
    began: Instant,
    rows: Vec<Row>,
}

pub struct HandReport {
    #[expect(dead_code, reason = "a report has it")]
    elapsed: Duration,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    started: Duration,
    elapsed: Duration,
    outcome: Outcome,
}

enum Outcome {
    Done,
    Failed(BoxError),
    Panicked(String),
    TimedOut,
}

impl HandReport {
    pub fn is_clean(&self) -> bool {
        self.rows
            .iter()
            .all(|row| matches!(row.outcome, Outcome::Done))
    }
}

impl ByHand {
    /// Returns how many cleanups have run in all, over all eight steps.
    pub fn runs(&self) -> u64 {
        [
            &self.a, &self.b, &self.c, &self.d, &self.e, &self.f, &self.g, &self.h,
        ]
        .map(|step| step.0)
        .iter()
        .sum()
    }

    pub async fn shutdown(&mut self) -> Arc<HandReport> {
        if let State::Armed = self.state {
            let rows = Vec::with_capacity(8);
            let began = Instant::now();
            self.state = State::Running(Box::new(Running { began, rows }));
        }
        let running = match &mut self.state {
            State::Running(running) => running,
            State::Ended(report) => return Arc::clone(report),
            State::Armed => unreachable!("it was begun above"),
        };
        running.step(0, "a", &mut self.a).await;
        running.step(1, "b", &mut self.b).await;
        running.step(2, "c", &mut self.c).await;
        running.step(3, "d", &mut self.d).await;
        running.step(4, "e", &mut self.e).await;
        running.step(5, "f", &mut self.f).await;
        running.step(6, "g", &mut self.g).await;
        running.step(7, "h", &mut self.h).await;
        let report = Arc::new(HandReport {
            elapsed: running.began.elapsed(),
            rows: std::mem::take(&mut running.rows),
        });
        self.state = State::Ended(Arc::clone(&report));
        report
    }
}

impl Running {
    async fn step<C: Component>(&mut self, at: usize, name: &'static str, component: &mut C) {
        if self.rows.len() > at {
            return;
        }
        let started = Instant::now();
        // A step ends early enough to leave each later step its full timeout.
        let latest = self.began + TOTAL - STEP * (7 - at as u32);
        let hard = (started + STEP).min(latest);
        let cx = Context::new(Reason::Requested, hard - started);
        let outcome = cut(component.cleanup(&cx), hard).await;
        if !matches!(outcome, Outcome::Done) {
            let _ = catch_unwind(AssertUnwindSafe(|| component.abort()));
        }
        let row = Row {
            name,
            started: started - self.began,
            elapsed: started.elapsed(),
            outcome,
        };
        tracing::info!(
            target: "by_hand",
            step = row.name,
            outcome = %row.outcome,
            started_ms = row.started.as_millis() as u64,
            elapsed_ms = row.elapsed.as_millis() as u64,
            "step_end"
        );
        self.rows.push(row);
    }
}

/// Runs a cleanup until it ends, panics, or reaches the deadline `hard`.
async fn cut(cleanup: impl Future<Output = Result<(), BoxError>>, hard: Instant) -> Outcome {
    let mut cleanup = pin!(cleanup);
    let mut timer: Option<std::pin::Pin<Box<Sleep>>> = None;
    poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| cleanup.as_mut().poll(cx))) {
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(Outcome::Done),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Outcome::Failed(error)),
            Ok(Poll::Pending) => {
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(hard)));
                timer.as_mut().poll(cx).map(|()| Outcome::TimedOut)
            }
            Err(payload) => Poll::Ready(Outcome::Panicked(match payload.downcast::<String>() {
                Ok(text) => *text,
                Err(payload) => payload
                    .downcast::<&str>()
                    .map_or_else(|_| "no text".into(), |text| (*text).into()),
            })),
        },
    )
    .await
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::TimedOut => f.write_str("timed out"),
        }
    }
}
