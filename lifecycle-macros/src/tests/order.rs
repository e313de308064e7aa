//! Tests of the order that the derive computes from priorities and `after`.

use super::{derive, mistakes};

/// Returns the steps of the plan as `name:priority<-[positions of the steps it waits for]`.
fn plan(fields: &str) -> String {
    let source = format!("#[shutdown(part)] struct Part {{ {fields} }}");
    assert_eq!(mistakes(&source), Vec::<String>::new());
    let output = derive(&source).to_string().replace(' ', "");
    let steps = output.split("PlanStep::__of(").skip(1).map(|step| {
        let [name, priority, after, ..] = *step.split(',').collect::<Vec<_>>() else {
            panic!("a step has a name, a priority and a set of steps to wait for: {step}");
        };
        // The generated number has one bit for each step.
        let bits: u128 = after.parse().expect("a number");
        let after: Vec<_> = (0..128)
            .filter(|place| bits >> place & 1 != 0)
            .map(|place| place.to_string())
            .collect();
        let name = name.replace('"', "");
        format!("{name}:{priority}<-[{}]", after.join(","))
    });
    steps.collect::<Vec<_>>().join(" ")
}

#[test]
fn without_priority_and_after_steps_run_in_declaration_order() {
    let fields = "#[shutdown(with = f)] a: u8, plain: u8, #[shutdown(with = f)] b: u8, #[shutdown(with = f)] c: u8";
    assert_eq!(plan(fields), "a:0<-[] b:1<-[0] c:2<-[1]");
}

#[test]
fn lower_priorities_come_first_and_equal_ones_run_together() {
    let fields = "#[shutdown(priority = 9, with = f)] a: u8, #[shutdown(priority = -1, with = f)] b: u8,
                  #[shutdown(priority = 9, with = f)] c: u8, #[shutdown(priority = 0, with = f)] d: u8";
    assert_eq!(plan(fields), "b:-1<-[] d:0<-[0] a:9<-[1] c:9<-[1]");
}

#[test]
fn a_step_with_after_alone_takes_the_greatest_priority_it_names() {
    let fields = "#[shutdown(after(b, c), with = f)] a: u8, #[shutdown(priority = 1, with = f)] b: u8,
                  #[shutdown(priority = 5, with = f)] c: u8, #[shutdown(after = a, with = f)] d: u8";
    assert_eq!(plan(fields), "b:1<-[] c:5<-[0] a:5<-[1] d:5<-[2]");
}

#[test]
fn a_bare_step_waits_for_nothing_where_no_step_has_a_priority() {
    let fields = "#[shutdown(after(b, c), with = f)] a: u8, #[shutdown(with = f)] b: u8,
                  #[shutdown(after = b, with = f)] c: u8, #[shutdown(with = f)] alone: u8";
    assert_eq!(plan(fields), "b:0<-[] c:0<-[0] a:0<-[1] alone:0<-[]");
}

#[test]
fn a_bare_step_beside_priorities_is_refused() {
    let found = mistakes(
        "#[shutdown(part)] struct Part {
            #[shutdown(priority = 1)] a: u8,
            #[shutdown(after = a)] b: u8,
            #[shutdown] bare: u8,
        }",
    );
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("`bare` has no place"), "{found:#?}");
}

#[test]
fn a_priority_waits_for_the_last_steps_of_the_one_before() {
    let fields = "#[shutdown(priority = 1, with = f)] a: u8, #[shutdown(after = a, with = f)] b: u8,
                  #[shutdown(priority = 1, with = f)] c: u8, #[shutdown(priority = 2, with = f)] d: u8";
    assert_eq!(plan(fields), "a:1<-[] b:1<-[0] c:1<-[] d:2<-[1,2]");
}

#[test]
fn a_dependency_that_follows_from_another_is_left_out() {
    let fields =
        "#[shutdown(priority = 1, with = f)] a: u8, #[shutdown(after = a, with = f)] b: u8,
                  #[shutdown(after(a, b), with = f)] c: u8";
    assert_eq!(plan(fields), "a:1<-[] b:1<-[0] c:1<-[1]");
}

#[test]
fn a_cycle_is_printed_whole_and_once() {
    let found = mistakes(
        "#[shutdown(part)] struct Part {
            #[shutdown(after = recorder)] pool: u8,
            #[shutdown(after = pool)] recorder: u8,
            #[shutdown(after = pool)] outside: u8,
        }",
    );
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("pool → recorder → pool"), "{found:#?}");
}
