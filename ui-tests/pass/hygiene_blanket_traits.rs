//! Generated code never calls methods of the user's blanket traits.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

trait Everything: Sized {
    fn as_mut(self) {}
    fn step(self, _: usize) {}
    fn run(self, _: u8) {}
    fn end(self) {}
    fn cx(self) {}
    fn join(self) {}
    fn component(self) {}
    fn map(self) {}
    fn take(self) {}
    fn open(self) {}
    fn abort(self) {}
    fn release(self) {}
    fn cleanup(self) {}
    fn plan(self) {}
    fn into(self) {}
    fn drop(self) {}
    fn resolve(self) {}
}

impl<T> Everything for T {}

struct Value;

impl Value {
    fn close(&mut self) {}
    fn finish(self) {}
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    part: Part,
    #[shutdown(with = Value::close, abort = |value| value.close(), timeout = self.limit, at_most = "1s")]
    value: Option<Value>,
    #[shutdown(with = Value::finish, take, blocking)]
    taken: Option<Value>,
    limit: std::time::Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
enum Part {
    Live(#[shutdown(with = Value::close)] Value),
    Gone,
}

fn main() {}
