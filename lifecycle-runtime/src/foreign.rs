//! Components of std, tokio and tokio-util.
