//! One run of a plan: laid out, joined, reported.

use std::borrow::Cow;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use super::live::{Origin, Turn};
use super::{Live, Pulse, Seat, StepRun, contain};
use crate::context::{FOREVER, after};
use crate::plan::{UNSTATED, clip};
use crate::{BoxError, Component, Context, GracefulShutdown, Plan, clock, log};

/// A plan that runs. What the derive writes calls it; nothing else should.
#[derive(Debug)]
pub struct Run {
    pub(super) live: Arc<Live>,
    root: bool,
}

/// A future of one step.
type StepFuture<'a, 'b> = Pin<&'a mut (dyn Future<Output = ()> + Send + 'b)>;

impl Run {
    /// Opens the plan of a part, or of a variant of one.
    pub fn open<C: Component + ?Sized>(cx: &Context, this: &C, plan: &'static Plan) -> Self {
        let now = clock::now();
        let times = Times::of(this, plan);
        let deadline = match times.total {
            Some(total) => cx.hard_deadline().min(after(now, total)),
            None => cx.hard_deadline(),
        };
        let (live, root) = match cx.seat() {
            Some(seat) => (
                seat.open(cx.open_next(), plan.name(), deadline),
                seat.is_root(),
            ),
            None => {
                let origin = Origin::new(cx.reason().clone(), now);
                (Live::root(plan.name(), origin, deadline), false)
            }
        };
        if let Some((needed, given)) = live.lay_out(plan, &times, now) {
            if times.known_late {
                log::shrunk(plan.name(), needed, given);
            }
        }
        Self { live, root }
    }

    /// Opens the plan of an owner, and has its state remember it.
    pub fn open_owned<S: GracefulShutdown>(
        cx: &Context,
        this: &mut S,
        plan: &'static Plan,
    ) -> Self {
        if let Some(live) = this.__state().live() {
            let live = Arc::clone(live);
            let root = cx.seat().is_some_and(Seat::is_root);
            if let Some(seat) = cx.seat().filter(|seat| !seat.is_root()) {
                // It ran, or began to run, by itself before its owner's owner came to it.
                seat.adopt(&live);
            }
            if !live.is_open() {
                let times = Times::of(this, plan);
                if let Some((needed, given)) = live.lay_out(plan, &times, clock::now()) {
                    if times.known_late {
                        log::shrunk(plan.name(), needed, given);
                    }
                }
            }
            return Self { live, root };
        }
        let run = Self::open(cx, this, plan);
        if this.__state().is_disarmed() {
            run.live.finish_empty(clock::now());
        } else {
            this.__state_mut().run(Arc::clone(&run.live));
        }
        run
    }

    /// A row for each name, for the elements of a container, and where each is.
    pub(super) fn open_elements(cx: &Context, names: Vec<Cow<'static, str>>) -> (Self, Vec<usize>) {
        let live = match cx.seat() {
            Some(seat) => seat.open(cx.open_next(), "", cx.hard_deadline()),
            None => {
                let origin = Origin::new(cx.reason().clone(), clock::now());
                Live::root("", origin, cx.hard_deadline())
            }
        };
        let places = live.lay_out_elements(names);
        (Self { live, root: false }, places)
    }

    /// Begins step `i`.
    pub fn step(&self, i: usize) -> StepRun<'_> {
        StepRun::begin(self, i)
    }

    /// Step `i`, of a field that is a component. Lazy: it begins when it is first polled.
    pub async fn component<C: Component + ?Sized>(&self, i: usize, field: &mut C) {
        let step = self.step(i);
        let ending = step.run(async { field.cleanup(step.cx()).await }).await;
        // Each of its parts was aborted by itself, where it had to be; what is done stays so.
        let settled = C::PLAN.whole && step.is_settled();
        step.end(ending, || {
            if !settled {
                field.abort();
            }
        });
    }

    /// Polls every step that is due until all have ended.
    ///
    /// # Errors
    ///
    /// A [`ShutdownError`](crate::ShutdownError) if a step that is not `best_effort` is not done.
    pub async fn join(&self, steps: &mut [StepFuture<'_, '_>]) -> Result<(), BoxError> {
        if self.live.report().is_none() {
            let mut pulse = Pulse::new(&self.live, self.root);
            poll_fn(|cx| self.poll(steps, &mut pulse, cx)).await;
        }
        let report = self.live.finish(clock::now());
        if report.is_clean() {
            Ok(())
        } else {
            report
                .clone()
                .into_result()
                .map(drop)
                .map_err(BoxError::from)
        }
    }

    fn poll(
        &self,
        steps: &mut [StepFuture<'_, '_>],
        pulse: &mut Pulse<'_>,
        cx: &mut task::Context<'_>,
    ) -> Poll<()> {
        loop {
            pulse.register(cx);
            let Some(next) = self.pass(steps, cx) else {
                return Poll::Ready(());
            };
            if pulse.poll(next, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Polls each step that is due once. The first deadline among those that run, or `None` when all
    /// have ended. One pass is enough: steps are listed after what they depend on.
    fn pass(
        &self,
        steps: &mut [StepFuture<'_, '_>],
        cx: &mut task::Context<'_>,
    ) -> Option<Option<Instant>> {
        let mut open = false;
        let mut next: Option<Instant> = None;
        for (i, step) in steps.iter_mut().enumerate() {
            match self.live.turn(i) {
                Turn::Ended => continue,
                Turn::Waits => open = true,
                Turn::Due(_) if step.as_mut().poll(cx).is_ready() => {}
                Turn::Due(_) => {
                    open = true;
                    if let Turn::Due(Some(hard)) = self.live.turn(i) {
                        next = Some(next.map_or(hard, |next| next.min(hard)));
                    }
                }
            }
        }
        open.then_some(next)
    }
}

/// The timeouts that only a value knows.
#[derive(Default)]
pub(crate) struct Times {
    pub(crate) total: Option<Duration>,
    steps: Vec<Option<Duration>>,
    /// Whether any of them was computed, so that no proof covers the plan.
    known_late: bool,
}

impl Times {
    pub(crate) fn of<C: Component + ?Sized>(this: &C, plan: &Plan) -> Self {
        let mut times = Self {
            total: plan.timeout,
            ..Self::default()
        };
        let evaluated = contain(|| {
            this.__times(&mut |at, given| {
                times.known_late = true;
                match at {
                    None => times.total = Some(clip(given, plan.timeout)),
                    Some(i) => {
                        if times.steps.is_empty() {
                            times.steps.resize(plan.steps.len(), None);
                        }
                        if let (Some(slot), Some(step)) =
                            (times.steps.get_mut(i), plan.steps.get(i))
                        {
                            *slot = Some(clip(given, step.timeout));
                        }
                    }
                }
            });
        });
        if let Err(message) = evaluated {
            log::timeout_panicked(plan.name(), &message);
        }
        times.total = times.total.map(|total| total.min(FOREVER));
        times
    }

    /// The longest path through the plan, for which this much is given.
    pub(crate) fn longest(&self, plan: &Plan, given: Duration) -> Duration {
        self.tails(plan, self.most(given)).1
    }

    /// The most that one computed timeout counts for: an absurd one must not leave the others nothing.
    pub(super) fn most(&self, given: Duration) -> Duration {
        self.total.map_or(given, |total| total.max(given))
    }

    /// The timeout of step `i`.
    pub(super) fn timeout(&self, plan: &Plan, i: usize, most: Duration) -> Option<Duration> {
        let computed = self.steps.get(i).copied().flatten();
        computed
            .map(|time| time.min(most))
            .or(plan.steps[i].timeout)
    }

    /// The longest path after each step, and through the whole plan.
    pub(super) fn tails(&self, plan: &Plan, most: Duration) -> (Vec<Duration>, Duration) {
        let mut tails = vec![Duration::ZERO; plan.steps.len()];
        let mut longest = Duration::ZERO;
        // Backwards: what is after a step is known once all later steps are.
        for (i, step) in plan.steps.iter().enumerate().rev() {
            let nested = || step.nested.as_ref().and_then(Plan::budget);
            let cost = self
                .timeout(plan, i, most)
                .or_else(nested)
                .unwrap_or(UNSTATED);
            let path = tails[i].saturating_add(cost);
            longest = longest.max(path);
            for &earlier in step.after {
                tails[earlier] = tails[earlier].max(path);
            }
        }
        (tails, longest)
    }
}
