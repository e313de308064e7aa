//! How a step ended.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::reason::Chain;

/// How a step ended.
///
/// Why a step was skipped or aborted is said by [`Step::why`](crate::Step::why).
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "kind", rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Outcome {
    /// The cleanup ran to its end and returned no error.
    Done,
    /// The cleanup returned an error.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::data::error"))]
    Failed(Arc<dyn Error + Send + Sync>),
    /// The cleanup panicked, with this message.
    #[cfg_attr(feature = "serde", serde(serialize_with = "super::data::message"))]
    Panicked(String),
    /// The cleanup began and met its deadline.
    TimedOut {
        /// What it said it was waiting for.
        waiting_for: Option<String>,
    },
    /// The cleanup began and was cut before its deadline: by a forced end, a hurry, or the loss of what it was cleaning.
    Aborted,
    /// The cleanup never began: a `required` step before it failed, or there was nothing to clean.
    Skipped,
}

impl Outcome {
    /// Returns whether it is [`Outcome::Done`].
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// The word for it in tables and logs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::TimedOut { .. } => "timed out",
            Self::Aborted => "aborted",
            Self::Skipped => "skipped",
        }
    }

    /// What there is to say beyond the word.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Failed(error) => Some(Chain(&**error).to_string()),
            Self::Panicked(message) => Some(message.clone()),
            Self::TimedOut { waiting_for } => waiting_for
                .as_ref()
                .map(|what| format!("waiting for {what}")),
            Self::Done | Self::Aborted | Self::Skipped => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self.detail() {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// The error of a cleanup that ran out of time and ended what was left by itself.
///
/// A component that aborts its stragglers at the soft [deadline](crate::Context::deadline) returns it, so that its step is
/// [`Outcome::TimedOut`] and not merely failed.
///
/// ```
/// use lifecycle_runtime::{BoxError, TimedOut};
///
/// let error: BoxError = TimedOut::new("task 12").into();
/// assert_eq!(error.to_string(), "timed out waiting for task 12");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimedOut {
    waiting_for: String,
}

impl TimedOut {
    /// Names what did not end in time.
    pub fn new(waiting_for: impl Into<String>) -> Self {
        Self {
            waiting_for: waiting_for.into(),
        }
    }

    #[cfg(feature = "rt")]
    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome::TimedOut {
            waiting_for: Some(self.waiting_for),
        }
    }
}

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timed out waiting for {}", self.waiting_for)
    }
}

impl Error for TimedOut {}
