//! The engine: runs the steps of a plan as a graph, within its deadlines, and survives them all.
//!
//! Invariants, cited by number where they are kept:
//!
//! 1. A step is first polled once every step it depends on has ended, never before.
//! 2. Every step that is run is polled at least once, however late it is.
//! 3. What is inside is polled before a deadline is looked at, so a nested plan cuts its own steps
//!    and tells of them before its parent cuts it.
//! 4. A step ends exactly once. Its future is gone before its `abort` runs, and both before what
//!    depends on it starts.
//! 5. Nothing a component does unwinds out of the engine: polling, dropping, aborting, describing.
//! 6. No lock is held while code of a component runs.

mod contain;
mod each;
mod join;
mod live;
mod pulse;
mod run;
mod step;
mod timer;
mod times;

#[cfg(feature = "state-file")]
pub(crate) use contain::message_of;
pub(crate) use contain::{contain, message};
pub(crate) use join::{Join, StepFuture};
pub(crate) use live::{Ended, Live, OpenStep, Origin};
pub(crate) use pulse::Pulse;
pub(crate) use step::component;
pub(crate) use timer::Timer;
pub(crate) use times::Times;

pub use join::join_pinned;
pub use live::Seat;
pub use run::Run;
pub use step::{Ending, StepRun};
pub use times::SetTime;
