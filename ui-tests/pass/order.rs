//! Steps may have priorities, `after`, both or neither.

use lifecycle_runtime::{Component, GracefulShutdown, Plan};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Declared {
    #[shutdown(with = close)]
    a: u8,
    #[shutdown(with = close)]
    b: u8,
    #[shutdown(with = close)]
    c: u8,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Priorities {
    #[shutdown(priority = 10, with = close)]
    late: u8,
    #[shutdown(priority = -1, with = close)]
    early: u8,
    #[shutdown(priority = -1, with = close)]
    beside: u8,
    #[shutdown(priority = 2147483647, with = close)]
    last: u8,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Named {
    #[shutdown(after(b, c), with = close)]
    d: u8,
    #[shutdown(after = a, with = close)]
    b: u8,
    #[shutdown(priority = 1, with = close)]
    a: u8,
    #[shutdown(after = b, priority = 2, with = close)]
    c: u8,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Graph {
    #[shutdown(after(pool, recorder), with = close)]
    config: u8,
    #[shutdown(with = close)]
    listener: u8,
    #[shutdown(after = listener, with = close)]
    pool: u8,
    #[shutdown(after = listener, with = close)]
    recorder: u8,
    #[shutdown(with = close)]
    alone: u8,
}

fn edges(plan: Plan) -> Vec<(&'static str, i32, Vec<&'static str>)> {
    let name = |step: usize| plan.steps()[step].name();
    plan.steps().iter().map(|step| (step.name(), step.priority(), step.after().map(name).collect())).collect()
}

fn main() {
    assert_eq!(edges(Declared::PLAN), [("a", 0, vec![]), ("b", 1, vec!["a"]), ("c", 2, vec!["b"])]);
    assert_eq!(
        edges(Priorities::PLAN),
        [
            ("early", -1, vec![]),
            ("beside", -1, vec![]),
            ("late", 10, vec!["early", "beside"]),
            ("last", i32::MAX, vec!["late"]),
        ]
    );
    assert_eq!(
        edges(Named::PLAN),
        [("a", 1, vec![]), ("b", 1, vec!["a"]), ("c", 2, vec!["b"]), ("d", 2, vec!["c"])]
    );
    assert_eq!(
        edges(Graph::PLAN),
        [
            ("listener", 0, vec![]),
            ("pool", 0, vec!["listener"]),
            ("recorder", 0, vec!["listener"]),
            ("config", 0, vec!["pool", "recorder"]),
            ("alone", 0, vec![]),
        ]
    );
}
