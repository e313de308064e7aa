//! Checks and changes of HTTP messages: the messages that are refused, and the fields that are
//! passed on.

pub mod backlog;
pub mod fault;
pub mod headers;
pub mod request;
pub mod response;
pub mod trailers;
