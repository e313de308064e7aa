//! A field whose type depends on parameters needs no attribute unless the bounds make it a component.

use std::marker::PhantomData;
use std::sync::Arc;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

trait Tagged: Send {
    type Tag: Send;
}

#[derive(GracefulShutdown)]
struct Server<'a, T: Tagged + Sync + 'a, F, const N: usize>
where
    F: Fn(&T) -> T::Tag + Send,
{
    #[shutdown(with = close)]
    value: u8,
    one: T,
    list: Vec<T>,
    reference: &'a T,
    maybe: Option<Arc<T>>,
    tag: T::Tag,
    full: <T as Tagged>::Tag,
    function: F,
    pointer: fn(T) -> &'a str,
    phantom: PhantomData<(T, F)>,
    array: [u8; N],
    text: &'a str,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}
