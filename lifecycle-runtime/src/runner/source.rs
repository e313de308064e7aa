//! The two sources of a runner's server: an existing server, or a function that builds it. Neither type can be named
//! outside the crate.

use std::fmt;
use std::marker::PhantomData;

use super::failed_start::FailedStart;
use super::stop::Stop;
use crate::BoxError;

/// A server, or on failure the error and the parts that were built, if the error holds them.
pub(super) type Built<S> = Result<S, (Option<S>, BoxError)>;

/// A source from which a runner gets its server.
pub trait Source<S> {
    /// Whether the server must be built first, which takes time.
    const STARTS: bool;

    /// Returns the server.
    #[allow(async_fn_in_trait)] // Its module is private; a runner's future is polled where it is.
    async fn server(self, stop: Stop) -> Built<S>;
}

/// A server that exists already.
#[derive(Debug)]
pub struct Given<S>(pub(super) S);

impl<S> Source<S> for Given<S> {
    const STARTS: bool = false;

    async fn server(self, _: Stop) -> Built<S> {
        Ok(self.0)
    }
}

/// A function that builds the server.
pub struct Start<F, E>(pub(super) F, pub(super) PhantomData<fn() -> E>);

impl<S, F, E> Source<S> for Start<F, E>
where
    S: 'static,
    F: AsyncFnOnce(Stop) -> Result<S, E>,
    E: Into<BoxError>,
{
    const STARTS: bool = true;

    async fn server(self, stop: Stop) -> Built<S> {
        let built = (self.0)(stop).await;
        built.map_err(|error| match error.into().downcast() {
            Ok(failed) => FailedStart::into_parts(*failed),
            Err(error) => (None, error),
        })
    }
}

impl<F, E> fmt::Debug for Start<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Start(..)")
    }
}
