//! Describes a case of the test: a server, the behaviour of its components, and the events of its shutdown. A case is
//! plain data, so that proptest can reduce a failing case.

use proptest::prelude::*;

/// A component of the server in a case.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Leaf(Script),
    /// A part whose two fields are cleaned one after the other.
    Chain(Box<[Node; 2]>),
    /// A part whose two fields are cleaned at the same time. The first field is `best_effort`.
    Flat(Box<[Node; 2]>),
    Tuple(Box<[Node; 2]>),
    /// An owner with two fields, inside the server.
    Owner(Box<[Node; 2]>),
    List(Vec<Node>),
    Map(Vec<Node>),
    Components(Vec<Node>),
    /// A list in a lock that is shared in an `Arc`.
    Locked(Vec<Node>),
    Maybe(Option<Box<Node>>),
    Object(Box<Node>),
    /// A leaf whose cleanup is a call on the blocking pool, which returns at once.
    Blocking(End),
    /// A leaf that the engine moves out of its field to clean it, by the key `take`.
    Taken(Script),
}

/// The behaviour of a leaf, which is a component without steps of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    /// The time that the leaf's cleanup takes, in units of 50 ms.
    pub(crate) time: u64,
    pub(crate) end: End,
    pub(crate) abort_panics: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Ok,
    Fail,
    /// The cleanup fails with an error that panics when the error is displayed and when the error is dropped.
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
    /// The four fields are cleaned one after the other.
    Chain,
    /// `b` and `c` are cleaned after `a`, and `d` is cleaned after `b` and `c`.
    Diamond,
    /// `a` (`required`) and `b` (`best_effort`) are cleaned at the same time, then `c`, then `d` (`best_effort`).
    Mixed,
}

/// An interruption of the shutdown: its future runs for some time, and is then dropped.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// The time until the future is dropped, in units of 50 ms. Half a unit is added to it, so that no step ends at
    /// that moment.
    pub(crate) run: u64,
    /// The time between the drop of this future and the next run, in units of 50 ms.
    pub(crate) gap: u64,
    /// The edit of a field between this run and the next run: the field's index, and the change.
    pub(crate) edit: Option<(usize, Edit)>,
    /// A hurry or forced end of the shutdown, which comes before the next run.
    pub(crate) interrupt: Option<Interruption>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Interruption {
    Hurry,
    Force,
}

/// A change of a list or map between two runs of the shutdown.
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
    /// The timeouts of the server's four fields, in units of 50 ms.
    pub(crate) timeouts: [u64; 4],
    /// The time by which the server's total timeout exceeds its longest path of steps, in units of 50 ms.
    pub(crate) spare: u64,
    pub(crate) cuts: Vec<Cut>,
    /// Whether the tracing subscriber panics at every log event of the shutdown.
    pub(crate) hostile_log: bool,
    /// Whether the shutdown is awaited to its end after the last interruption. Otherwise the server is dropped.
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
            // A call on the blocking pool cannot be stopped, so it must end by itself.
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
