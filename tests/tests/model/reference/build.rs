//! Builds the reference model's server from the description in a case.

use std::time::Duration;

use super::resumed::Remains;
use super::{Comp, Elements, ElementsKind, Leaf, LeafKind, Plan, PlanKind, Row, World};
use crate::describe::{Node, Script};

/// The timeout of an owner that declares no timeout.
const DEFAULT: Duration = Duration::from_secs(25);

pub(super) fn build(node: &Node, world: &mut World) -> Comp {
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
    // The real server holds every component in a variant of `Real`, as its only field. So the reference model adds a
    // part with one row.
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
        carried: Remains::default(),
        open: false,
        gone: false,
    })
}
