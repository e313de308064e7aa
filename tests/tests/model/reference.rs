//! The reference model of a shutdown. It is sequential and slow, and written from the documented contract alone,
//! without a look at the engine.
//!
//! The reference model's clock goes from one event to the next. At each moment the model polls every step that is due
//! once, in the order of the plan.

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

/// Two events that are closer than this may come in any order in the engine, since timers are rounded.
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

/// The state of the reference model that all steps share.
pub(crate) struct World {
    pub(crate) now: Duration,
    pub(crate) hurried: bool,
    pub(crate) forced: bool,
    /// The numbers of begins, ends, cuts, aborts and releases of each leaf.
    pub(crate) counts: Vec<[u32; 5]>,
    /// Whether two events were so close that the engine may handle either of them first. Such a case is not compared.
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

    /// Marks the case as unclear if the times `a` and `b` of two events are so close that either may come first.
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
    /// The time at which the leaf's cleanup began, while its future is alive.
    flight: Option<Duration>,
    /// Whether the leaf's value was moved out of its field, by the key `take`.
    taken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PlanKind {
    /// A part. Its progress is kept outside it, and found by the part's field.
    Part,
    /// An owner. It holds its own progress.
    Owner,
}

struct Plan {
    kind: PlanKind,
    rows: Vec<Row>,
    after: Vec<Vec<usize>>,
    total: Option<Duration>,
    /// The deadline of the plan, which is set when the plan's cleanup begins.
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
    /// The names of all elements of the previous run, and the names of its elements that had not ended.
    before: Option<(Vec<String>, Vec<String>)>,
    /// The failures and lost values of the rows that an edit between two runs has reset.
    carried: Remains,
    /// Whether the cleanup of the list or map has begun, so that the rows have their names.
    open: bool,
    /// Whether the container has cleaned and dropped its elements.
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
    /// The step's timeout after the plan has shrunk all timeouts to fit into its available time.
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
    /// Whether a row inside this row failed in an earlier run, so that this row counts as failed.
    kept: bool,
    /// Whether a value inside was removed while its cleanup was unfinished, so that nobody can clean it any more.
    lost: bool,
}

/// A server in the reference model, which behaves as the documented contract says.
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
        // Opens the plan with more time than it can need, only to compute its longest path.
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

    /// Runs the shutdown until it has ended, or until the time `until`, at which the shutdown's future is dropped.
    /// Returns whether the shutdown has ended.
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

    /// Returns the time of the next event: a leaf ends, or a step reaches its deadline.
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

    /// Models the drop of the server before its shutdown has ended.
    pub(crate) fn drop_unfinished(&mut self) {
        for row in self.root.rows.iter_mut().filter(|row| row.out.is_none()) {
            row.comp.release(&mut self.world);
        }
        self.drop_rest();
    }

    /// Models the drop of the server's fields.
    pub(crate) fn drop_rest(&mut self) {
        self.root
            .rows
            .iter_mut()
            .for_each(|row| row.comp.drop(&mut self.world));
    }

    pub(crate) fn is_clean(&self) -> bool {
        !self.world.forced && self.root.rows.iter().all(Row::is_clean)
    }

    /// Returns the path and outcome of every step that has ended.
    pub(crate) fn outcomes(&self) -> Vec<(String, Verdict)> {
        fn collect(rows: &[Row], above: &str, outcomes: &mut Vec<(String, Verdict)>) {
            for row in rows {
                let path = match (above, row.name.starts_with('[')) {
                    ("", _) => row.name.clone(),
                    (above, true) => format!("{above}{}", row.name),
                    (above, false) => format!("{above}.{}", row.name),
                };
                // Rows inside a skipped component are left out, since the report has none.
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

    /// Returns whether step `i` of the server has ended. The engine never cleans a value that is put into the field of
    /// an ended step.
    pub(crate) fn has_ended(&self, i: usize) -> bool {
        self.root.rows[i].out.is_some()
    }

    /// Edits the list or map in field `i`, if there is one.
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
