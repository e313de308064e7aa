//! Models one poll of the shutdown: it polls each step that is due once, at one moment.

use std::time::Duration;

use super::{
    BEGIN, CLOSE, Comp, Elements, ElementsKind, FINISH, Leaf, LeafKind, Plan, Row, Verdict, World,
};
use crate::describe::End;
use crate::real::UNIT;

/// The timeout that a plan assumes for a step that declares no timeout.
pub(super) const DEFAULT_STEP_TIME: Duration = Duration::from_secs(1);

/// The way in which a component's cleanup ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Ok,
    Err,
    Panic,
    Nothing,
}

impl Row {
    pub(super) fn new(name: impl Into<String>, comp: Comp) -> Self {
        Self {
            name: name.into(),
            comp,
            timeout: None,
            shrunk: None,
            tail: Duration::ZERO,
            required: false,
            best_effort: false,
            skip: false,
            began: None,
            hard: Duration::ZERO,
            running: false,
            out: None,
            nothing: false,
            kept: false,
            lost: false,
        }
    }

    pub(super) fn went_well(&self) -> bool {
        self.out == Some(Verdict::Done) || self.nothing
    }

    pub(super) fn is_clean(&self) -> bool {
        self.best_effort || (self.went_well() && !self.kept && self.comp.is_clean())
    }

    /// Polls the step once. The step has to end so early that the steps after it fit before the plan's `deadline`.
    pub(super) fn poll(&mut self, deadline: Duration, best_effort: bool, world: &mut World) {
        let best_effort = best_effort || self.best_effort;
        if !self.running {
            self.running = true;
            let began = *self.began.get_or_insert(world.now);
            let latest = deadline.saturating_sub(self.tail);
            let own = self.shrunk.map_or(latest, |own| began + own);
            self.hard = own.min(latest).max(began);
        }
        if self.skip {
            self.comp.abort(world);
            self.out = Some(Verdict::Skipped);
            return;
        }
        if matches!(self.comp, Comp::Maybe(None)) {
            self.out = Some(Verdict::Skipped);
            self.nothing = true;
            return;
        }
        let ended = self.comp.poll(self.hard, best_effort, world);
        if let Comp::Elements(elements) = &mut self.comp {
            let (failed, lost) = elements.settle();
            self.kept |= failed;
            self.lost |= lost;
        }
        let out = match ended {
            Some(Ended::Ok) if self.lost => Verdict::Aborted,
            Some(Ended::Nothing) if self.lost => Verdict::Aborted,
            Some(Ended::Ok) => Verdict::Done,
            Some(Ended::Nothing) => {
                self.nothing = true;
                Verdict::Skipped
            }
            Some(Ended::Err) => Verdict::Failed,
            Some(Ended::Panic) => Verdict::Panicked,
            None if world.forced || (world.hurried && best_effort) => Verdict::Aborted,
            None if world.now >= self.hard => Verdict::TimedOut,
            None => return,
        };
        self.running = false;
        self.out = Some(out);
        if !self.went_well() {
            // Only a leaf is aborted here. A component with steps has already aborted its own steps that failed.
            self.comp.cut(world);
            if let Comp::Leaf(leaf) = &mut self.comp {
                leaf.abort(world);
            }
        }
    }
}

impl Leaf {
    pub(super) fn poll(
        &mut self,
        hard: Duration,
        best_effort: bool,
        world: &mut World,
    ) -> Option<Ended> {
        if self.flight.is_none() {
            if self.kind == LeafKind::Taken {
                if self.taken {
                    return Some(Ended::Nothing);
                }
                self.taken = true;
            }
            self.flight = Some(world.now);
            world.add(self.id, BEGIN);
        }
        if self.kind == LeafKind::Blocking {
            // The call takes some real time. If its step has to end now, the engine may cut the step or see the call
            // return.
            let cut = world.forced || (world.hurried && best_effort);
            world.unclear |= cut || world.now + CLOSE >= hard;
        } else if matches!(self.script.end, End::Hang | End::HangDropPanics) {
            return None;
        }
        let began = self.flight.unwrap_or(world.now);
        let ends = began + UNIT * u32::try_from(self.script.time).unwrap();
        if self.script.time > 0 {
            world.compare(ends, hard);
        }
        if world.now < ends {
            return None;
        }
        self.flight = None;
        Some(match self.script.end {
            End::Fail | End::FailHostile => Ended::Err,
            End::Panic => Ended::Panic,
            end => {
                world.add(self.id, FINISH);
                match end {
                    End::OkDropPanics if self.kind != LeafKind::Blocking => Ended::Panic,
                    _ => Ended::Ok,
                }
            }
        })
    }
}

impl Plan {
    /// Opens the plan for a cleanup that may take until `cap`: computes its longest path, and shrinks the timeouts if
    /// the plan has less time. Returns the plan's deadline.
    pub(super) fn open(&mut self, cap: Duration, now: Duration) -> Duration {
        if let Some(deadline) = self.deadline {
            return deadline;
        }
        let deadline = self.total.map_or(cap, |total| cap.min(now + total));
        self.deadline = Some(deadline);
        let mut tails = vec![Duration::ZERO; self.rows.len()];
        let mut longest = Duration::ZERO;
        for i in (0..self.rows.len()).rev() {
            let path = tails[i] + self.rows[i].timeout.unwrap_or(DEFAULT_STEP_TIME);
            longest = longest.max(path);
            for &earlier in &self.after[i] {
                tails[earlier] = tails[earlier].max(path);
            }
        }
        let given = deadline.saturating_sub(now);
        let shrink = (given < longest).then(|| given.as_secs_f64() / longest.as_secs_f64());
        for (row, tail) in self.rows.iter_mut().zip(tails) {
            row.tail = shrink.map_or(tail, |shrink| tail.mul_f64(shrink));
            row.shrunk = match (row.timeout, shrink) {
                (Some(timeout), Some(shrink)) => Some(timeout.mul_f64(shrink)),
                (timeout, _) => timeout,
            };
        }
        deadline
    }

    pub(super) fn poll(
        &mut self,
        cap: Duration,
        best_effort: bool,
        world: &mut World,
    ) -> Option<Ended> {
        let deadline = self.open(cap, world.now);
        for i in 0..self.rows.len() {
            let due = self.after[i]
                .iter()
                .all(|&earlier| self.rows[earlier].out.is_some());
            if self.rows[i].out.is_some() || !due {
                continue;
            }
            self.rows[i].poll(deadline, best_effort, world);
            let row = &self.rows[i];
            let takes_others = row.out.is_some() && !row.went_well() && (row.required || row.skip);
            for later in i + 1..self.rows.len() {
                if takes_others && self.after[later].contains(&i) {
                    self.rows[later].skip = true;
                }
            }
        }
        if self.rows.iter().any(|row| row.out.is_none()) {
            return None;
        }
        self.ended = true;
        Some(if self.rows.iter().all(Row::is_clean) {
            Ended::Ok
        } else {
            Ended::Err
        })
    }
}

impl Elements {
    pub(super) fn poll(
        &mut self,
        cap: Duration,
        best_effort: bool,
        world: &mut World,
    ) -> Option<Ended> {
        if !self.open {
            self.open = true;
            if matches!(self.kind, ElementsKind::List | ElementsKind::Locked) {
                for (i, row) in self.rows.iter_mut().enumerate() {
                    row.name = format!("[{i}]");
                }
            }
        }
        for row in self.rows.iter_mut().filter(|row| row.out.is_none()) {
            row.poll(cap, best_effort, world);
        }
        if self.rows.iter().any(|row| row.out.is_none()) {
            return None;
        }
        let clean = self.rows.iter().all(Row::is_clean);
        self.gone |= self.kind == ElementsKind::Components;
        self.gone |= self.kind == ElementsKind::Locked && clean;
        Some(if clean { Ended::Ok } else { Ended::Err })
    }
}

impl Comp {
    pub(super) fn poll(
        &mut self,
        hard: Duration,
        best_effort: bool,
        world: &mut World,
    ) -> Option<Ended> {
        match self {
            Self::Leaf(leaf) => leaf.poll(hard, best_effort, world),
            Self::Plan(plan) => plan.poll(hard, best_effort, world),
            Self::Elements(elements) => elements.poll(hard, best_effort, world),
            Self::Maybe(Some(inside)) | Self::Object(inside) => {
                inside.poll(hard, best_effort, world)
            }
            Self::Maybe(None) => Some(Ended::Ok),
        }
    }

    pub(super) fn rows(&self) -> &[Row] {
        match self {
            Self::Plan(plan) => &plan.rows,
            Self::Elements(elements) => &elements.rows,
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.rows(),
            Self::Leaf(_) | Self::Maybe(None) => &[],
        }
    }

    pub(super) fn rows_mut(&mut self) -> &mut [Row] {
        match self {
            Self::Plan(plan) => &mut plan.rows,
            Self::Elements(elements) => &mut elements.rows,
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.rows_mut(),
            Self::Leaf(_) | Self::Maybe(None) => &mut [],
        }
    }

    pub(super) fn is_clean(&self) -> bool {
        self.rows().iter().all(Row::is_clean)
    }
}
