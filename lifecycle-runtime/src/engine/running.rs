//! A running plan: its rows, from their layout to their end.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use super::row::Row;
use super::shape::RowShape;
use super::shared::ShutdownShared;
use super::step::CleanupResult;
use super::{RuntimeTimeouts, contain, lock, resumed};
use crate::context::after;
use crate::plan::StepSet;
use crate::report::{Cut, Report, Step};
use crate::{Plan, clock, log, text};

/// One running plan.
pub(crate) struct RunningPlan {
    pub(crate) component: &'static str,
    /// The dotted path of the step this plan is nested in, empty for an owner's.
    pub(super) path: Box<str>,
    pub(crate) shared: Arc<ShutdownShared>,
    /// Whether a step around it is `best_effort`: then its own steps are no worse.
    pub(super) best_effort: bool,
    rows: Mutex<Rows>,
    /// One more than the row that is being polled, or 0.
    polled: AtomicUsize,
    /// Set once, when the plan has ended.
    report: OnceLock<Report>,
    /// What it had opened, where that is compared with an earlier run: its rows, until they become the report's.
    shape: OnceLock<Arc<[RowShape]>>,
    /// Whether it is inside of a step that was taken up again.
    pub(super) is_compared: bool,
}

/// The rows of a running plan: those a runner puts before the plan, then those of the plan.
pub(super) struct Rows {
    pub(super) list: Vec<Row>,
    deadline: Instant,
    /// When a step ended, until something else is polled: so the next one need not look at the clock.
    reading: Option<Instant>,
    /// What was laid out, and at which row it begins. `None` before, and for the elements of a container.
    plan: Option<(&'static Plan, usize)>,
    is_laid_out: bool,
}

/// How a step begins.
pub(super) struct Begin {
    pub(super) started: Instant,
    pub(super) hard: Instant,
    /// Why it is skipped instead.
    pub(super) skip: Option<Cow<'static, str>>,
}

/// What there is to log of an ended step.
pub(crate) struct EndedStep {
    pub(crate) path: String,
    pub(crate) step: Step,
    /// Whether it is, or is inside of, a `best_effort` step.
    pub(crate) best_effort: bool,
}

impl RunningPlan {
    /// Makes the plan of an owner that is shut down by itself.
    pub(crate) fn root(
        component: &'static str,
        shared: Arc<ShutdownShared>,
        deadline: Instant,
    ) -> Arc<Self> {
        Arc::new(Self::new(
            component,
            Box::default(),
            shared,
            deadline,
            false,
            false,
        ))
    }

    pub(super) fn new(
        component: &'static str,
        path: Box<str>,
        shared: Arc<ShutdownShared>,
        deadline: Instant,
        best_effort: bool,
        is_compared: bool,
    ) -> Self {
        Self {
            component,
            path,
            shared,
            best_effort,
            rows: Mutex::new(Rows {
                list: Vec::new(),
                deadline,
                reading: None,
                plan: None,
                is_laid_out: false,
            }),
            polled: AtomicUsize::new(0),
            report: OnceLock::new(),
            shape: OnceLock::new(),
            is_compared,
        }
    }

    /// What it has opened.
    pub(super) fn shape(&self) -> Arc<[RowShape]> {
        match self.shape.get() {
            Some(shape) => Arc::clone(shape),
            None => self.rows().list.iter().map(RowShape::of).collect(),
        }
    }

    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        lock(&self.rows)
    }

    pub(crate) fn report(&self) -> Option<&Report> {
        self.report.get()
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.rows().deadline
    }

    /// Sets the deadline of the plan, which is known only when the steps before the plan have ended.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.rows().deadline = deadline;
    }

    /// Adds a step before the plan, which has begun and may run until `hard`. Returns its row.
    pub(crate) fn lead(
        &self,
        name: &'static str,
        best_effort: bool,
        now: Instant,
        hard: Instant,
    ) -> usize {
        let mut row = Row::new(Cow::Borrowed(name), i32::MIN);
        row.step.best_effort = best_effort;
        row.started = Some(now);
        row.hard = Some(hard.max(now));
        row.step.budget = row.budget().into();
        row.step.started = now.saturating_duration_since(self.shared.began).into();
        let mut rows = self.rows();
        rows.list.push(row);
        let at = rows.list.len() - 1;
        drop(rows);
        self.shared.changed();
        at
    }

    /// Lays out the rows of `plan`, which starts `now`. If less time is left than its longest path needs, all budgets
    /// shrink in proportion; then what it needs and what it has is returned.
    pub(super) fn lay_out(
        &self,
        plan: &'static Plan,
        timeouts: &RuntimeTimeouts,
        now: Instant,
    ) -> Option<(Duration, Duration)> {
        let mut rows = self.rows();
        let given = rows.deadline.saturating_duration_since(now);
        let first = rows.list.len();
        rows.plan = Some((plan, first));
        rows.is_laid_out = true;
        let most = timeouts.most(given);
        rows.list.reserve_exact(plan.steps.len());
        let steps = plan.steps.iter().enumerate();
        rows.list.extend(steps.map(|(i, step)| {
            let mut row = Row::new(Cow::Borrowed(step.name), step.priority);
            row.step.best_effort = step.best_effort;
            row.required = step.required;
            row.timeout = timeouts.timeout(plan, i, most);
            row
        }));
        let rows = &mut rows.list[first..];
        let longest = timeouts.tails(plan, most, rows, |row| &mut row.tail);
        if given >= longest {
            return None;
        }
        let shrink = given.as_secs_f64() / longest.as_secs_f64();
        for row in rows {
            row.tail = row.tail.mul_f64(shrink);
            row.timeout = row.timeout.map(|timeout| timeout.mul_f64(shrink));
        }
        Some((longest, given))
    }

    /// Lays out the elements of a container.
    pub(super) fn lay_out_elements(&self, elements: Vec<Row>) {
        let mut rows = self.rows();
        rows.list = elements;
        rows.is_laid_out = true;
    }

    /// Whether its rows are laid out, or were.
    pub(crate) fn is_laid_out(&self) -> bool {
        self.report().is_some() || self.rows().is_laid_out
    }

    /// Ends a plan whose own steps have nothing to do any more.
    pub(crate) fn finish_empty(&self) {
        let gone = {
            let mut rows = self.rows();
            let first = rows.plan.map_or(rows.list.len(), |(_, first)| first);
            rows.list.split_off(first)
        };
        drop(gone);
        self.finish();
    }

    /// The row of the plan's first step.
    pub(super) fn first(&self) -> usize {
        self.rows().plan.map_or(0, |(_, first)| first)
    }

    /// Which steps of the plan have ended, for a run that takes them up.
    pub(super) fn ended_steps(&self) -> StepSet {
        let mut ended = StepSet::NONE;
        let rows = self.rows();
        let first = rows.plan.map_or(0, |(_, first)| first);
        for (i, row) in rows.list.iter().skip(first).enumerate() {
            if row.ended {
                ended.add(i);
            }
        }
        ended
    }

    /// Forgets when the last step ended, after something was polled that takes time.
    pub(super) fn forget_reading(&self) {
        self.rows().reading = None;
    }

    pub(super) fn has_ended(&self, row: usize) -> bool {
        self.rows().list.get(row).is_none_or(|row| row.ended)
    }

    /// Until when a row runs that has begun.
    pub(super) fn hard(&self, row: usize) -> Option<Instant> {
        self.rows().list.get(row)?.hard
    }

    /// Notes which row is being polled: one more than its index, or 0.
    pub(super) fn set_polled(&self, polled: usize) {
        // Relaxed: read when nothing moves any more.
        self.polled.store(polled, Ordering::Relaxed);
    }

    /// The row that is being polled.
    pub(super) fn polled(&self) -> Option<usize> {
        self.polled.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Starts a step, or takes it up again on its own clock after its future was dropped.
    pub(super) fn begin(&self, row: usize) -> Begin {
        let mut rows = self.rows();
        let deadline = rows.deadline;
        let skip = rows.list[row].skip;
        let skip = skip.and_then(|by| Some(rows.list.get(by as usize)?.why_skipped()));
        // The end of the step before it, if nothing was polled since.
        let now = rows.reading.take().unwrap_or_else(clock::now);
        let this = &mut rows.list[row];
        let again = this.started.is_some();
        let started = *this.started.get_or_insert(now);
        let latest = deadline.checked_sub(this.tail).unwrap_or(started);
        let left = latest.saturating_duration_since(started);
        let budget = this.timeout.map_or(left, |timeout| timeout.min(left));
        let hard = after(started, budget);
        this.hard = Some(hard);
        this.step.budget = budget.into();
        this.step.started = started.saturating_duration_since(self.shared.began).into();
        drop(rows);
        if again {
            resumed::begin_again(self, row);
        }
        self.shared.changed();
        Begin {
            started,
            hard,
            skip,
        }
    }

    /// Ends a step (invariant 4), and marks the steps that a failed `required` one takes with it. What there is to log
    /// of it is returned if somebody may read that.
    pub(super) fn end(&self, row: usize, result: CleanupResult) -> Option<Box<EndedStep>> {
        let now = clock::now();
        let mut rows = self.rows();
        let mut lost = false;
        if rows.list[row].was_taken_up() {
            drop(rows);
            lost = resumed::end(self, row);
            rows = self.rows();
        }
        let this = &mut rows.list[row];
        let started = this.started.unwrap_or(now);
        this.step.elapsed = now.saturating_duration_since(started).into();
        result.record(this, lost);
        this.ended = true;
        let foreign = this.take_all_foreign();
        let failed = !this.step.went_well() && (this.required || this.skip.is_some());
        // A plan has at most 256 steps, and few rows before them.
        let cause = this.skip.unwrap_or(row as u32);
        let ended = log::is_read().then(|| {
            Box::new(EndedStep {
                path: self.path_of(&this.step.name),
                best_effort: this.step.best_effort || self.best_effort,
                step: this.step.clone(),
            })
        });
        rows.reading = rows.plan.map(|_| now);
        if let (true, Some((plan, first))) = (failed, rows.plan) {
            let at = row.saturating_sub(first);
            for (later, step) in plan.steps.iter().enumerate() {
                if step.after.has(at) {
                    rows.list[first + later].skip = Some(cause);
                }
            }
        }
        drop(rows);
        // Invariant 6: what a component left there is dropped outside the lock.
        drop(foreign);
        self.shared.changed();
        ended
    }

    /// Makes the rows the report's, once all have ended.
    pub(crate) fn finish(&self) -> &Report {
        if let Some(report) = self.report.get() {
            return report;
        }
        let began = self.shared.began;
        if self.is_compared {
            let shape = self.shape();
            self.shape.get_or_init(|| shape);
        }
        let (rows, reading) = {
            let mut rows = self.rows();
            (std::mem::take(&mut rows.list), rows.reading.take())
        };
        let now = reading.unwrap_or_else(clock::now);
        let steps = rows
            .into_iter()
            .map(|row| row.into_step(began, None))
            .collect();
        // What cut the whole is told of the whole: a plan inside it may have done all it had to.
        let cut = match self.is_outermost() {
            true => self.shared.cut(),
            false => Cut::default(),
        };
        let report = Report::new(
            self.component,
            self.shared.reason.clone(),
            now.saturating_duration_since(began),
            cut,
            steps,
        );
        // A plan is finished by the one task that polls it.
        let report = self.report.get_or_init(|| report);
        self.shared.changed();
        report
    }

    /// Its rows as a report's, inside a step that has ended.
    pub(super) fn take_steps(&self, above: &Step) -> Vec<Step> {
        match self.report() {
            Some(report) => report.steps().to_vec(),
            None => {
                let rows = std::mem::take(&mut self.rows().list);
                let rows = rows.into_iter();
                rows.map(|row| row.into_step(self.shared.began, Some(above)))
                    .collect()
            }
        }
    }

    /// Its rows as they are, where the plan may go on elsewhere.
    pub(super) fn copy_steps(&self, above: &Step) -> Vec<Step> {
        match self.report() {
            Some(report) => report.steps().to_vec(),
            None => {
                let rows = self.rows();
                let rows = rows.list.iter();
                rows.map(|row| row.to_step(self.shared.began, above))
                    .collect()
            }
        }
    }

    /// Whether no step is around it.
    fn is_outermost(&self) -> bool {
        self.path.is_empty()
    }

    /// The dotted path of the step called `name`.
    pub(super) fn path_of(&self, name: &str) -> String {
        text::path(&self.path, name)
    }

    /// Whether step `i` of the plan has not ended, for the `Drop` of an owner.
    pub(crate) fn is_unfinished(&self, i: usize) -> bool {
        if self.report().is_some() {
            return false;
        }
        let rows = self.rows();
        let first = rows.plan.map_or(0, |(_, first)| first);
        rows.list.get(first + i).is_none_or(|row| !row.ended)
    }
}

impl Row {
    /// Why the steps after it are skipped.
    fn why_skipped(&self) -> Cow<'static, str> {
        let (name, outcome) = (&self.step.name, self.step.outcome.word());
        format!("the required step `{name}` is not done: {outcome}").into()
    }
}

impl Drop for RunningPlan {
    /// What is in its rows and its report is foreign: closures, errors. Each row is contained by itself (invariant 5),
    /// since a second panic while the first unwinds would abort.
    fn drop(&mut self) {
        let rows = std::mem::take(&mut self.rows().list);
        for row in rows {
            let _ = contain(|| drop(row));
        }
        let report = self.report.take();
        let _ = contain(|| drop(report));
    }
}

impl fmt::Debug for RunningPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningPlan")
            .field("component", &self.component)
            .field("ended", &self.report.get().is_some())
            .finish_non_exhaustive()
    }
}
