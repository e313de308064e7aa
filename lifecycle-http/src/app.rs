//! The trait bounds of services and of response bodies, each under one name.

use http::{Request, Response};
use http_body::Body;
use lifecycle_runtime::BoxError;
use tower_service::Service;

use crate::RequestBody;

/// A service that [`HttpBuilder::serve`](crate::HttpBuilder::serve) takes.
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
