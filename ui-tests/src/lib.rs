//! What users of the derive see.
//!
//! The cases that compile or do not are in `pass/` and `fail/`, where `tests/ui.rs` finds them; `expand/` holds what the
//! derive writes. The one that must please every lint is a module here, so that clippy sees it.

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
