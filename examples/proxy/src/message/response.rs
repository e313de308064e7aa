//! The check whether an upstream's response may be passed on (RFC 9112 §6).

use hyper::Response;
use hyper::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};

use crate::message::fault::Fault;
use crate::message::headers::list_members;

/// Checks that the client and the proxy will read the same body from a response.
///
/// hyper decodes `chunked` and no other coding, so the bytes of another coding would be passed on
/// as if they were the content. If a response has a length beside a coding, or two lengths, servers
/// disagree about the length that counts.
///
/// # Errors
///
/// [`Fault::Coding`] for an unknown coding, [`Fault::BadResponse`] for an ambiguous length.
pub fn check_framing<B>(response: &Response<B>) -> Result<(), Fault> {
    let headers = response.headers();
    let lengths = headers.get_all(CONTENT_LENGTH).into_iter().count();
    if !headers.contains_key(TRANSFER_ENCODING) {
        return match lengths {
            0 => Ok(()),
            1 if is_number(headers) => Ok(()),
            _ => Err(Fault::BadResponse),
        };
    }
    if lengths > 0 {
        return Err(Fault::BadResponse);
    }
    let mut codings = list_members(headers, &TRANSFER_ENCODING);
    let chunked = codings
        .next()
        .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    if chunked && codings.next().is_none() {
        Ok(())
    } else {
        Err(Fault::Coding)
    }
}

/// Returns whether the length is a single number. Some servers also accept a list that repeats one
/// number.
fn is_number(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    length.is_some_and(|length| length.as_bytes().iter().all(u8::is_ascii_digit))
}
