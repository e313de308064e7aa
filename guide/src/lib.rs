//! Runs the examples of the included pages as doc tests.

/// Includes a page for its examples.
#[cfg(doctest)]
macro_rules! page {
    ($name:ident, $path:literal) => {
        #[doc = include_str!($path)]
        mod $name {}
    };
}

#[cfg(doctest)]
mod pages {
    page!(readme, "../../README.md");
    page!(readme_runtime, "../../lifecycle-runtime/README.md");
    page!(readme_http, "../../lifecycle-http/README.md");
    page!(first_server, "../../lifecycle-runtime/src/guide/first_server.md");
    page!(order_and_deadlines, "../../lifecycle-runtime/src/guide/order_and_deadlines.md");
    page!(tasks, "../../lifecycle-runtime/src/guide/tasks.md");
    page!(http, "../../lifecycle-runtime/src/guide/http.md");
    page!(testing, "../../lifecycle-runtime/src/guide/testing.md");
    page!(deployment, "../../lifecycle-runtime/src/guide/deployment.md");
    page!(logs_and_spans, "../../lifecycle-runtime/src/guide/logs_and_spans.md");
    page!(migrating, "../../lifecycle-runtime/src/guide/migrating.md");
    page!(common_errors, "../../lifecycle-runtime/src/guide/common_errors.md");
}
