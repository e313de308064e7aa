//! Components for types of std, tokio and tokio-util.
//!
//! Users find the table of each type's cleanup at [`Component`](crate::Component#implementations). All these components
//! come with the feature `rt`: a forgotten field of such a type is an error, and an error must not depend on a feature
//! that another crate turns on. A type that is added here later must not be marked [`MustClean`](crate::MustClean):
//! code with a field of that type compiled before, and must still compile, with a warning.
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
//! Wrappers and owned locks are transparent: they have the plan, the rows and the panics of the value inside them.

mod containers;
mod file;
mod locks;
mod process;
mod tasks;
mod tuples;
pub(crate) mod until;
mod wrappers;
