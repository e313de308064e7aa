//! Generated code names every item by its path, so it needs no prelude.
#![no_implicit_prelude]

#[derive(::lifecycle_runtime::GracefulShutdown)]
#[shutdown(part, timeout = "3s")]
struct Part<T: ::core::marker::Send> {
    #[shutdown(with = |value| value.close(), timeout = self.limit, at_most = "1s")]
    value: ::core::option::Option<Value>,
    limit: ::core::time::Duration,
    rest: ::std::vec::Vec<T>,
}

struct Value;

impl Value {
    fn close(&mut self) {}
}

#[derive(::lifecycle_runtime::GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    part: Part<u8>,
    #[shutdown(priority = 1, with = Value::close, abort = Value::close)]
    value: Value,
    #[shutdown(priority = 1, with = Value::close, blocking)]
    blocking: ::core::option::Option<Value>,
    #[shutdown(after = value, with = |value| ::core::mem::drop(value), take)]
    taken: ::core::option::Option<Value>,
    #[shutdown(after(value, taken))]
    either: Either,
    #[shutdown(state)]
    state: ::lifecycle_runtime::ShutdownState,
}

#[derive(::lifecycle_runtime::GracefulShutdown)]
enum Either {
    Live {
        #[shutdown(with = |value, _cx| value.close())]
        value: Value,
    },
    Gone,
}

fn main() {}
