//! The running plan and its rows, from their creation to the report.

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

/// The state of a plan while its steps run, and its report afterwards.
pub(crate) struct RunningPlan {
    pub(crate) component: &'static str,
    /// The dotted path of the step around this plan. The path is empty for the outermost plan.
    pub(super) path: Box<str>,
    pub(crate) shared: Arc<ShutdownShared>,
    /// Whether a step around the plan is `best_effort`, which makes all its steps `best_effort` as well.
    pub(super) best_effort: bool,
    rows: Mutex<Rows>,
    /// The index of the row that is being polled, plus one. It is 0 while no row is polled.
    polled: AtomicUsize,
    /// The report, which is set once, when the plan has ended.
    report: OnceLock<Report>,
    /// The shape of the plan's rows when it ended, for a comparison with a later run. The rows themselves become the
    /// report.
    shape: OnceLock<Arc<[RowShape]>>,
    /// Whether the plan is inside a step that was resumed, so that runs are compared.
    pub(super) is_compared: bool,
}

/// The rows of a running plan: first those of the steps that a runner adds before the plan, then the plan's steps.
pub(super) struct Rows {
    pub(super) list: Vec<Row>,
    deadline: Instant,
    /// The time at which the last step ended, until something else is polled. It saves the next step a reading of the
    /// clock.
    clock_reading: Option<Instant>,
    /// The plan whose rows were created, and the index of its first row. `None` before that, and for a container's
    /// elements.
    plan: Option<(&'static Plan, usize)>,
    is_laid_out: bool,
}

/// The times with which a step begins.
pub(super) struct Begin {
    pub(super) started: Instant,
    pub(super) hard: Instant,
    /// The reason for which the step is skipped. `None` if the step runs.
    pub(super) skip: Option<Cow<'static, str>>,
}

/// The log's data about a step that has ended.
pub(crate) struct EndedStep {
    pub(crate) path: String,
    pub(crate) step: Step,
    /// Whether the step is `best_effort`, or inside such a step.
    pub(crate) best_effort: bool,
}

impl RunningPlan {
    /// Creates the outermost plan of a shutdown.
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
                clock_reading: None,
                plan: None,
                is_laid_out: false,
            }),
            polled: AtomicUsize::new(0),
            report: OnceLock::new(),
            shape: OnceLock::new(),
            is_compared,
        }
    }

    /// Returns the shape of the plan's rows and of the plans inside them.
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

    /// Sets the deadline of the plan. It is known only once the steps before the plan have ended.
    pub(crate) fn set_deadline(&self, deadline: Instant) {
        self.rows().deadline = deadline;
    }

    /// Adds a row for a step before the plan, such as main. The step has begun `now`, and may run until `hard`. Returns
    /// the index of its row.
    pub(crate) fn add_step_before(
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

    /// Creates the rows of `plan`, which starts `now`. If the plan's longest path needs more time than is left,
    /// shortens all timeouts in proportion, and returns the time needed and the time left.
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
        let cap = timeouts.cap(given);
        rows.list.reserve_exact(plan.steps.len());
        let steps = plan.steps.iter().enumerate();
        rows.list.extend(steps.map(|(i, step)| {
            let mut row = Row::new(Cow::Borrowed(step.name), step.priority);
            row.step.best_effort = step.best_effort;
            row.required = step.required;
            row.timeout = timeouts.timeout(plan, i, cap);
            row
        }));
        let rows = &mut rows.list[first..];
        let longest = timeouts.fill_tails(plan, cap, rows, |row| &mut row.tail);
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

    /// Sets the rows of the elements of a container.
    pub(super) fn lay_out_elements(&self, elements: Vec<Row>) {
        let mut rows = self.rows();
        rows.list = elements;
        rows.is_laid_out = true;
    }

    /// Returns whether the rows were created, or even became the report.
    pub(crate) fn is_laid_out(&self) -> bool {
        self.report().is_some() || self.rows().is_laid_out
    }

    /// Ends a plan whose own steps have nothing to do, without rows for them.
    pub(crate) fn finish_empty(&self) {
        let gone = {
            let mut rows = self.rows();
            let first = rows.plan.map_or(rows.list.len(), |(_, first)| first);
            rows.list.split_off(first)
        };
        drop(gone);
        self.finish();
    }

    /// Returns the index of the row of the plan's first step.
    pub(super) fn first(&self) -> usize {
        self.rows().plan.map_or(0, |(_, first)| first)
    }

    /// Returns the steps of the plan that have ended, for a run that resumes it.
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

    /// Forgets the time at which the last step ended, since something else was polled after it.
    pub(super) fn forget_clock_reading(&self) {
        self.rows().clock_reading = None;
    }

    pub(super) fn has_ended(&self, row: usize) -> bool {
        self.rows().list.get(row).is_none_or(|row| row.ended)
    }

    /// Returns the hard deadline of a row's step. `None` before the step has begun.
    pub(super) fn hard(&self, row: usize) -> Option<Instant> {
        self.rows().list.get(row)?.hard
    }

    /// Records which row is being polled: its index plus one, or 0.
    pub(super) fn set_polled(&self, polled: usize) {
        // Relaxed is enough: the index is of use only while the executor is stuck, and then nothing changes it.
        self.polled.store(polled, Ordering::Relaxed);
    }

    /// Returns the index of the row that is being polled.
    pub(super) fn polled(&self) -> Option<usize> {
        self.polled.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Begins a step. If the step's future was dropped and the step runs again, it keeps the start and deadline of its
    /// first run.
    pub(super) fn begin(&self, row: usize) -> Begin {
        let mut rows = self.rows();
        let deadline = rows.deadline;
        let skip = rows.list[row].skip;
        let skip = skip.and_then(|by| Some(rows.list.get(by as usize)?.why_skipped()));
        // The time is the end of the previous step, if nothing was polled since.
        let now = rows.clock_reading.take().unwrap_or_else(clock::now);
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

    /// Ends a step, which happens once (invariant 4). If the step was `required` and failed, marks the steps after it
    /// to be skipped. Returns what the log should say, if a subscriber may read the log.
    pub(super) fn end(&self, row: usize, result: CleanupResult) -> Option<Box<EndedStep>> {
        let now = clock::now();
        let mut rows = self.rows();
        let mut lost = false;
        if rows.list[row].is_resumed_run() {
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
        // The index fits into 32 bits: a plan has at most 256 steps, and few rows come before them.
        let cause = this.skip.unwrap_or(row as u32);
        let ended = log::is_read().then(|| {
            Box::new(EndedStep {
                path: self.path_of(&this.step.name),
                best_effort: this.step.best_effort || self.best_effort,
                step: this.step.clone(),
            })
        });
        rows.clock_reading = rows.plan.map(|_| now);
        if let (true, Some((plan, first))) = (failed, rows.plan) {
            let at = row.saturating_sub(first);
            for (later, step) in plan.steps.iter().enumerate() {
                if step.after.has(at) {
                    rows.list[first + later].skip = Some(cause);
                }
            }
        }
        drop(rows);
        // Invariant 6: the component's closures are dropped after the lock is released.
        drop(foreign);
        self.shared.changed();
        ended
    }

    /// Turns the rows into the report, once all steps have ended.
    pub(crate) fn finish(&self) -> &Report {
        if let Some(report) = self.report.get() {
            return report;
        }
        let began = self.shared.began;
        if self.is_compared {
            let shape = self.shape();
            self.shape.get_or_init(|| shape);
        }
        let (rows, clock_reading) = {
            let mut rows = self.rows();
            (std::mem::take(&mut rows.list), rows.clock_reading.take())
        };
        let now = clock_reading.unwrap_or_else(clock::now);
        let steps = rows
            .into_iter()
            .map(|row| row.into_step(began, None))
            .collect();
        // Only the outermost report records whether the shutdown was forced or hurried. A nested plan may have ended
        // before that.
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
        // The cell is still empty here, as only one task polls a plan, and so finishes it.
        let report = self.report.get_or_init(|| report);
        self.shared.changed();
        report
    }

    /// Takes the rows out of the plan and returns them as report rows inside `above`, a step that has ended.
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

    /// Copies the rows as report rows inside `above`, a step that has ended. The plan itself may continue elsewhere.
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

    /// Returns whether the plan is inside no step of another plan.
    fn is_outermost(&self) -> bool {
        self.path.is_empty()
    }

    /// Returns the dotted path of the step called `name`.
    pub(super) fn path_of(&self, name: &str) -> String {
        text::path(&self.path, name)
    }

    /// Returns whether step `i` of the plan has not ended. An owner's `Drop` asks this.
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
    /// Returns the reason why the steps after this failed one are skipped.
    fn why_skipped(&self) -> Cow<'static, str> {
        let (name, outcome) = (&self.step.name, self.step.outcome.word());
        format!("the required step `{name}` is not done: {outcome}").into()
    }
}

impl Drop for RunningPlan {
    /// Drops the rows and the report, which hold values of components: closures, errors. Each row's drop is contained
    /// by itself (invariant 5), since a second panic during an unwind would abort the process.
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
