//! The guide: from a first server to its deployment, a page for each question.
//!
//! | page | question |
//! |---|---|
//! | [`first_server`] | What do I write, and what happens when the process is told to stop? |
//! | [`order_and_deadlines`] | When does a step begin, and when is it cut? |
//! | [`tasks`] | How do background tasks end, and how are they restarted? |
//! | [`http`] | How does an HTTP server drain? |
//! | [`testing`] | How do I test my own shutdown? |
//! | [`deployment`] | How do I configure Kubernetes and systemd? |
//! | [`logs_and_spans`] | What is logged, and what can alerts rely on? |
//! | [`migrating`] | What changes if I have a shutdown already? |
//! | [`common_errors`] | What does this message mean? |
//! | [`how_it_works`] | What happens between the derive and the report? |
//!
//! The keys of `#[shutdown(…)]` are listed at [`derive@crate::GracefulShutdown`].
//!
//! These modules contain only text. The crate `guide` of the repository compiles and runs the examples.

#[doc = include_str!("guide/first_server.md")]
pub mod first_server {}

#[doc = include_str!("guide/order_and_deadlines.md")]
pub mod order_and_deadlines {}

#[doc = include_str!("guide/tasks.md")]
pub mod tasks {}

#[doc = include_str!("guide/http.md")]
pub mod http {}

// Without the feature `testing`, the targets of the page's links do not exist.
#[cfg_attr(not(feature = "testing"), allow(rustdoc::broken_intra_doc_links))]
#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/deployment.md")]
pub mod deployment {}

#[doc = include_str!("guide/logs_and_spans.md")]
pub mod logs_and_spans {}

#[doc = include_str!("guide/migrating.md")]
pub mod migrating {}

#[doc = include_str!("guide/common_errors.md")]
pub mod common_errors {}

#[doc = include_str!("guide/how_it_works.md")]
pub mod how_it_works {}
