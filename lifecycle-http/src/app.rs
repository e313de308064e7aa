//! The trait bounds of services and of response bodies, each under one name.

use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use lifecycle_runtime::BoxError;

use crate::RequestBody;

/// A service of a server. Each connection has a clone of its own.
pub(crate) trait App<B>:
    Service<Request<RequestBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S, B> App<B> for S where
    S: Service<Request<RequestBody>, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// A body of the responses of an [`App`].
pub(crate) trait AppBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

impl<B> AppBody for B where B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}
