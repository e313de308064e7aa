//! The user's names may shadow those of the prelude and of primitive types.
#![allow(non_camel_case_types, dead_code)]

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

struct Result;
struct Future;
struct Option<T>(T);
struct Pin;
struct Vec;
struct Box;
struct str;
struct u64;
struct usize;
struct bool;
struct Component;
struct Duration;
trait Send {}
trait Drop {}
trait FnMut {}
trait Sized {}
trait Into {}
mod core {}
mod std {}
mod alloc {}
mod lifecycle_runtime_private {}

macro_rules! vec {
    () => {
        compile_error!("not this one")
    };
}
macro_rules! panic {
    () => {
        compile_error!("not this one")
    };
}
macro_rules! assert {
    () => {
        compile_error!("not this one")
    };
}

fn Some() {}
fn None() {}
fn Ok() {}
fn Err() {}

struct Value;

impl Value {
    fn close(&mut self) {}
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part {
    #[shutdown(with = Value::close, timeout = self.limit)]
    value: Value,
    limit: ::std::time::Duration,
}

#[derive(GracefulShutdown)]
enum Either {
    Live(#[shutdown(with = Value::close)] Value),
    Gone,
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    part: Part,
    #[shutdown(with = Value::close)]
    value: Value,
    #[shutdown]
    either: Either,
    plain: Result,
    number: u64,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}
