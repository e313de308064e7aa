//! Components of std, tokio and tokio-util.
//!
//! The table of what each does stands where users look for it, at [`Component`](crate::Component#implementations).
//! All of it is there whenever `rt` is: a forgotten field of these types is an error, which cannot hang on a feature that
//! another crate turns on. A type that is added here later is not marked [`MustClean`](crate::MustClean): code that had
//! a field of it compiled before, and goes on compiling, with a warning.
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
