//! The ways in which a step can end.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::reason::Chain;

/// The way in which a step ended.
///
/// [`Step::why`](crate::Step::why) returns the reason why a step was skipped or aborted.
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
    /// The cleanup began, and did not end before its deadline.
    TimedOut {
        /// The description of the wait, from [`Context::waiting_for`](crate::Context::waiting_for).
        waiting_for: Option<String>,
    },
    /// The cleanup began and was cut before its deadline, by a forced end, a hurry, or the loss of the value that it
    /// was cleaning.
    Aborted,
    /// The cleanup never began, because a `required` step before it failed or there was nothing to clean.
    Skipped,
}

impl Outcome {
    /// Returns whether the outcome is [`Outcome::Done`].
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Returns the outcome as one word, for tables and logs.
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

    /// Returns the text of the error, of the panic or of the wait that led to the outcome. `None` if there is none.
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

/// The error of a cleanup that ran out of time and itself ended the work that was still running.
///
/// A component returns this error after it aborted the work that still ran at the soft
/// [deadline](crate::Context::deadline). Its step then becomes [`Outcome::TimedOut`] and not merely failed.
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
    /// Creates the error. `waiting_for` names the work that did not end in time.
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
