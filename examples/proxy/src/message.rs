//! HTTP messages by themselves: which are refused, and which fields are passed on.

pub mod fault;
pub mod headers;
pub mod request;
pub mod response;
pub mod trailers;
