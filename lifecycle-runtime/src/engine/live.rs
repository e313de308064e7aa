//! The live state of a running plan: what has ended, what runs, and what it waits for.
//!
//! Written by the engine, read from anywhere: progress, time-outs, a forced end on another thread.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::{Times, contain};
use crate::plan::Places;
use crate::reason::Force;
use crate::report::{Outcome, Report, Step};
use crate::{Context, Plan, Reason, StepProgress};

/// What all plans of one shutdown share.
pub(crate) struct Origin {
    pub(crate) reason: Reason,
    pub(crate) began: Instant,
    /// What forces the end, or 0.
    forced: AtomicI32,
    /// When a root was last polled, in milliseconds of real time since it was made: the executor's pulse.
    beat: AtomicU64,
    made: Instant,
    /// Woken by a forced end.
    waker: Mutex<Option<Waker>>,
    /// The step `main`, which a runner awaits before the plan.
    ahead: Mutex<Option<Row>>,
    /// Counts what changes, for those who watch.
    changes: watch::Sender<u64>,
}

impl Origin {
    pub(crate) fn new(reason: Reason, began: Instant) -> Arc<Self> {
        Arc::new(Self {
            reason,
            began,
            forced: AtomicI32::new(0),
            beat: AtomicU64::new(0),
            made: Instant::now(),
            waker: Mutex::new(None),
            ahead: Mutex::new(None),
            changes: watch::Sender::new(0),
        })
    }

    pub(crate) fn forced(&self) -> Option<Force> {
        // Acquire pairs with the store in `force`: who sees the mark sees what came before it.
        Force::from_raw(self.forced.load(Ordering::Acquire))
    }

    /// The executor got to the plan.
    pub(crate) fn beat(&self) {
        let beat = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        // Relaxed: it is only compared with the time.
        self.beat.store(beat, Ordering::Relaxed);
    }

    /// How long ago it last did.
    pub(crate) fn since_beat(&self, now: Instant) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        now.saturating_duration_since(self.made)
            .saturating_sub(beat)
    }

    /// Cuts every step as soon as the executor gets to it.
    pub(crate) fn force(&self, by: Force) {
        self.forced.store(by.as_raw(), Ordering::Release);
        // Woken outside the lock: some executors poll at once.
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Has `waker` woken by a forced end. Call before looking at [`forced`](Self::forced).
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = lock(&self.waker);
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    /// Tells who watches. Who begins to watch later looks at the rows first, which are changed by now.
    pub(crate) fn changed(&self) {
        if self.changes.receiver_count() > 0 {
            self.changes
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// One running plan.
pub(crate) struct Live {
    pub(crate) component: &'static str,
    /// The dotted path of the step this plan is nested in, empty for an owner's.
    path: Box<str>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) deadline: Instant,
    /// Whether a step around it is: then its own are no worse.
    best_effort: bool,
    rows: Mutex<Vec<Row>>,
    /// One more than the row that is being polled, or 0: who holds a blocked executor.
    polled: AtomicUsize,
    /// Set once, when the plan has ended.
    report: OnceLock<Report>,
}

/// The step that a runner awaits before the plan.
pub(crate) const MAIN: &str = "main";

/// One step of a running plan; in the end, its row in the report.
pub(super) struct Row {
    name: Cow<'static, str>,
    priority: i32,
    after: Places,
    required: bool,
    best_effort: bool,
    /// Its own timeout, shrunk where less time is given than the plan needs.
    timeout: Option<Duration>,
    /// The longest path after it, shrunk likewise.
    tail: Duration,
    /// A step before it was required and is not done.
    skip: bool,
    started: Option<Instant>,
    hard: Option<Instant>,
    elapsed: Duration,
    outcome: Option<Outcome>,
    /// The plans that its component opened, in order; mostly one.
    nested: Vec<Arc<Live>>,
    waiting_for: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    on_force: Vec<Box<dyn FnOnce() + Send>>,
    /// What its future left behind when it was dropped, to be taken up.
    left: Option<Box<dyn Any + Send>>,
}

impl Row {
    fn new(name: Cow<'static, str>) -> Self {
        Self {
            name,
            priority: 0,
            after: Places::NONE,
            required: false,
            best_effort: false,
            timeout: None,
            tail: Duration::ZERO,
            skip: false,
            started: None,
            hard: None,
            elapsed: Duration::ZERO,
            outcome: None,
            nested: Vec::new(),
            waiting_for: None,
            on_force: Vec::new(),
            left: None,
        }
    }

    fn ended(&self) -> bool {
        self.outcome.is_some()
    }
}

/// Where a component sits: its row in a running plan.
#[derive(Clone)]
pub struct Seat {
    live: Arc<Live>,
    row: usize,
}

/// How a step begins.
pub(super) struct Begin {
    pub(super) skip: bool,
    pub(super) started: Instant,
    pub(super) hard: Instant,
}

/// What there is to say of an ended step.
pub(crate) struct Ended<'a> {
    /// Where its path is looked up; `None` for main. A path is put together only where somebody reads it.
    pub(crate) at: Option<(&'a Live, usize)>,
    pub(crate) element: bool,
    pub(crate) best_effort: bool,
    pub(crate) outcome: Outcome,
    pub(crate) elapsed: Duration,
    pub(crate) budget: Duration,
}

/// A step that has not ended, and what can say what it waits for.
pub(crate) struct OpenStep {
    pub(crate) view: StepProgress,
    waiting_for: Option<Arc<dyn Fn() -> String + Send + Sync>>,
}

impl OpenStep {
    /// Asks it, which runs a component's code.
    pub(crate) fn described(mut self) -> StepProgress {
        self.view.waiting_for = self.waiting_for.and_then(describe);
        self.view
    }
}

impl Ended<'_> {
    /// The dotted path of the step.
    pub(crate) fn path(&self) -> String {
        match self.at {
            Some((live, i)) => live
                .rows()
                .get(i)
                .map(|row| live.path_of(row))
                .unwrap_or_default(),
            None => MAIN.into(),
        }
    }
}

impl Live {
    /// The plan of an owner that is shut down by itself.
    pub(crate) fn root(
        component: &'static str,
        origin: Arc<Origin>,
        deadline: Instant,
    ) -> Arc<Self> {
        Arc::new(Self::new(component, Box::from(""), origin, deadline, false))
    }

    fn new(
        component: &'static str,
        path: Box<str>,
        origin: Arc<Origin>,
        deadline: Instant,
        best_effort: bool,
    ) -> Self {
        Self {
            component,
            path,
            origin,
            deadline,
            best_effort,
            rows: Mutex::new(Vec::new()),
            polled: AtomicUsize::new(0),
            report: OnceLock::new(),
        }
    }

    fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        lock(&self.rows)
    }

    pub(crate) fn report(&self) -> Option<&Report> {
        self.report.get()
    }

    /// Lays out the rows of `plan`.
    ///
    /// `times` are those known at run time; `now` is when the plan starts: if less time is left than
    /// its longest path needs, all budgets shrink in proportion.
    /// What it needs and what it has is returned where that happens.
    pub(super) fn lay_out(
        &self,
        plan: &Plan,
        times: &Times,
        now: Instant,
    ) -> Option<(Duration, Duration)> {
        let mut rows = self.rows();
        let given = self.deadline.saturating_duration_since(now);
        let most = times.most(given);
        rows.reserve_exact(plan.steps().len());
        for (i, step) in plan.steps().iter().enumerate() {
            rows.push(Row {
                priority: step.priority(),
                after: step.after,
                required: step.is_required(),
                best_effort: step.is_best_effort(),
                timeout: times.timeout(plan, i, most),
                ..Row::new(Cow::Borrowed(step.name()))
            });
        }
        let longest = times.tails(plan, most, &mut rows, |row| &mut row.tail);
        if given >= longest {
            return None;
        }
        let shrink = given.as_secs_f64() / longest.as_secs_f64();
        for row in rows.iter_mut() {
            row.tail = row.tail.mul_f64(shrink);
            row.timeout = row.timeout.map(|timeout| timeout.mul_f64(shrink));
        }
        Some((longest, given))
    }

    /// Lays out a row for each name, unless an earlier run has: where each is. None once all have ended.
    pub(super) fn lay_out_elements(&self, names: Vec<Cow<'static, str>>) -> Vec<usize> {
        if self.report().is_some() {
            return Vec::new();
        }
        let mut rows = self.rows();
        let again = !rows.is_empty();
        let place = |(i, name): (usize, Cow<'static, str>)| {
            let is_it = |row: &Row| row.name == name;
            if rows.get(i).is_some_and(is_it) {
                return i;
            }
            // The component may have let go of some that had ended.
            if let Some(known) = again.then(|| rows.iter().position(is_it)).flatten() {
                return known;
            }
            rows.push(Row::new(name));
            rows.len() - 1
        };
        names.into_iter().enumerate().map(place).collect()
    }

    /// Whether its rows are laid out, or were.
    pub(crate) fn is_open(&self) -> bool {
        self.report().is_some() || !self.rows().is_empty()
    }

    /// Ends a plan that has nothing to do any more.
    pub(crate) fn finish_empty(&self, now: Instant) {
        self.rows().clear();
        self.finish(now);
    }

    /// Which rows have ended, for a run that takes them up.
    pub(super) fn ended_rows(&self) -> Places {
        let mut ended = Places::NONE;
        for (i, row) in self.rows().iter().enumerate() {
            if row.ended() {
                ended.add(i);
            }
        }
        ended
    }

    /// Whether a row has.
    pub(super) fn has_ended(&self, i: usize) -> bool {
        self.rows()[i].ended()
    }

    /// Until when a row runs that has begun.
    pub(super) fn hard(&self, i: usize) -> Option<Instant> {
        self.rows()[i].hard
    }

    /// One more than the row that is being polled, or 0. Relaxed: it is looked at when nothing moves any more.
    fn polls(&self, polled: usize) {
        self.polled.store(polled, Ordering::Relaxed);
    }

    /// Starts a step, or takes it up again on its own clock after its future was dropped.
    pub(super) fn begin(&self, i: usize, now: Instant) -> Begin {
        let mut rows = self.rows();
        let row = &mut rows[i];
        let started = *row.started.get_or_insert(now);
        let latest = self.deadline.checked_sub(row.tail).unwrap_or(started);
        let own = row
            .timeout
            .map(|timeout| crate::context::after(started, timeout));
        let hard = own.map_or(latest, |own| own.min(latest)).max(started);
        row.hard = Some(hard);
        // What an earlier run said is not true of this one.
        let gone = (row.waiting_for.take(), std::mem::take(&mut row.on_force));
        let skip = row.skip;
        drop(rows);
        let _ = contain(|| drop(gone));
        self.origin.changed();
        Begin {
            skip,
            started,
            hard,
        }
    }

    /// Invariant 4: ends a step, and marks what a failed `required` one takes with it.
    pub(super) fn end(&self, i: usize, outcome: Outcome, now: Instant) -> Ended<'_> {
        let mut rows = self.rows();
        let row = &mut rows[i];
        let started = row.started.unwrap_or(now);
        row.elapsed = now.saturating_duration_since(started);
        row.outcome = Some(outcome.clone());
        let gone = (
            row.waiting_for.take(),
            std::mem::take(&mut row.on_force),
            row.left.take(),
        );
        let ended = Ended {
            at: Some((self, i)),
            element: row.name.starts_with('['),
            best_effort: row.best_effort || self.best_effort,
            elapsed: row.elapsed,
            budget: budget(row),
            outcome,
        };
        if row.skip || (row.required && !ended.outcome.is_done()) {
            for later in i + 1..rows.len() {
                if rows[later].after.has(i) {
                    rows[later].skip = true;
                }
            }
        }
        drop(rows);
        // Invariant 6: closures of components are dropped outside the lock. Invariant 5 likewise.
        let _ = contain(|| drop(gone));
        self.origin.changed();
        ended
    }

    /// Takes up the rows as a report's, once all have ended.
    pub(crate) fn finish(&self, now: Instant) -> &Report {
        let mut first = false;
        let report = self.report.get_or_init(|| {
            first = true;
            let mut steps = Vec::new();
            // Main's row is the owner's; nested plans share the origin and end before.
            if self.path.is_empty() {
                if let Some(ahead) = lock(&self.origin.ahead).take() {
                    steps.push(self.step(ahead, &Outcome::Done));
                }
            }
            let rows = std::mem::take(&mut *self.rows());
            steps.reserve_exact(rows.len());
            steps.extend(rows.into_iter().map(|row| self.step(row, &Outcome::Done)));
            Report::new(
                self.component,
                self.origin.reason.clone(),
                now.saturating_duration_since(self.origin.began),
                self.origin.forced(),
                steps,
            )
        });
        if first {
            self.origin.changed();
        }
        report
    }

    /// Its rows as a report's, inside a step that ended like `above`.
    fn steps(&self, above: &Outcome) -> Vec<Step> {
        match self.report() {
            Some(report) => report.steps().to_vec(),
            None => {
                let rows = std::mem::take(&mut *self.rows());
                rows.into_iter().map(|row| self.step(row, above)).collect()
            }
        }
    }

    /// `above` is how the step around this plan ended, for rows that never did.
    fn step(&self, row: Row, above: &Outcome) -> Step {
        let budget = budget(&row);
        let outcome = row.outcome.unwrap_or_else(|| match (above, row.started) {
            (Outcome::TimedOut { .. }, Some(_)) => Outcome::TimedOut { waiting_for: None },
            (Outcome::Panicked(message), Some(_)) => Outcome::Panicked(message.clone()),
            _ => Outcome::Skipped,
        });
        let steps = row
            .nested
            .iter()
            .flat_map(|nested| nested.steps(&outcome))
            .collect();
        // Invariant 5, of a row that never ended.
        let _ = contain(|| drop((row.waiting_for, row.on_force, row.left)));
        Step {
            name: row.name,
            priority: row.priority,
            started: row
                .started
                .map(|started| started.saturating_duration_since(self.origin.began))
                .unwrap_or_default(),
            elapsed: row.elapsed,
            budget,
            best_effort: row.best_effort,
            outcome,
            steps,
        }
    }

    fn path_of(&self, row: &Row) -> String {
        path(&self.path, &row.name)
    }

    /// Whether step `i` has not ended, for the `Drop` of an owner.
    pub(crate) fn is_unfinished(&self, i: usize) -> bool {
        self.report().is_none() && self.rows().get(i).is_none_or(|row| !row.ended())
    }

    /// What has not ended: the innermost steps that run or wait, `main` first.
    pub(crate) fn unfinished(&self, now: Instant) -> Vec<StepProgress> {
        self.open_steps(now)
            .into_iter()
            .map(OpenStep::described)
            .collect()
    }

    /// Likewise, before any component is asked what it waits for: nothing here can block.
    pub(crate) fn open_steps(&self, now: Instant) -> Vec<OpenStep> {
        let mut steps = Vec::new();
        if self.path.is_empty() {
            let ahead = lock(&self.origin.ahead);
            if let Some(row) = ahead.as_ref().filter(|row| !row.ended()) {
                steps.push(self.open_step(row, now));
            }
        }
        self.collect(now, &mut steps);
        steps
    }

    fn collect(&self, now: Instant, steps: &mut Vec<OpenStep>) {
        let polled = self.polled.load(Ordering::Relaxed);
        let open: Vec<(OpenStep, Vec<Arc<Live>>)> = self
            .rows()
            .iter()
            .enumerate()
            .filter(|(_, row)| !row.ended())
            .map(|(i, row)| {
                let mut step = self.open_step(row, now);
                step.view.polled = polled == i + 1;
                (step, row.nested.clone())
            })
            .collect();
        for (step, nested) in open {
            let before = steps.len();
            for nested in nested {
                nested.collect(now, steps);
            }
            if steps.len() == before {
                steps.push(step);
            }
        }
    }

    fn open_step(&self, row: &Row, now: Instant) -> OpenStep {
        OpenStep {
            view: self.view(row, now),
            waiting_for: row.waiting_for.clone(),
        }
    }

    fn view(&self, row: &Row, now: Instant) -> StepProgress {
        let ended = row.ended();
        StepProgress {
            path: self.path_of(row),
            running: row.started.is_some() && !ended,
            polled: false,
            started: row
                .started
                .map(|started| started.saturating_duration_since(self.origin.began)),
            elapsed: match row.started {
                Some(started) if !ended => now.saturating_duration_since(started),
                _ => row.elapsed,
            },
            remaining: row
                .hard
                .filter(|_| !ended)
                .map(|hard| hard.saturating_duration_since(now)),
            waiting_for: None,
            outcome: row.outcome.clone(),
            steps: Vec::new(),
        }
    }

    /// Every step in plan order, `main` first, each with those inside it.
    pub(crate) fn all_steps(&self, now: Instant) -> Vec<StepProgress> {
        if let Some(report) = self.report() {
            let steps = report.steps().iter();
            return steps.map(|step| ended_view(&self.path, step)).collect();
        }
        let mut rows = Vec::new();
        if self.path.is_empty() {
            let ahead = lock(&self.origin.ahead);
            rows.extend(
                ahead
                    .as_ref()
                    .map(|row| (self.open_step(row, now), Vec::new())),
            );
        }
        rows.extend(
            self.rows()
                .iter()
                .map(|row| (self.open_step(row, now), row.nested.clone())),
        );
        let whole = |(step, nested): (OpenStep, Vec<Arc<Live>>)| {
            let mut view = step.described();
            view.steps = nested.iter().flat_map(|live| live.all_steps(now)).collect();
            view
        };
        // Components are asked outside the lock.
        rows.into_iter().map(whole).collect()
    }

    /// The names of the steps that have ended, with how.
    pub(crate) fn ended(&self) -> Vec<(String, Outcome)> {
        if let Some(report) = self.report() {
            let steps = report.steps().iter();
            return steps
                .map(|step| (step.name().to_owned(), step.outcome().clone()))
                .collect();
        }
        let rows = self.rows();
        rows.iter()
            .filter_map(|row| Some((self.path_of(row), row.outcome.clone()?)))
            .collect()
    }

    /// Takes every `on_force` hook of steps that have not ended.
    pub(crate) fn take_hooks(&self) -> Vec<Box<dyn FnOnce() + Send>> {
        let mut hooks = Vec::new();
        let mut nested = Vec::new();
        for row in self.rows().iter_mut().filter(|row| !row.ended()) {
            hooks.append(&mut row.on_force);
            nested.extend(row.nested.iter().cloned());
        }
        for live in nested {
            hooks.append(&mut live.take_hooks());
        }
        hooks
    }

    /// Puts the step `main` before the plan.
    pub(crate) fn begin_main(&self, now: Instant, hard: Instant) {
        *lock(&self.origin.ahead) = Some(Row {
            priority: i32::MIN,
            started: Some(now),
            hard: Some(hard.max(now)),
            ..Row::new(Cow::Borrowed(MAIN))
        });
        self.origin.changed();
    }

    /// Ends it. How long it took, and had.
    pub(crate) fn end_main(&self, outcome: Outcome, now: Instant) -> Option<(Duration, Duration)> {
        let mut ahead = lock(&self.origin.ahead);
        let row = ahead.as_mut()?;
        row.elapsed = now.saturating_duration_since(row.started.unwrap_or(now));
        row.outcome = Some(outcome);
        let times = (row.elapsed, budget(row));
        drop(ahead);
        self.origin.changed();
        Some(times)
    }
}

impl Seat {
    /// A `best_effort` step before any plan, which has begun. [`conclude`](Self::conclude) ends it.
    pub(crate) fn ahead(name: &'static str, origin: Arc<Origin>, deadline: Instant) -> Self {
        let began = origin.began;
        let live = Live::root("", origin, deadline);
        live.rows().push(Row {
            priority: i32::MIN,
            best_effort: true,
            ..Row::new(Cow::Borrowed(name))
        });
        live.begin(0, began);
        Self::step(live, 0)
    }

    /// Ends a step that was [`ahead`](Self::ahead): its row.
    pub(crate) fn conclude(&self, outcome: Outcome, now: Instant) -> Option<Step> {
        self.live.end(self.row, outcome, now);
        self.live.finish(now).steps().first().cloned()
    }

    /// Starts the step that sits here, or takes it up again on its own clock: what its cleanup is told, and whether it
    /// is skipped.
    pub(super) fn begin(self, now: Instant) -> (Context, bool) {
        let begin = self.live.begin(self.row, now);
        let reason = self.live.origin.reason.clone();
        let cx = Context::over(reason, begin.started, begin.hard).seated(self);
        (cx, begin.skip)
    }

    /// Ends it.
    pub(super) fn end(&self, outcome: Outcome, now: Instant) -> Ended<'_> {
        self.live.end(self.row, outcome, now)
    }

    /// The step is being polled now.
    pub(super) fn polls(&self) {
        self.live.polls(self.row + 1);
    }

    /// It no longer is.
    pub(super) fn polled(&self) {
        self.live.polls(0);
    }

    pub(super) fn is_forced(&self) -> bool {
        self.live.origin.forced().is_some()
    }

    pub(super) fn step(live: Arc<Live>, row: usize) -> Self {
        Self { live, row }
    }

    /// The plan that a component at this seat runs in this place: taken up again, or a new one.
    pub(super) fn open(
        &self,
        place: usize,
        component: &'static str,
        deadline: Instant,
    ) -> Arc<Live> {
        let mut rows = self.live.rows();
        let row = &mut rows[self.row];
        // Others between are plans of owners, or of what a component leaves out when it is taken up.
        let mut known = row.nested.iter().skip(place);
        if let Some(nested) = known.find(|nested| nested.component == component) {
            return Arc::clone(nested);
        }
        let path = self.live.path_of(row).into_boxed_str();
        let origin = Arc::clone(&self.live.origin);
        let best_effort = row.best_effort || self.live.best_effort;
        let nested = Arc::new(Live::new(component, path, origin, deadline, best_effort));
        row.nested.push(Arc::clone(&nested));
        nested
    }

    /// Puts a plan that runs or ran by itself at this seat.
    pub(super) fn adopt(&self, live: &Arc<Live>) {
        let nested = &mut self.live.rows()[self.row].nested;
        if !nested.iter().any(|known| Arc::ptr_eq(known, live)) {
            nested.push(Arc::clone(live));
        }
    }

    /// Whether plans were opened here, and all have ended, so that each of their steps was aborted
    /// where it had to be.
    pub(super) fn is_settled(&self) -> bool {
        let nested = &self.live.rows()[self.row].nested;
        !nested.is_empty() && nested.iter().all(|live| live.report().is_some())
    }

    pub(crate) fn waiting_for(&self, text: impl Fn() -> String + Send + Sync + 'static) {
        let old = self.live.rows()[self.row]
            .waiting_for
            .replace(Arc::new(text));
        // Dropped outside the lock.
        drop(old);
    }

    pub(crate) fn on_force(&self, hook: impl FnOnce() + Send + 'static) {
        self.live.rows()[self.row].on_force.push(Box::new(hook));
    }

    /// Keeps what a step's future left behind, for its next run.
    pub(crate) fn leave(&self, left: Box<dyn Any + Send>) {
        let row = &mut self.live.rows()[self.row];
        if !row.ended() {
            row.left = Some(left);
        }
    }

    /// What an earlier run left behind.
    pub(crate) fn take_left(&self) -> Option<Box<dyn Any + Send>> {
        self.live.rows()[self.row].left.take()
    }

    /// The dotted path of the step.
    pub(crate) fn path(&self) -> String {
        self.live.path_of(&self.live.rows()[self.row])
    }

    /// What the step says it waits for.
    pub(super) fn waits_for(&self) -> Option<String> {
        let text = {
            let rows = self.live.rows();
            rows[self.row].waiting_for.clone()
        };
        text.and_then(describe)
    }
}

fn describe(text: Arc<dyn Fn() -> String + Send + Sync>) -> Option<String> {
    match contain(|| {
        let said = text();
        drop(text);
        said
    }) {
        Ok(said) => Some(said).filter(|said| !said.is_empty()),
        Err(message) => Some(format!("(saying what panicked: {message})")),
    }
}

/// A step of a plan that has ended.
fn ended_view(above: &str, step: &Step) -> StepProgress {
    let path = path(above, &step.name);
    let steps = step.steps.iter();
    StepProgress {
        running: false,
        polled: false,
        started: Some(step.started),
        elapsed: step.elapsed,
        remaining: None,
        waiting_for: None,
        outcome: Some(step.outcome.clone()),
        steps: steps.map(|step| ended_view(&path, step)).collect(),
        path,
    }
}

/// The dotted path of what is called `name` inside the step `above`.
fn path(above: &str, name: &str) -> String {
    match above {
        "" => name.to_owned(),
        above if name.starts_with('[') => format!("{above}{name}"),
        above => format!("{above}.{name}"),
    }
}

fn budget(row: &Row) -> Duration {
    match (row.started, row.hard) {
        (Some(started), Some(hard)) => hard.saturating_duration_since(started),
        _ => row.timeout.unwrap_or_default(),
    }
}

/// What a panicking thread left in these locks is whole: every change is a single store.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("component", &self.component)
            .field("ended", &self.report.get().is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("row", &self.row)
            .finish_non_exhaustive()
    }
}
