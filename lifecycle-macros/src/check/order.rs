//! The order of the steps. This module computes it, and checks that it is possible, complete and free of
//! contradictions.

mod cycle;

use proc_macro2::Span;

use crate::ast::Field;
use crate::attr::Dependency;
use crate::errors::Errors;
use crate::nearest::nearest;

/// A step, which has its place in the order of the plan.
pub(super) struct OrderedStep {
    /// The position of the step's field in the struct or variant.
    pub(super) field: usize,
    pub(super) priority: i32,
    /// The steps for which this step waits directly, as positions in the plan.
    pub(super) after: Vec<usize>,
}

/// Returns the steps in an order in which they could run one by one. If there is no such order, reports why and returns
/// `None`.
pub(super) fn order(
    fields: &[Field<'_>],
    owner: &str,
    errors: &mut Errors,
) -> Option<Vec<OrderedStep>> {
    let before = errors.len();
    let steps: Vec<usize> = (0..fields.len())
        .filter(|&index| fields[index].attrs.is_step())
        .collect();
    let has_priorities = fields.iter().any(|field| field.attrs.priority.is_given());
    if !has_priorities && !fields.iter().any(|field| field.attrs.after.is_given()) {
        return Some(as_declared(&steps));
    }
    if has_priorities {
        none_is_bare(fields, &steps, errors);
    }
    let graph = DependencyGraph::read(fields, owner, errors);
    cycle::no_cycle(fields, &graph, errors);
    if errors.len() > before {
        return None;
    }
    let priorities = priorities(fields, &graph);
    no_contradiction(fields, &graph, &priorities, errors);
    (errors.len() == before).then(|| arrange(&steps, &graph, &priorities))
}

/// Puts the steps one after the other in the order of their declaration, as Rust drops fields.
fn as_declared(steps: &[usize]) -> Vec<OrderedStep> {
    let chain = steps
        .iter()
        .enumerate()
        .map(|(position, &field)| OrderedStep {
            field,
            priority: i32::try_from(position).unwrap_or(i32::MAX),
            after: position.checked_sub(1).into_iter().collect(),
        });
    chain.collect()
}

/// Refuses a step without `priority` and `after` if other steps have a priority: nothing would say when it runs. If no
/// step has a priority, only `after` gives the order, and a step without `after` waits for nothing.
fn none_is_bare(fields: &[Field<'_>], steps: &[usize], errors: &mut Errors) {
    for &step in steps {
        let field = &fields[step];
        let attrs = &field.attrs;
        if attrs.priority.is_given() || attrs.after.is_given() || attrs.has_errors {
            continue;
        }
        errors.push(
            field.span(),
            format!("`{}` has no place in the order: other steps have a `priority`, but this one has neither `priority` nor `after`", field.name),
            "give it `priority = N` (lower numbers run first) or `after = field`; or remove every `priority`: then `after` alone orders the steps, or, without any `after`, they run in declaration order",
        );
    }
}

/// The steps that each field names in `after`.
struct DependencyGraph {
    /// For each field, by its position in the struct or variant: the steps that its `after` names.
    edges: Vec<Vec<Edge>>,
}

struct Edge {
    to: usize,
    span: Span,
}

impl DependencyGraph {
    /// Resolves every name in every `after`, and reports names that are not steps.
    fn read(fields: &[Field<'_>], owner: &str, errors: &mut Errors) -> Self {
        let edges = fields.iter().enumerate().map(|(index, field)| {
            let mut edges: Vec<Edge> = Vec::new();
            let dependencies = field.attrs.after.value().filter(|_| field.attrs.is_step());
            for dependency in dependencies.into_iter().flatten() {
                let Some(to) = resolve(index, dependency, fields, owner, errors) else {
                    continue;
                };
                if edges.iter().any(|edge| edge.to == to) {
                    errors.push(
                        dependency.span,
                        format!("`after` names `{}` twice", dependency.name),
                        "name it once",
                    );
                    continue;
                }
                edges.push(Edge {
                    to,
                    span: dependency.span,
                });
            }
            edges
        });
        Self {
            edges: edges.collect(),
        }
    }

    fn of(&self, step: usize) -> impl Iterator<Item = usize> + '_ {
        self.edges[step].iter().map(|edge| edge.to)
    }
}

/// Returns the step that a name in `after` means. If there is none, reports why and returns `None`.
fn resolve(
    from: usize,
    dependency: &Dependency,
    fields: &[Field<'_>],
    owner: &str,
    errors: &mut Errors,
) -> Option<usize> {
    let name = &dependency.name;
    let Some(to) = fields.iter().position(|field| field.name == *name) else {
        report_unknown(from, dependency, fields, owner, errors);
        return None;
    };
    let attrs = &fields[to].attrs;
    let (what, help) = if to == from {
        (
            format!("`{name}` cannot wait for itself"),
            "name another field, or remove `after`".to_owned(),
        )
    } else if attrs.state.is_given() {
        (
            format!("`after` cannot wait for `{name}`: it is the state field, and not a step"),
            "name a field that is cleaned up".to_owned(),
        )
    } else if attrs.skip.is_given() {
        (
            format!("`after` cannot wait for `{name}`: it is marked `skip`, so it is not a step"),
            format!(
                "name a field that is cleaned up, or replace the `skip` of `{name}` by its cleanup"
            ),
        )
    } else if attrs.attribute.is_none() {
        let has_priorities = fields.iter().any(|field| field.attrs.priority.is_given());
        let key = if has_priorities { "(priority = N)" } else { "" };
        (
            format!(
                "`after` cannot wait for `{name}`: it has no `#[shutdown]`, so it is not a step"
            ),
            format!("name a field that is cleaned up, or write `#[shutdown{key}]` above `{name}`"),
        )
    } else {
        return Some(to);
    };
    errors.push(dependency.span, what, help);
    None
}

/// Reports a name in `after` that no field has.
fn report_unknown(
    from: usize,
    dependency: &Dependency,
    fields: &[Field<'_>],
    owner: &str,
    errors: &mut Errors,
) {
    let candidates = fields
        .iter()
        .enumerate()
        .filter(|(index, field)| *index != from && field.attrs.is_step());
    let near = nearest(
        &dependency.name,
        candidates.map(|(_, field)| field.name.as_str()),
    );
    let cfg = "if a `#[cfg(…)]` removes that field from this build, put this attribute under the same condition: `#[cfg_attr(…, shutdown(…))]`";
    let help = match near {
        Some(near) => format!("did you mean `{near}`? {}", capitalized(cfg)),
        None => cfg.to_owned(),
    };
    errors.push(
        dependency.span,
        format!("`{owner}` has no field `{}`", dependency.name),
        help,
    );
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Returns the priority of every field's step: its own, or the greatest among the steps that its `after` names.
fn priorities(fields: &[Field<'_>], graph: &DependencyGraph) -> Vec<Option<i32>> {
    let mut known = vec![None; fields.len()];
    for step in 0..fields.len() {
        priority(step, fields, graph, &mut known);
    }
    known
}

fn priority(
    step: usize,
    fields: &[Field<'_>],
    graph: &DependencyGraph,
    known: &mut [Option<i32>],
) -> Option<i32> {
    if known[step].is_none() {
        let own = fields[step].attrs.priority.value().copied();
        let named = graph
            .of(step)
            .filter_map(|to| priority(to, fields, graph, known))
            .max();
        known[step] = own.or(named);
    }
    known[step]
}

/// Reports every step that names a step of a higher priority in `after`. Lower priorities run first, so such a step
/// cannot wait for the other.
fn no_contradiction(
    fields: &[Field<'_>],
    graph: &DependencyGraph,
    priorities: &[Option<i32>],
    errors: &mut Errors,
) {
    for (step, edges) in graph.edges.iter().enumerate() {
        for edge in edges {
            let (Some(own), Some(other)) = (priorities[step], priorities[edge.to]) else {
                continue;
            };
            if own >= other {
                continue;
            }
            let (name, later) = (&fields[step].name, &fields[edge.to].name);
            errors.push(
                edge.span,
                format!("`{name}` has priority {own} and cannot wait for `{later}`, which has priority {other}: lower numbers run first"),
                format!("give `{name}` a priority of {other} or more, or none, so that it follows `{later}`; or remove this `after`"),
            );
        }
    }
}

/// Puts the steps in the order of the plan, each with the steps for which it waits directly.
fn arrange(
    steps: &[usize],
    graph: &DependencyGraph,
    priorities: &[Option<i32>],
) -> Vec<OrderedStep> {
    let positions = sorted(steps, graph, priorities);
    let priority = |field: usize| priorities[field].unwrap_or_default();
    let position_of = |field: usize| positions.iter().position(|&other| other == field);
    let mut ordered: Vec<OrderedStep> = Vec::new();
    for &field in &positions {
        let level = priority(field);
        let same: Vec<usize> = graph
            .of(field)
            .filter(|&to| priority(to) == level)
            .filter_map(position_of)
            .collect();
        let after = if same.is_empty() {
            last_of_previous_priority(level, &ordered)
        } else {
            without_implied(same, &ordered)
        };
        ordered.push(OrderedStep {
            field,
            priority: level,
            after,
        });
    }
    ordered
}

/// Sorts the steps by priority. Within a priority a step comes after the steps for which it waits; otherwise the order
/// of declaration counts.
fn sorted(steps: &[usize], graph: &DependencyGraph, priorities: &[Option<i32>]) -> Vec<usize> {
    let mut left = steps.to_vec();
    left.sort_by_key(|&step| priorities[step]);
    let mut sorted = Vec::new();
    while !left.is_empty() {
        // Cycles were reported before this. Without a cycle, some step waits for no other step that is left. With one,
        // the first step is taken, since the order no longer matters.
        let next = left
            .iter()
            .position(|&step| graph.of(step).all(|to| !left.contains(&to)))
            .unwrap_or_default();
        sorted.push(left.remove(next));
    }
    sorted
}

/// Returns those steps of the next lower priority for which no other step of that priority waits. Once these steps have
/// ended, all steps of that priority have ended.
fn last_of_previous_priority(level: i32, ordered: &[OrderedStep]) -> Vec<usize> {
    let Some(previous) = ordered
        .iter()
        .map(|step| step.priority)
        .filter(|&other| other < level)
        .max()
    else {
        return Vec::new();
    };
    let in_level: Vec<usize> = (0..ordered.len())
        .filter(|&position| ordered[position].priority == previous)
        .collect();
    let ends = in_level.iter().filter(|&position| {
        !in_level
            .iter()
            .any(|&later| ordered[later].after.contains(position))
    });
    ends.copied().collect()
}

/// Removes from `named` the steps for which another step in `named` already waits.
fn without_implied(mut named: Vec<usize>, ordered: &[OrderedStep]) -> Vec<usize> {
    named.sort_unstable();
    let implied = |&position: &usize| {
        named
            .iter()
            .any(|&other| other != position && reaches(other, position, ordered))
    };
    let direct: Vec<usize> = named
        .iter()
        .filter(|position| !implied(position))
        .copied()
        .collect();
    direct
}

/// Returns whether the step `from` waits for `to`, directly or through other steps.
fn reaches(from: usize, to: usize, ordered: &[OrderedStep]) -> bool {
    ordered[from]
        .after
        .iter()
        .any(|&next| next == to || (next > to && reaches(next, to, ordered)))
}
