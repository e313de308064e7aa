//! The reasons for which a shutdown begins.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The reason why a shutdown began. The first request gives the reason; later requests do not change it.
///
/// ```
/// use lifecycle_runtime::{Reason, Signal};
///
/// assert_eq!(Reason::Requested.to_string(), "requested");
/// assert_eq!(Reason::Signal(Signal::TERMINATE).to_string(), "SIGTERM");
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Reason {
    /// Code of the server, or a client of it, requested the shutdown.
    #[default]
    Requested,
    /// The process received a signal.
    Signal(Signal),
    /// Main returned without an error, before any other reason.
    MainEnded,
    /// Main returned an error.
    MainFailed(Arc<dyn Error + Send + Sync>),
    /// Main panicked, with this message.
    MainPanicked(Arc<str>),
    /// A task of a critical group ended with an error or a panic. The fields are the task's name and the error.
    TaskFailed(Arc<str>, Arc<dyn Error + Send + Sync>),
    /// The server could not be built.
    StartFailed(Arc<dyn Error + Send + Sync>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("requested"),
            Self::Signal(signal) => signal.fmt(f),
            Self::MainEnded => f.write_str("main ended"),
            Self::MainFailed(error) => {
                write!(f, "main failed: {}", Chain(&**error))
            }
            Self::MainPanicked(message) => write!(f, "main panicked: {message}"),
            Self::TaskFailed(name, error) => write!(f, "{name} failed: {}", Chain(&**error)),
            Self::StartFailed(error) => {
                write!(f, "the start failed: {}", Chain(&**error))
            }
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Reason {
    /// Serializes the reason as its text.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A signal, by its number (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// SIGHUP, number 1.
    pub const HANGUP: Self = Self(1);
    /// SIGINT, number 2: Ctrl-C at a terminal.
    pub const INTERRUPT: Self = Self(2);
    /// SIGQUIT, number 3.
    pub const QUIT: Self = Self(3);
    /// SIGTERM, number 15. With this signal systemd and Kubernetes ask a process to end.
    pub const TERMINATE: Self = Self(15);

    /// Creates the signal with this number.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Returns the number of the signal.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// Returns the exit code that shells show for a process ended by this signal: 128 plus the number.
    pub(crate) fn exit_code(self) -> u8 {
        u8::try_from(128_i32.saturating_add(self.0)).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::HANGUP => f.write_str("SIGHUP"),
            Self::INTERRUPT => f.write_str("SIGINT"),
            Self::QUIT => f.write_str("SIGQUIT"),
            Self::TERMINATE => f.write_str("SIGTERM"),
            Self(number) => write!(f, "signal {number}"),
        }
    }
}

/// The cause of a forced end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Force {
    /// A repeated signal forced the end.
    Signal(Signal),
    /// The watchdog forced the end, since the process lived longer than its longest possible shutdown.
    Watchdog,
}

impl Force {
    /// Returns the exit code of the forced end: 128 plus the signal's number, as shells show it, or 70 for the watchdog
    /// (`EX_SOFTWARE` of sysexits.h).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Signal(signal) => signal.exit_code(),
            Self::Watchdog => 70,
        }
    }

    /// Encodes the cause as one number, which is stored in an atomic. The number 0 means that the end was not forced.
    #[cfg(feature = "rt")]
    pub(crate) fn as_raw(self) -> i32 {
        match self {
            Self::Signal(signal) => signal.as_raw(),
            Self::Watchdog => -1,
        }
    }

    #[cfg(feature = "rt")]
    pub(crate) fn from_raw(raw: i32) -> Option<Self> {
        match raw {
            0 => None,
            -1 => Some(Self::Watchdog),
            number => Some(Self::Signal(Signal::from_raw(number))),
        }
    }
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(signal) => signal.fmt(f),
            Self::Watchdog => f.write_str("the watchdog"),
        }
    }
}

/// An error and all its causes, displayed on one line.
///
/// A shutdown displays errors in places that must not panic, and an error's `Display` is foreign code. If it panics,
/// the output is a text that describes the panic.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = text(self.0);
        f.write_str(&shown)?;
        let mut next = cause(self.0);
        while let Some(error) = next {
            let text = text(error);
            // The cause is left out if the error already displays it, as many errors do.
            if !shown.ends_with(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            next = cause(error);
        }
        Ok(())
    }
}

fn text(error: &dyn Error) -> String {
    contained(|| error.to_string())
        .unwrap_or_else(|| "an error that panics when it is displayed".into())
}

fn cause<'a>(error: &'a (dyn Error + 'a)) -> Option<&'a (dyn Error + 'a)> {
    contained(|| error.source().map(|cause| cause as &dyn Error)).flatten()
}

/// Calls `f`, which is foreign code, and returns its result, or `None` if it panics.
fn contained<T>(f: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(returned) => Some(returned),
        Err(payload) => {
            // The payload is forgotten, since its drop may panic, too.
            std::mem::forget(payload);
            None
        }
    }
}

/// Drops an error, whose drop is foreign code and may panic.
pub(crate) fn drop_error(error: impl Sized) {
    contained(|| drop(error));
}
