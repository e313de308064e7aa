//! Generic types may have bounds, where-clauses, defaults, lifetimes, constants and associated types.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

struct Leaf;

impl Component for Leaf {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

trait Close: Send + Sync {
    type Connection: Send;
    fn close(&self);
}

impl Close for u8 {
    type Connection = Leaf;
    fn close(&self) {}
}

/// An owner with the bounds that its `Drop` and its steps need.
#[derive(GracefulShutdown)]
struct Owner<T: Component, U = u8>
where
    U: Close + Debug,
{
    #[shutdown(priority = 0)]
    inner: T,
    #[shutdown(priority = 1, with = |value| value.close())]
    value: U,
    #[shutdown(priority = 1, with = |shared| shared.close())]
    shared: Arc<U>,
    #[shutdown(skip)]
    connections: Vec<U::Connection>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A part that is a component if the types of its fields are components.
#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part<T, U: Close> {
    #[shutdown]
    inner: T,
    #[shutdown]
    connection: U::Connection,
    plain: PhantomData<U>,
}

#[derive(GracefulShutdown)]
#[shutdown(no_drop)]
struct Movable<T> {
    #[shutdown]
    inner: T,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
enum Either<A, B> {
    Left(#[shutdown] A),
    Right {
        #[shutdown]
        value: B,
    },
}

#[derive(GracefulShutdown)]
struct Constant<const N: usize> {
    #[shutdown(with = |numbers| numbers.fill(0))]
    numbers: [u8; N],
    text: [char; N],
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
struct Borrowed<'a, 'b: 'a, T: ?Sized + Sync> {
    #[shutdown(with = |text| drop(text))]
    text: &'a mut String,
    #[shutdown(with = |value| drop(value))]
    value: &'b T,
    name: &'static str,
    list: Vec<&'a u8>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Lives<'a> {
    #[shutdown(with = |text| text.clear(), timeout = "1s")]
    text: &'a mut String,
}

fn component<T: Component>() {}
fn owner<T: GracefulShutdown>() {}

fn main() {
    owner::<Owner<Leaf>>();
    owner::<Owner<Part<Leaf, u8>, u8>>();
    owner::<Movable<Leaf>>();
    component::<Part<Leaf, u8>>();
    component::<Either<Leaf, Part<Leaf, u8>>>();
    owner::<Constant<4>>();
    owner::<Borrowed<'_, '_, str>>();
    component::<Lives<'_>>();
}
