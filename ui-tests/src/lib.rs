//! Nothing of its own: the cases are in `fail/`, `pass/` and `expand/`, and `tests/ui.rs` runs them.
