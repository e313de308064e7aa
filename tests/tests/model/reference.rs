//! The reference: what a shutdown has to do, sequential, slow, and written from the contract alone.
//!
//! Time goes from event to event. At each moment every step that is due is polled once, in plan order.

use std::time::Duration;

use crate::describe::{Case, End, Node, Script, Shape};
use crate::real::{Times, UNIT};

/// What a step without a timeout counts for.
const UNSTATED: Duration = Duration::from_secs(1);
/// What an owner has that states no timeout.
const DEFAULT: Duration = Duration::from_secs(25);
/// Events that are this close to each other may come in any order, as timers are rounded.
const CLOSE: Duration = Duration::from_millis(12);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    Done,
    Failed,
    Panicked,
    TimedOut,
    Aborted,
    Skipped,
}

/// How a component's cleanup ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End_ {
    Ok,
    Err,
    Panic,
    Nothing,
}

/// What a moment is like for all steps.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) hurried: bool,
    pub(crate) forced: bool,
    /// Begins, ends, cuts, aborts and releases of each leaf.
    pub(crate) counts: Vec<[u32; 5]>,
    /// Two events were too close to tell which comes first.
    pub(crate) unclear: bool,
}

const BEGIN: usize = 0;
const FINISH: usize = 1;
const CUT: usize = 2;
const ABORT: usize = 3;
const RELEASE: usize = 4;

impl World {
    fn add(&mut self, leaf: usize, what: usize) {
        self.counts[leaf][what] += 1;
    }

    /// Notes that something at `a` competes with something at `b`.
    fn compare(&mut self, a: Duration, b: Duration) {
        self.unclear |= a.abs_diff(b) < CLOSE;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LeafKind {
    Plain,
    Taken,
    Blocking,
}

struct Leaf {
    id: usize,
    script: Script,
    kind: LeafKind,
    /// Since when its future runs.
    flight: Option<Duration>,
    /// A taken value is gone.
    taken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlanKind {
    /// A part; what is known of it is known by its field.
    Part,
    /// Carries its own progress.
    Owner,
}

struct Plan {
    kind: PlanKind,
    rows: Vec<Row>,
    after: Vec<Vec<usize>>,
    total: Option<Duration>,
    /// Its deadline, once it was opened.
    deadline: Option<Duration>,
    ended: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ElementsKind {
    List,
    Map,
    Components,
    Locked,
}

struct Elements {
    kind: ElementsKind,
    rows: Vec<Row>,
    /// What the run before had: the names of all, and of those that had not ended.
    before: Option<(Vec<String>, Vec<String>)>,
    /// What was left in rows that an edit between two runs has renewed.
    carried: Left,
    /// It runs, so the rows have their names.
    open: bool,
    /// It was cleaned and let go of.
    gone: bool,
}

enum Comp {
    Leaf(Leaf),
    Plan(Plan),
    Elements(Elements),
    Maybe(Option<Box<Comp>>),
    Object(Box<Comp>),
}

struct Row {
    name: String,
    comp: Comp,
    timeout: Option<Duration>,
    /// As it was stated, and as it was shrunk.
    shrunk: Option<Duration>,
    tail: Duration,
    required: bool,
    best_effort: bool,
    skip: bool,
    began: Option<Duration>,
    hard: Duration,
    running: bool,
    out: Option<Out>,
    nothing: bool,
    /// A row that failed in an earlier run is kept inside.
    kept: bool,
    /// Something it was cleaning is gone.
    lost: bool,
}

/// What is left of a component that is cleaned anew.
#[derive(Clone, Copy, Default)]
struct Left {
    failed: bool,
    lost: bool,
}

impl Left {
    fn join(&mut self, other: Self) {
        self.failed |= other.failed;
        self.lost |= other.lost;
    }
}

impl Row {
    fn new(name: impl Into<String>, comp: Comp) -> Self {
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

    fn went_well(&self) -> bool {
        self.out == Some(Out::Done) || self.nothing
    }

    fn is_clean(&self) -> bool {
        self.best_effort || (self.went_well() && !self.kept && self.comp.is_clean())
    }

    /// Polls the step, which has to end at the plan's deadline.
    fn poll(&mut self, deadline: Duration, best_effort: bool, world: &mut World) {
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
            self.out = Some(Out::Skipped);
            return;
        }
        if matches!(self.comp, Comp::Maybe(None)) {
            self.out = Some(Out::Skipped);
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
            Some(End_::Ok) if self.lost => Out::Aborted,
            Some(End_::Nothing) if self.lost => Out::Aborted,
            Some(End_::Ok) => Out::Done,
            Some(End_::Nothing) => {
                self.nothing = true;
                Out::Skipped
            }
            Some(End_::Err) => Out::Failed,
            Some(End_::Panic) => Out::Panicked,
            None if world.forced || (world.hurried && best_effort) => Out::Aborted,
            None if world.now >= self.hard => Out::TimedOut,
            None => return,
        };
        self.running = false;
        self.out = Some(out);
        if !self.went_well() {
            // What is lost has no value left that could be aborted; composites have aborted their own steps.
            self.comp.cut(world);
            if let Comp::Leaf(leaf) = &mut self.comp {
                leaf.abort(world);
            }
        }
    }

    /// Forgets its progress.
    fn reset(&mut self) {
        self.comp.reset();
        self.skip = false;
        self.began = None;
        self.running = false;
        self.out = None;
        self.nothing = false;
        self.kept = false;
        self.lost = false;
    }

    fn left(&self) -> Left {
        if self.out.is_some() {
            return Left {
                failed: !self.is_clean(),
                lost: false,
            };
        }
        let mut left = self.comp.left();
        left.failed |= self.kept;
        left.lost |= self.lost;
        left
    }
}

impl Leaf {
    fn poll(&mut self, hard: Duration, best_effort: bool, world: &mut World) -> Option<End_> {
        if self.flight.is_none() {
            if self.kind == LeafKind::Taken {
                if self.taken {
                    return Some(End_::Nothing);
                }
                self.taken = true;
            }
            self.flight = Some(world.now);
            world.add(self.id, BEGIN);
        }
        if self.kind == LeafKind::Blocking {
            // It takes real time, of which a step that has to end now has none.
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
            End::Fail | End::FailHostile => End_::Err,
            End::Panic => End_::Panic,
            end => {
                world.add(self.id, FINISH);
                match end {
                    End::OkDropPanics if self.kind != LeafKind::Blocking => End_::Panic,
                    _ => End_::Ok,
                }
            }
        })
    }

    fn abort(&mut self, world: &mut World) {
        if self.kind != LeafKind::Taken || !self.taken {
            world.add(self.id, ABORT);
            self.taken = true;
        }
    }
}

impl Plan {
    /// Opens it: finds the longest path, and shrinks where less is given.
    fn open(&mut self, cap: Duration, now: Duration) -> Duration {
        if let Some(deadline) = self.deadline {
            return deadline;
        }
        let deadline = self.total.map_or(cap, |total| cap.min(now + total));
        self.deadline = Some(deadline);
        let mut tails = vec![Duration::ZERO; self.rows.len()];
        let mut longest = Duration::ZERO;
        for i in (0..self.rows.len()).rev() {
            let path = tails[i] + self.rows[i].timeout.unwrap_or(UNSTATED);
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

    fn poll(&mut self, cap: Duration, best_effort: bool, world: &mut World) -> Option<End_> {
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
            End_::Ok
        } else {
            End_::Err
        })
    }
}

impl Elements {
    fn poll(&mut self, cap: Duration, best_effort: bool, world: &mut World) -> Option<End_> {
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
        Some(if clean { End_::Ok } else { End_::Err })
    }

    /// What the run before had begun and this one has not: whether anything was kept of it, and lost.
    fn settle(&mut self) -> (bool, bool) {
        let Some((all, unfinished)) = self.before.take() else {
            return (false, false);
        };
        let lost = match self.kind {
            ElementsKind::List | ElementsKind::Locked => {
                unfinished
                    .len()
                    .min(all.len().saturating_sub(self.rows.len()))
                    > 0
            }
            ElementsKind::Map => {
                let is_there = |name: &String| self.rows.iter().any(|row| row.name == *name);
                unfinished.iter().any(|name| !is_there(name))
            }
            ElementsKind::Components => false,
        };
        (lost, lost)
    }
}

impl Comp {
    fn poll(&mut self, hard: Duration, best_effort: bool, world: &mut World) -> Option<End_> {
        match self {
            Self::Leaf(leaf) => leaf.poll(hard, best_effort, world),
            Self::Plan(plan) => plan.poll(hard, best_effort, world),
            Self::Elements(elements) => elements.poll(hard, best_effort, world),
            Self::Maybe(Some(inside)) | Self::Object(inside) => {
                inside.poll(hard, best_effort, world)
            }
            Self::Maybe(None) => Some(End_::Ok),
        }
    }

    fn rows(&self) -> &[Row] {
        match self {
            Self::Plan(plan) => &plan.rows,
            Self::Elements(elements) => &elements.rows,
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.rows(),
            Self::Leaf(_) | Self::Maybe(None) => &[],
        }
    }

    fn rows_mut(&mut self) -> &mut [Row] {
        match self {
            Self::Plan(plan) => &mut plan.rows,
            Self::Elements(elements) => &mut elements.rows,
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.rows_mut(),
            Self::Leaf(_) | Self::Maybe(None) => &mut [],
        }
    }

    fn is_clean(&self) -> bool {
        self.rows().iter().all(Row::is_clean)
    }

    /// Aborts all that has not ended.
    fn abort(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            leaf.abort(world);
        }
        for row in self.rows_mut().iter_mut().filter(|row| row.out.is_none()) {
            row.comp.abort(world);
        }
        self.let_go();
    }

    /// After an abort or a release nothing is left of what its wrapper holds.
    fn let_go(&mut self) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner => plan.ended = true,
            Self::Elements(elements) => {
                elements.gone |= matches!(
                    elements.kind,
                    ElementsKind::Components | ElementsKind::Locked
                );
            }
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.let_go(),
            Self::Leaf(_) | Self::Plan(_) | Self::Maybe(None) => {}
        }
    }

    /// Releases all that has not ended, from the drop of an owner.
    fn release(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            match leaf.kind {
                LeafKind::Plain => world.add(leaf.id, RELEASE),
                // `abort = …` serves the release.
                LeafKind::Taken | LeafKind::Blocking => leaf.abort(world),
            }
        }
        if matches!(self, Self::Plan(plan) if plan.ended)
            || matches!(self, Self::Elements(elements) if elements.gone)
        {
            return;
        }
        for row in self.rows_mut().iter_mut().filter(|row| row.out.is_none()) {
            row.comp.release(world);
        }
        self.let_go();
    }

    /// Drops it: owners inside that were not shut down release what they own, as dynamic components do.
    fn drop(&mut self, world: &mut World) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner && !plan.ended => self.release(world),
            Self::Elements(elements)
                if elements.kind == ElementsKind::Components && !elements.gone =>
            {
                // Its items are released one by one, and whole: nothing is known of them any more.
                elements.gone = true;
                for row in &mut elements.rows {
                    row.comp.release_all(world);
                }
            }
            _ => {}
        }
        for row in self.rows_mut() {
            row.comp.drop(world);
        }
    }

    /// Releases all, also what has ended: but owners know what has.
    fn release_all(&mut self, world: &mut World) {
        if !matches!(self, Self::Plan(plan) if plan.kind == PlanKind::Owner) {
            if let Self::Elements(elements) = self {
                if elements.gone {
                    return;
                }
            }
            if let Self::Leaf(_) = self {
                self.release(world);
            }
            for row in self.rows_mut() {
                row.comp.release_all(world);
            }
            self.let_go();
            return;
        }
        self.release(world);
    }

    /// The future is dropped: what is in flight is cut.
    fn cut(&mut self, world: &mut World) {
        if let Self::Leaf(leaf) = self {
            if leaf.flight.take().is_some() && leaf.kind != LeafKind::Blocking {
                world.add(leaf.id, CUT);
            }
        }
        for row in self.rows_mut() {
            row.comp.cut(world);
        }
    }

    /// Another run begins: what cannot be told from others is cleaned anew. What is kept of it.
    fn resume(&mut self) -> Left {
        match self {
            Self::Plan(plan) => {
                for row in plan.rows.iter_mut().filter(|row| row.out.is_none()) {
                    row.resume();
                }
                Left::default()
            }
            Self::Elements(elements) => elements.resume(),
            Self::Maybe(Some(inside)) | Self::Object(inside) => {
                let left = inside.left();
                inside.reset();
                left
            }
            Self::Leaf(_) | Self::Maybe(None) => Left::default(),
        }
    }

    /// What is not to be forgotten of a component that is cleaned anew.
    fn left(&self) -> Left {
        let mut left = Left::default();
        match self {
            Self::Leaf(leaf) => left.lost = leaf.kind == LeafKind::Taken && leaf.taken,
            // It tells of itself again.
            Self::Plan(plan) if plan.kind == PlanKind::Owner => {}
            _ => self.rows().iter().for_each(|row| left.join(row.left())),
        }
        left
    }

    fn reset(&mut self) {
        match self {
            Self::Plan(plan) if plan.kind == PlanKind::Owner => {
                self.resume();
            }
            Self::Plan(plan) => {
                plan.deadline = None;
                plan.ended = false;
                plan.rows.iter_mut().for_each(Row::reset);
            }
            Self::Elements(elements) => {
                elements.open = false;
                elements.before = None;
                if elements.gone {
                    elements.rows.clear();
                }
                elements.rows.iter_mut().for_each(Row::reset);
            }
            Self::Maybe(Some(inside)) | Self::Object(inside) => inside.reset(),
            Self::Leaf(_) | Self::Maybe(None) => {}
        }
    }
}

impl Row {
    fn resume(&mut self) {
        if !self.running {
            return;
        }
        self.running = false;
        if let Comp::Leaf(leaf) = &self.comp {
            self.lost |= leaf.kind == LeafKind::Taken && leaf.taken;
        }
        let left = self.comp.resume();
        self.kept |= left.failed || left.lost;
        self.lost |= left.lost;
    }
}

impl Elements {
    fn resume(&mut self) -> Left {
        let mut left = std::mem::take(&mut self.carried);
        if !self.open {
            return left;
        }
        self.open = false;
        if self.kind == ElementsKind::Components {
            for row in self.rows.iter_mut().filter(|row| row.out.is_none()) {
                row.running = false;
                let inside = row.comp.left();
                row.comp.reset();
                row.kept |= inside.failed || inside.lost;
                row.lost |= inside.lost;
            }
            return left;
        }
        let names = |rows: &[Row]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
        let all = names(&self.rows);
        let unfinished = self.rows.iter().filter(|row| row.out.is_none());
        let unfinished = unfinished.map(|row| row.name.clone()).collect();
        self.before = Some((all, unfinished));
        for row in &mut self.rows {
            left.join(row.left());
            row.reset();
        }
        left
    }
}

/// A server, as the contract has it.
pub(crate) struct Reference {
    root: Plan,
    pub(crate) world: World,
}

impl Reference {
    pub(crate) fn new(case: &Case) -> (Self, Times) {
        let mut world = World {
            now: Duration::ZERO,
            hurried: false,
            forced: false,
            counts: Vec::new(),
            unclear: false,
        };
        let names = ["a", "b", "c", "d"];
        let rows = case.fields.iter().zip(names);
        let mut rows: Vec<_> = rows
            .map(|(node, name)| Row::new(name, build(node, &mut world)))
            .collect();
        let after: [&[usize]; 4] = match case.shape {
            Shape::Chain => [&[], &[0], &[1], &[2]],
            Shape::Diamond => [&[], &[0], &[0], &[1, 2]],
            Shape::Mixed => [&[], &[], &[0, 1], &[2]],
        };
        let stated = match case.shape {
            Shape::Chain => [true; 4],
            Shape::Diamond | Shape::Mixed => [true, true, false, true],
        };
        let fields = case
            .timeouts
            .map(|time| UNIT * u32::try_from(time).unwrap());
        for i in 0..4 {
            rows[i].timeout = stated[i].then_some(fields[i]);
        }
        if let Shape::Mixed = case.shape {
            rows[0].required = true;
            rows[1].best_effort = true;
            rows[3].best_effort = true;
        }
        let mut root = Plan {
            kind: PlanKind::Owner,
            rows,
            after: after.iter().map(|after| after.to_vec()).collect(),
            total: None,
            deadline: None,
            ended: false,
        };
        // The longest path, found by giving it more than it can need.
        root.open(Duration::from_secs(1_000), Duration::ZERO);
        let longest = root
            .rows
            .iter()
            .map(|row| row.tail + row.timeout.unwrap_or(UNSTATED));
        let total = longest.max().unwrap() + UNIT * u32::try_from(case.spare).unwrap();
        root.deadline = None;
        root.total = Some(total);
        (Self { root, world }, Times { fields, total })
    }

    /// Runs until the shutdown has ended, or until `until`. Returns whether it has.
    pub(crate) fn run(&mut self, until: Option<Duration>) -> bool {
        for row in self.root.rows.iter_mut().filter(|row| row.out.is_none()) {
            row.resume();
        }
        loop {
            let far = Duration::from_secs(1_000_000);
            if self.root.poll(far, false, &mut self.world).is_some() {
                return true;
            }
            let next = self.next().expect("what runs has a deadline");
            if let Some(until) = until {
                self.world.compare(next, until);
                if next >= until {
                    self.world.now = until;
                    self.root
                        .rows
                        .iter_mut()
                        .for_each(|row| row.comp.cut(&mut self.world));
                    return false;
                }
            }
            self.world.now = next;
        }
    }

    /// When something happens next.
    fn next(&self) -> Option<Duration> {
        fn collect(rows: &[Row], now: Duration, next: &mut Option<Duration>) {
            for row in rows.iter().filter(|row| row.out.is_none() && row.running) {
                let mut at = row.hard;
                if let Comp::Leaf(leaf) = &row.comp {
                    let hangs = matches!(leaf.script.end, End::Hang | End::HangDropPanics);
                    if let (Some(began), false) = (leaf.flight, hangs) {
                        at = at.min(began + UNIT * u32::try_from(leaf.script.time).unwrap());
                    }
                }
                let at = at.max(now);
                *next = Some(next.map_or(at, |next| next.min(at)));
                collect(row.comp.rows(), now, next);
            }
        }
        let mut next = None;
        collect(&self.root.rows, self.world.now, &mut next);
        next
    }

    /// The server is dropped before its shutdown has ended.
    pub(crate) fn drop_unfinished(&mut self) {
        for row in self.root.rows.iter_mut().filter(|row| row.out.is_none()) {
            row.comp.release(&mut self.world);
        }
        self.drop_rest();
    }

    /// The fields of the server are dropped.
    pub(crate) fn drop_rest(&mut self) {
        self.root
            .rows
            .iter_mut()
            .for_each(|row| row.comp.drop(&mut self.world));
    }

    pub(crate) fn is_clean(&self) -> bool {
        !self.world.forced && self.root.rows.iter().all(Row::is_clean)
    }

    /// The outcome of every step, by its path.
    pub(crate) fn outcomes(&self) -> Vec<(String, Out)> {
        fn collect(rows: &[Row], above: &str, outcomes: &mut Vec<(String, Out)>) {
            for row in rows {
                let path = match (above, row.name.starts_with('[')) {
                    ("", _) => row.name.clone(),
                    (above, true) => format!("{above}{}", row.name),
                    (above, false) => format!("{above}.{}", row.name),
                };
                // What was skipped as a whole has no rows inside.
                if let Some(out) = row.out {
                    outcomes.push((path.clone(), out));
                    if out != Out::Skipped {
                        collect(row.comp.rows(), &path, outcomes);
                    }
                }
            }
        }
        let mut outcomes = Vec::new();
        collect(&self.root.rows, "", &mut outcomes);
        outcomes
    }

    /// Whether step `i` has ended. What is put into its field after that is nobody's to clean.
    pub(crate) fn has_ended(&self, i: usize) -> bool {
        self.root.rows[i].out.is_some()
    }

    /// The list or map in field `i`, to be edited.
    pub(crate) fn edit(&mut self, i: usize, edit: impl FnOnce(&mut EditedElements<'_>)) {
        let Comp::Plan(real) = &mut self.root.rows[i].comp else {
            return;
        };
        if let Comp::Elements(elements) = &mut real.rows[0].comp {
            edit(&mut EditedElements {
                elements,
                world: &mut self.world,
            });
        }
    }
}

/// A list or map between two runs.
pub(crate) struct EditedElements<'a> {
    elements: &'a mut Elements,
    world: &'a mut World,
}

impl EditedElements<'_> {
    pub(crate) fn remove(&mut self, i: usize) {
        // An owner in it knows what has ended, until that is cleaned anew.
        self.elements.rows[i].comp.drop(self.world);
        // What the run before had is kept for the next one, as if it had been resumed before.
        let left = self.elements.resume();
        self.elements.rows.remove(i);
        self.carry(left);
    }

    pub(crate) fn reverse(&mut self) {
        let left = self.elements.resume();
        self.elements.rows.reverse();
        self.carry(left);
    }

    pub(crate) fn push(&mut self, script: Script) {
        let left = self.elements.resume();
        let comp = build(&Node::Leaf(script), self.world);
        self.elements.rows.push(Row::new("", comp));
        self.carry(left);
    }

    /// What was left inside must not be forgotten with the rows: the next run is told.
    fn carry(&mut self, left: Left) {
        self.elements.carried.join(left);
    }
}

fn build(node: &Node, world: &mut World) -> Comp {
    let leaf = |script: Script, kind, world: &mut World| {
        world.counts.push([0; 5]);
        Comp::Leaf(Leaf {
            id: world.counts.len() - 1,
            script,
            kind,
            flight: None,
            taken: false,
        })
    };
    let inside = match node {
        Node::Leaf(script) => leaf(*script, LeafKind::Plain, world),
        Node::Blocking(end) => {
            let script = Script {
                time: 0,
                end: *end,
                abort_panics: false,
            };
            leaf(script, LeafKind::Blocking, world)
        }
        Node::Taken(script) => leaf(*script, LeafKind::Taken, world),
        Node::Chain(nodes) => two(nodes, ["a", "b"], true, None, world),
        Node::Flat(nodes) => {
            let mut plan = two(nodes, ["a", "b"], false, None, world);
            plan.rows_mut()[0].best_effort = true;
            plan
        }
        Node::Tuple(nodes) => two(nodes, ["0", "1"], false, None, world),
        Node::Owner(nodes) => two(nodes, ["a", "b"], true, Some(DEFAULT), world),
        Node::List(nodes) => elements(ElementsKind::List, nodes, world),
        Node::Map(nodes) => elements(ElementsKind::Map, nodes, world),
        Node::Components(nodes) => elements(ElementsKind::Components, nodes, world),
        Node::Locked(nodes) => elements(ElementsKind::Locked, nodes, world),
        Node::Maybe(node) => Comp::Maybe(node.as_ref().map(|node| Box::new(build(node, world)))),
        Node::Object(node) => Comp::Object(Box::new(build(node, world))),
    };
    // Every component is the one field of a variant.
    Comp::Plan(Plan {
        kind: PlanKind::Part,
        rows: vec![Row::new("0", inside)],
        after: vec![Vec::new()],
        total: None,
        deadline: None,
        ended: false,
    })
}

fn two(
    nodes: &[Node; 2],
    names: [&str; 2],
    chained: bool,
    total: Option<Duration>,
    world: &mut World,
) -> Comp {
    let rows = nodes.iter().zip(names);
    Comp::Plan(Plan {
        kind: match total {
            Some(_) => PlanKind::Owner,
            None => PlanKind::Part,
        },
        rows: rows
            .map(|(node, name)| Row::new(name, build(node, world)))
            .collect(),
        after: vec![Vec::new(), if chained { vec![0] } else { Vec::new() }],
        total,
        deadline: None,
        ended: false,
    })
}

fn elements(kind: ElementsKind, nodes: &[Node], world: &mut World) -> Comp {
    let rows = nodes.iter().enumerate();
    Comp::Elements(Elements {
        kind,
        rows: rows
            .map(|(i, node)| Row::new(format!("[{i}]"), build(node, world)))
            .collect(),
        before: None,
        carried: Left::default(),
        open: false,
        gone: false,
    })
}
