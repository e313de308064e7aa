//! What is served, under one name.

use http::{Request, Response};
use http_body::Body;
use lifecycle_runtime::BoxError;
use tower_service::Service;

use crate::RequestBody;

/// What [`HttpBuilder::serve`](crate::HttpBuilder::serve) asks of a service.
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

/// What it asks of the bodies of its responses.
pub(crate) trait AppBody: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}

impl<B> AppBody for B where B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static {}
