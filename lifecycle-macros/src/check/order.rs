//! The order of the steps: possible, complete, and without a contradiction.

mod cycle;

use proc_macro2::Span;

use crate::ast::Field;
use crate::attr::Target;
use crate::errors::Errors;
use crate::nearest::nearest;

/// A step in its place.
pub(super) struct Placed {
    /// Which field it is.
    pub(super) field: usize,
    pub(super) priority: i32,
    /// The steps it waits for directly, as places in the plan.
    pub(super) after: Vec<usize>,
}

/// The steps in an order in which they could run one by one, or `None` if `errors` has grown.
pub(super) fn order(fields: &[Field<'_>], owner: &str, errors: &mut Errors) -> Option<Vec<Placed>> {
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
    let waits = Waits::read(fields, owner, errors);
    cycle::no_cycle(fields, &waits, errors);
    if errors.len() > before {
        return None;
    }
    let priorities = priorities(fields, &waits);
    no_contradiction(fields, &waits, &priorities, errors);
    (errors.len() == before).then(|| arrange(&steps, &waits, &priorities))
}

/// Without a word about order, the steps run one after the other as they are declared, as Rust drops fields.
fn as_declared(steps: &[usize]) -> Vec<Placed> {
    let chain = steps.iter().enumerate().map(|(place, &field)| Placed {
        field,
        priority: i32::try_from(place).unwrap_or(i32::MAX),
        after: place.checked_sub(1).into_iter().collect(),
    });
    chain.collect()
}

/// A step without `priority` and `after` has no place among steps with a priority: it could run first, last or at any
/// time. Where no step has a priority, the graph of `after` alone says the order, and such a step is a root of it.
fn none_is_bare(fields: &[Field<'_>], steps: &[usize], errors: &mut Errors) {
    for &step in steps {
        let field = &fields[step];
        let attrs = &field.attrs;
        if attrs.priority.is_given() || attrs.after.is_given() || attrs.flawed {
            continue;
        }
        errors.push(
            field.span(),
            format!("`{}` has no place in the order: other steps have a `priority`, this one has neither `priority` nor `after`", field.name),
            "give it `priority = N` (lower runs first) or `after = field`; or remove `priority` everywhere: then `after` alone orders the steps, and without any `after` they run as declared",
        );
    }
}

/// The edges of `after`: for each field the steps it names.
struct Waits {
    edges: Vec<Vec<Edge>>,
}

struct Edge {
    to: usize,
    span: Span,
}

impl Waits {
    /// Resolves every name, and reports those that cannot be waited for.
    fn read(fields: &[Field<'_>], owner: &str, errors: &mut Errors) -> Self {
        let edges = fields.iter().enumerate().map(|(index, field)| {
            let mut edges: Vec<Edge> = Vec::new();
            let targets = field.attrs.after.value().filter(|_| field.attrs.is_step());
            for target in targets.into_iter().flatten() {
                let Some(to) = resolve(index, target, fields, owner, errors) else {
                    continue;
                };
                if edges.iter().any(|edge| edge.to == to) {
                    errors.push(
                        target.span,
                        format!("`after` names `{}` twice", target.name),
                        "name it once",
                    );
                    continue;
                }
                edges.push(Edge {
                    to,
                    span: target.span,
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

/// A name in `after` must be that of another step.
fn resolve(
    from: usize,
    target: &Target,
    fields: &[Field<'_>],
    owner: &str,
    errors: &mut Errors,
) -> Option<usize> {
    let name = &target.name;
    let Some(to) = fields.iter().position(|field| field.name == *name) else {
        unknown(from, target, fields, owner, errors);
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
            format!("`{name}` is the state field: it is no step that one could wait for"),
            "name a field that is cleaned".to_owned(),
        )
    } else if attrs.skip.is_given() {
        (
            format!("`{name}` is skipped: it is no step that one could wait for"),
            format!(
                "name a field that is cleaned, or replace the `skip` of `{name}` by its cleanup"
            ),
        )
    } else if attrs.marked.is_none() {
        let has_priorities = fields.iter().any(|field| field.attrs.priority.is_given());
        let key = if has_priorities { "(priority = N)" } else { "" };
        (
            format!("`{name}` has no `#[shutdown]`: it is no step that one could wait for"),
            format!("name a field that is cleaned, or write `#[shutdown{key}]` above `{name}`"),
        )
    } else {
        return Some(to);
    };
    errors.push(target.span, what, help);
    None
}

fn unknown(from: usize, target: &Target, fields: &[Field<'_>], owner: &str, errors: &mut Errors) {
    let candidates = fields
        .iter()
        .enumerate()
        .filter(|(index, field)| *index != from && field.attrs.is_step());
    let near = nearest(
        &target.name,
        candidates.map(|(_, field)| field.name.as_str()),
    );
    let cfg = "if the field is behind `#[cfg(…)]` and absent here, put this behind the same: `#[cfg_attr(…, shutdown(…))]`";
    let help = match near {
        Some(near) => format!("did you mean `{near}`? {}", capital(cfg)),
        None => cfg.to_owned(),
    };
    errors.push(
        target.span,
        format!("`{owner}` has no field `{}`", target.name),
        help,
    );
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// The priority of every step: its own, or the greatest among those it names.
fn priorities(fields: &[Field<'_>], waits: &Waits) -> Vec<Option<i32>> {
    let mut known = vec![None; fields.len()];
    for step in 0..fields.len() {
        priority(step, fields, waits, &mut known);
    }
    known
}

fn priority(
    step: usize,
    fields: &[Field<'_>],
    waits: &Waits,
    known: &mut [Option<i32>],
) -> Option<i32> {
    if known[step].is_none() {
        let own = fields[step].attrs.priority.value().copied();
        let named = waits
            .of(step)
            .filter_map(|to| priority(to, fields, waits, known))
            .max();
        known[step] = own.or(named);
    }
    known[step]
}

/// All steps of a lower priority come first, so no step can wait for one with a higher.
fn no_contradiction(
    fields: &[Field<'_>],
    waits: &Waits,
    priorities: &[Option<i32>],
    errors: &mut Errors,
) {
    for (step, edges) in waits.edges.iter().enumerate() {
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

fn arrange(steps: &[usize], waits: &Waits, priorities: &[Option<i32>]) -> Vec<Placed> {
    let places = sorted(steps, waits, priorities);
    let priority = |field: usize| priorities[field].unwrap_or_default();
    let place_of = |field: usize| places.iter().position(|&other| other == field);
    let mut placed: Vec<Placed> = Vec::new();
    for &field in &places {
        let level = priority(field);
        let same: Vec<usize> = waits
            .of(field)
            .filter(|&to| priority(to) == level)
            .filter_map(place_of)
            .collect();
        let after = if same.is_empty() {
            ends_of_level_before(level, &placed)
        } else {
            direct(same, &placed)
        };
        placed.push(Placed {
            field,
            priority: level,
            after,
        });
    }
    placed
}

/// By priority; within one, those that are waited for first; otherwise as declared.
fn sorted(steps: &[usize], waits: &Waits, priorities: &[Option<i32>]) -> Vec<usize> {
    let mut left = steps.to_vec();
    left.sort_by_key(|&step| priorities[step]);
    let mut sorted = Vec::new();
    while !left.is_empty() {
        // A cycle was reported before this; the first serves as well as any.
        let next = left
            .iter()
            .position(|&step| waits.of(step).all(|to| !left.contains(&to)))
            .unwrap_or_default();
        sorted.push(left.remove(next));
    }
    sorted
}

/// The steps of the previous level that no other of that level waits for: when they have ended, all have.
fn ends_of_level_before(level: i32, placed: &[Placed]) -> Vec<usize> {
    let Some(previous) = placed
        .iter()
        .map(|step| step.priority)
        .filter(|&other| other < level)
        .max()
    else {
        return Vec::new();
    };
    let in_level: Vec<usize> = (0..placed.len())
        .filter(|&place| placed[place].priority == previous)
        .collect();
    let ends = in_level.iter().filter(|&place| {
        !in_level
            .iter()
            .any(|&later| placed[later].after.contains(place))
    });
    ends.copied().collect()
}

/// Without those that another of them waits for already.
fn direct(mut named: Vec<usize>, placed: &[Placed]) -> Vec<usize> {
    named.sort_unstable();
    let implied = |&place: &usize| {
        named
            .iter()
            .any(|&other| other != place && reaches(other, place, placed))
    };
    let direct: Vec<usize> = named
        .iter()
        .filter(|place| !implied(place))
        .copied()
        .collect();
    direct
}

fn reaches(from: usize, to: usize, placed: &[Placed]) -> bool {
    placed[from]
        .after
        .iter()
        .any(|&next| next == to || (next > to && reaches(next, to, placed)))
}
