//! What an upstream's response must be like to be passed on (RFC 9112 §6).

use hyper::Response;
use hyper::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};

use crate::message::fault::Fault;
use crate::message::headers::list_members;

/// Checks that a response's body is what its receiver will take it for.
///
/// hyper undoes `chunked` and no other coding: bytes in one would be passed on as if
/// they were the content. And of a length beside a coding, or of two lengths, two
/// servers can take a different one.
///
/// # Errors
///
/// [`Fault::Coding`] or [`Fault::BadResponse`].
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

/// A list of the same number is no number, though some read it as one.
fn is_number(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    length.is_some_and(|length| length.as_bytes().iter().all(u8::is_ascii_digit))
}
