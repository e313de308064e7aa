//! Interim responses (1xx) from an upstream to a client (RFC 9110 §15.2). Over HTTP/2 they are not
//! passed on.

use hyper::header::CONTENT_LENGTH;
use hyper::{Request, StatusCode, Version, ext};
use lifecycle_http::HttpConnection;

use crate::message::headers;

/// Passes interim responses to `request` on to the client of `connection`, if the client speaks
/// HTTP/1.1.
///
/// A status 100 is not passed on, since hyper sends a status 100 to the client itself when the
/// proxy reads the body.
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
            // Removed, since an interim response has no content.
            fields.remove(CONTENT_LENGTH);
            connection.send_interim(status, &fields);
        }
    });
}
