//! The search for steps that wait for each other.

use proc_macro2::Span;

use super::DependencyGraph;
use crate::ast::Field;
use crate::errors::Errors;

/// Reports steps that wait for each other, because none of them could begin. Each message shows the whole cycle, at the
/// `after` of the cycle's first declared field.
pub(super) fn no_cycle(fields: &[Field<'_>], graph: &DependencyGraph, errors: &mut Errors) {
    let mut search = Search {
        graph,
        path: Vec::new(),
        done: vec![false; fields.len()],
        cycles: Vec::new(),
    };
    for start in 0..fields.len() {
        search.walk(start);
    }
    for cycle in search.cycles {
        report_cycle(&cycle, fields, graph, errors);
    }
}

/// A depth-first search for cycles.
struct Search<'a> {
    graph: &'a DependencyGraph,
    path: Vec<usize>,
    done: Vec<bool>,
    cycles: Vec<Vec<usize>>,
}

impl Search<'_> {
    fn walk(&mut self, step: usize) {
        if let Some(seen) = self.path.iter().position(|&on| on == step) {
            self.cycles.push(self.path[seen..].to_vec());
            return;
        }
        if self.done[step] {
            return;
        }
        self.path.push(step);
        for to in self.graph.of(step) {
            self.walk(to);
        }
        self.path.pop();
        self.done[step] = true;
    }
}

fn report_cycle(
    cycle: &[usize],
    fields: &[Field<'_>],
    graph: &DependencyGraph,
    errors: &mut Errors,
) {
    let first = (0..cycle.len())
        .min_by_key(|&position| cycle[position])
        .unwrap_or_default();
    let mut names: Vec<&str> = cycle
        .iter()
        .map(|&step| fields[step].name.as_str())
        .collect();
    names.rotate_left(first);
    names.push(names[0]);
    let (from, to) = (cycle[first], cycle[(first + 1) % cycle.len()]);
    let span = graph.edges[from]
        .iter()
        .find(|edge| edge.to == to)
        .map_or_else(Span::call_site, |edge| edge.span);
    errors.push(
        span,
        format!(
            "these steps wait for each other, so none can begin: {}",
            names.join(" → ")
        ),
        "remove one of these `after`; each arrow reads \"waits for\"",
    );
}
