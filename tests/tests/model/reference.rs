//! The reference: what a shutdown has to do, sequential, slow, and written from the contract alone.
//!
//! Time goes from event to event. At each moment every step that is due is polled once, in plan order.

mod build;
mod edit;
mod ends;
mod poll;
mod resumed;

use std::time::Duration;

use self::build::build;
use self::edit::EditedElements;
use self::poll::UNSTATED;
use self::resumed::Left;
use crate::describe::{Case, End, Script, Shape};
use crate::real::{Times, UNIT};

/// Events that are this close to each other may come in any order, as timers are rounded.
const CLOSE: Duration = Duration::from_millis(12);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    Failed,
    Panicked,
    TimedOut,
    Aborted,
    Skipped,
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
    out: Option<Verdict>,
    nothing: bool,
    /// A row that failed in an earlier run is kept inside.
    kept: bool,
    /// Something it was cleaning is gone.
    lost: bool,
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
    pub(crate) fn outcomes(&self) -> Vec<(String, Verdict)> {
        fn collect(rows: &[Row], above: &str, outcomes: &mut Vec<(String, Verdict)>) {
            for row in rows {
                let path = match (above, row.name.starts_with('[')) {
                    ("", _) => row.name.clone(),
                    (above, true) => format!("{above}{}", row.name),
                    (above, false) => format!("{above}.{}", row.name),
                };
                // What was skipped as a whole has no rows inside.
                if let Some(out) = row.out {
                    outcomes.push((path.clone(), out));
                    if out != Verdict::Skipped {
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
