//! The trait bounds of services and of response bodies, each under one name, and how a connection gets its service.

use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use lifecycle_runtime::BoxError;

use crate::{HttpConnection, RequestBody};

/// A service of a server.
pub(crate) trait App<B>:
    Service<Request<RequestBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
    + Send
    + 'static
{
}

impl<S, B> App<B> for S where
    S: Service<Request<RequestBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Send
        + 'static
{
}

/// A body of the responses of an [`App`].
pub(crate) trait AppBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

impl<B> AppBody for B where B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

/// A maker of services, one for each connection.
pub(crate) trait MakeApp<B>: Clone + Send + 'static {
    type App: App<B>;

    /// Whether the extensions of a request contain its connection. Otherwise the service got the connection when it was
    /// made.
    const SHOWS_CONNECTION: bool;

    fn make(self, connection: &HttpConnection) -> Result<Self::App, BoxError>;
}

/// A maker that gives each connection a clone of the same service.
#[derive(Clone)]
pub(crate) struct Shared<S>(pub(crate) S);

impl<S: App<B> + Clone, B> MakeApp<B> for Shared<S> {
    type App = S;

    const SHOWS_CONNECTION: bool = true;

    fn make(self, _: &HttpConnection) -> Result<S, BoxError> {
        Ok(self.0)
    }
}

/// A maker that calls a function of the user for each connection.
pub(crate) struct Each<F>(pub(crate) Arc<F>);

impl<F> Clone for Each<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F, S, E, B> MakeApp<B> for Each<F>
where
    F: Fn(&HttpConnection) -> Result<S, E> + Send + Sync + 'static,
    S: App<B>,
    E: Into<BoxError>,
{
    type App = S;

    const SHOWS_CONNECTION: bool = false;

    fn make(self, connection: &HttpConnection) -> Result<S, BoxError> {
        (self.0)(connection).map_err(Into::into)
    }
}
