//! The names of fields may be keywords. Reports and `after` use these names without `r#`.
#![allow(non_camel_case_types)]

use std::time::Duration;

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
struct r#struct {
    #[shutdown(priority = 0, with = close, timeout = self.r#const)]
    r#type: u8,
    #[shutdown(after = r#type, with = |value| *value += self.r#else)]
    r#match: u8,
    #[shutdown(after(type, match), with = close)]
    r#async: u8,
    r#const: Duration,
    r#else: u8,
    #[shutdown(state)]
    r#impl: ShutdownState,
}

#[derive(GracefulShutdown)]
enum r#enum {
    r#Try {
        #[shutdown(with = close)]
        r#fn: u8,
    },
}

fn main() {
    assert_eq!(r#struct::PLAN.name(), "struct");
    let names: Vec<_> = r#struct::PLAN.steps().iter().map(|step| step.name()).collect();
    assert_eq!(names, ["type", "match", "async"]);
    assert_eq!(r#enum::PLAN.steps()[0].name(), "Try");
}
