//! Components of std, tokio and tokio-util.
//!
//! The table of what each does stands where users look for it, at [`Component`](crate::Component#implementations).
//! All of it is there whenever `rt` is: a type that becomes a component makes every field of that type, in every
//! crate downstream, a step that must not be forgotten, so it cannot hang on a feature that somebody else turns on.
//!
//! | file | types |
//! |---|---|
//! | `tasks` | `JoinHandle`, `JoinSet`, `CancellationToken`, `TaskTracker` |
//! | `process` | `Child` |
//! | `file` | `File` |
//! | `containers` | slices, arrays, `Vec`, `VecDeque`, `HashMap`, `BTreeMap` |
//! | `tuples` | tuples of up to twelve |
//! | `wrappers` | `Option`, `Box`, `Arc` |
//! | `locks` | `Mutex` and `RwLock` of std and tokio |
//!
//! Wrappers and owned locks are transparent: plan, rows and panics are those of what is inside.

mod containers;
mod file;
mod locks;
mod process;
mod tasks;
mod tuples;
mod until;
mod wrappers;
