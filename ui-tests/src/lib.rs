//! Tests of the derive as its users see it.
//!
//! `tests/ui.rs` compiles the cases in `pass/` and `fail/`, and compares the errors of the cases in `fail/`. `expand/`
//! holds generated code. The code that must pass every lint is a module of this crate, so that clippy checks it.

#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    unused_lifetimes,
    unused_results,
    single_use_lifetimes,
    redundant_lifetimes,
    explicit_outlives_requirements,
    trivial_casts,
    trivial_numeric_casts,
    missing_debug_implementations,
    variant_size_differences,
    future_incompatible,
    non_ascii_idents,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic
)]

pub mod lint_clean;
