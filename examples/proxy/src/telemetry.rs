//! Records of what happens: the log, the traffic tape, the audit trail.

pub mod audit;
pub mod logging;
pub mod recorder;
pub mod timestamp;
