//! `leaf` makes the plan of a recursive type finite.

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown};

/// A box whose cleanup also boxes the inner future. Otherwise the type of that future would contain itself.
struct Child<T>(Option<Box<T>>);

impl<T: Component> Component for Child<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        match &mut self.0 {
            Some(child) => {
                let cleanup: std::pin::Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(child.cleanup(cx));
                cleanup.await
            }
            None => Ok(()),
        }
    }
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Node {
    #[shutdown(leaf)]
    next: Child<Node>,
    name: String,
}

fn main() {
    assert!(Node::PLAN.steps()[0].nested().is_none());
}
