//! Describes a case: a server, the behaviour of its parts, and the events of its shutdown. A case is plain data, so that
//! it can shrink.

use proptest::prelude::*;

/// A component of the server.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Script),
    /// A part whose two fields run one after the other.
    Chain(Box<[Node; 2]>),
    /// A part whose two fields run together, the first of them `best_effort`.
    Flat(Box<[Node; 2]>),
    Tuple(Box<[Node; 2]>),
    /// An owner inside the server.
    Owner(Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<Node>),
    Components(Vec<Node>),
    /// A shared list in a lock.
    Locked(Vec<Node>),
    Maybe(Option<Box<Node>>),
    Object(Box<Node>),
    /// A leaf that is cleaned on the blocking pool and ends at once.
    Blocking(End),
    /// A leaf that is moved out of its field with `take`.
    Taken(Script),
}

/// The behaviour of a leaf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// The time that its cleanup takes, in units of 50 ms.
    pub(crate) time: u64,
    pub(crate) end: End,
    pub(crate) abort_panics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Fail,
    /// The cleanup fails with an error that panics when it is shown and when it is dropped.
    FailHostile,
    Panic,
    Hang,
    /// The cleanup succeeds, and then its future panics when it is dropped.
    OkDropPanics,
    /// The cleanup never ends, and its future panics when it is dropped.
    HangDropPanics,
}

/// The dependencies between the four fields of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// The fields run one after the other.
    Chain,
    /// `b` and `c` run after `a`, and `d` after both.
    Diamond,
    /// `a` (`required`) and `b` (`best_effort`) run together, then `c`, then `d` (`best_effort`).
    Mixed,
}

/// A run of the shutdown's future, which is then dropped.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// The time of the run, in units of 50 ms, to which half a unit is added.
    pub(crate) run: u64,
    /// The time between this run and the next.
    pub(crate) gap: u64,
    /// The edit of a field between this run and the next.
    pub(crate) edit: Option<(usize, Edit)>,
    /// The interruption of the next run.
    pub(crate) interrupt: Option<Interruption>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Interruption {
    Hurry,
    Force,
}

/// An edit of a list or map between two runs.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Remove(usize),
    Reverse,
    Push(Script),
}

#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) shape: Shape,
    pub(crate) fields: [Node; 4],
    /// The timeouts of the fields, in units of 50 ms.
    pub(crate) timeouts: [u64; 4],
    /// The time by which the total exceeds the longest path, in units of 50 ms.
    pub(crate) spare: u64,
    pub(crate) cuts: Vec<Cut>,
    /// Whether the subscriber of the log panics at every event.
    pub(crate) hostile_log: bool,
    /// Whether a last run goes to its end. Otherwise the server is dropped.
    pub(crate) awaited: bool,
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Ok),
        2 => Just(End::Fail),
        1 => Just(End::FailHostile),
        1 => Just(End::Panic),
        2 => Just(End::Hang),
        1 => Just(End::OkDropPanics),
        1 => Just(End::HangDropPanics),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let time = prop_oneof![2 => Just(0_u64), 3 => 1..40_u64];
    (time, end(), prop::bool::weighted(0.1)).prop_map(|(time, end, abort_panics)| Script {
        time,
        end,
        abort_panics,
    })
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        8 => script().prop_map(Node::Leaf),
        1 => end().prop_map(|end| match end {
            // A blocking call cannot be cut, so it must end.
            End::Hang | End::HangDropPanics => Node::Blocking(End::Ok),
            end => Node::Blocking(end),
        }),
        1 => script().prop_map(Node::Taken),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        let two = || (inner.clone(), inner.clone()).prop_map(|(a, b)| Box::new([a, b]));
        let some = || prop::collection::vec(inner.clone(), 0..4);
        prop_oneof![
            2 => two().prop_map(Node::Chain),
            1 => two().prop_map(Node::Flat),
            1 => two().prop_map(Node::Tuple),
            1 => two().prop_map(Node::Owner),
            2 => some().prop_map(Node::List),
            1 => some().prop_map(Node::Map),
            1 => some().prop_map(Node::Components),
            1 => some().prop_map(Node::Locked),
            1 => prop::option::of(inner.clone().prop_map(Box::new)).prop_map(Node::Maybe),
            1 => inner.prop_map(|inner| Node::Object(Box::new(inner))),
        ]
    })
}

fn cut() -> impl Strategy<Value = Cut> {
    let edit = prop_oneof![
        2 => (0..4_usize).prop_map(Edit::Remove),
        1 => Just(Edit::Reverse),
        1 => script().prop_map(Edit::Push),
    ];
    let interrupt = prop_oneof![Just(Interruption::Hurry), Just(Interruption::Force)];
    (
        0..60_u64,
        prop_oneof![3 => Just(0_u64), 1 => 1..80_u64],
        prop::option::weighted(0.4, (0..4_usize, edit)),
        prop::option::weighted(0.2, interrupt),
    )
        .prop_map(|(run, gap, edit, interrupt)| Cut {
            run,
            gap,
            edit,
            interrupt,
        })
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let shape = prop_oneof![Just(Shape::Chain), Just(Shape::Diamond), Just(Shape::Mixed)];
    (
        shape,
        [node(), node(), node(), node()],
        prop::array::uniform4(1..60_u64),
        0..40_u64,
        prop::collection::vec(cut(), 0..4),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.85),
    )
        .prop_map(
            |(shape, fields, timeouts, spare, cuts, hostile_log, awaited)| Case {
                shape,
                fields,
                timeouts,
                spare,
                cuts,
                hostile_log,
                awaited,
            },
        )
}
