//! Interim responses (1xx) of an upstream on their way to a client (RFC 9110 §15.2). Over HTTP/2 they are not passed on.

use hyper::header::CONTENT_LENGTH;
use hyper::{Request, StatusCode, Version, ext};
use lifecycle_http::HttpConnection;

use crate::message::headers;

/// Makes the interim responses to `request` pass on to the client of `connection`, if the client takes them.
///
/// A 100 is this proxy's own to say: hyper does so when the body is wanted. A client
/// over HTTP/1.0 takes none.
pub fn pass_on<B>(request: &mut Request<B>, connection: &HttpConnection) {
    if request.version() != Version::HTTP_11 {
        return;
    }
    let connection = connection.clone();
    ext::on_informational(request, move |response| {
        let status = response.status();
        if status != StatusCode::CONTINUE {
            let mut fields = response.headers().clone();
            headers::for_client(&mut fields, response.version());
            // There is no content.
            fields.remove(CONTENT_LENGTH);
            connection.send_interim(status, &fields);
        }
    });
}
