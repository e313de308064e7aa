//! The reference model of a shutdown: sequential, slow, and written from the contract alone.
//!
//! Time goes from event to event. At each moment the model polls every step that is due once, in plan order.

mod build;
mod edit;
mod ends;
mod poll;
mod resumed;

use std::time::Duration;

use self::build::build;
use self::edit::EditedElements;
use self::poll::DEFAULT_STEP_TIME;
use self::resumed::Remains;
use crate::describe::{Case, End, Script, Shape};
use crate::real::{Times, UNIT};

/// The time within which two events may come in any order, since timers are rounded.
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

/// The state that all steps share.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) hurried: bool,
    pub(crate) forced: bool,
    /// The begins, ends, cuts, aborts and releases of each leaf.
    pub(crate) counts: Vec<[u32; 5]>,
    /// Whether two events were too close to tell which comes first.
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

    /// Marks the case as unclear if the competing times `a` and `b` are too close.
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
    /// The time at which its running future began.
    flight: Option<Duration>,
    /// Whether its value was taken out of the field.
    taken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlanKind {
    /// A part, whose progress is known by its field.
    Part,
    /// An owner, which carries its own progress.
    Owner,
}

struct Plan {
    kind: PlanKind,
    rows: Vec<Row>,
    after: Vec<Vec<usize>>,
    total: Option<Duration>,
    /// The deadline, once the plan was opened.
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
    /// The names of all elements of the previous run, and of those that had not ended.
    before: Option<(Vec<String>, Vec<String>)>,
    /// The failures and losses in rows that an edit between two runs has renewed.
    carried: Remains,
    /// Whether its cleanup runs, so that the rows have their names.
    open: bool,
    /// Whether the elements were cleaned and dropped.
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
    /// The timeout after it was shrunk in proportion to the available time.
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
    /// Whether a failed row of an earlier run is kept inside.
    kept: bool,
    /// Whether a value was lost while it was being cleaned.
    lost: bool,
}

/// A server that behaves as the contract says.
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
        // Opens the plan with more time than it can need, to find its longest path.
        root.open(Duration::from_secs(1_000), Duration::ZERO);
        let longest = root
            .rows
            .iter()
            .map(|row| row.tail + row.timeout.unwrap_or(DEFAULT_STEP_TIME));
        let total = longest.max().unwrap() + UNIT * u32::try_from(case.spare).unwrap();
        root.deadline = None;
        root.total = Some(total);
        (Self { root, world }, Times { fields, total })
    }

    /// Runs until the shutdown has ended, or until `until`. Returns whether the shutdown has ended.
    pub(crate) fn run(&mut self, until: Option<Duration>) -> bool {
        for row in self.root.rows.iter_mut().filter(|row| row.out.is_none()) {
            row.resume();
        }
        loop {
            let far = Duration::from_secs(1_000_000);
            if self.root.poll(far, false, &mut self.world).is_some() {
                return true;
            }
            let next = self.next().expect("a running step has a deadline");
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

    /// Returns the time of the next event.
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

    /// Drops the server before its shutdown has ended.
    pub(crate) fn drop_unfinished(&mut self) {
        for row in self.root.rows.iter_mut().filter(|row| row.out.is_none()) {
            row.comp.release(&mut self.world);
        }
        self.drop_rest();
    }

    /// Drops the fields of the server.
    pub(crate) fn drop_rest(&mut self) {
        self.root
            .rows
            .iter_mut()
            .for_each(|row| row.comp.drop(&mut self.world));
    }

    pub(crate) fn is_clean(&self) -> bool {
        !self.world.forced && self.root.rows.iter().all(Row::is_clean)
    }

    /// Returns the outcome of every step, by its path.
    pub(crate) fn outcomes(&self) -> Vec<(String, Verdict)> {
        fn collect(rows: &[Row], above: &str, outcomes: &mut Vec<(String, Verdict)>) {
            for row in rows {
                let path = match (above, row.name.starts_with('[')) {
                    ("", _) => row.name.clone(),
                    (above, true) => format!("{above}{}", row.name),
                    (above, false) => format!("{above}.{}", row.name),
                };
                // A skipped component has no rows inside.
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

    /// Returns whether step `i` has ended. Values that are put into its field after that are never cleaned.
    pub(crate) fn has_ended(&self, i: usize) -> bool {
        self.root.rows[i].out.is_some()
    }

    /// Edits the list or map in field `i`.
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
