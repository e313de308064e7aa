//! Why a shutdown began.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Why a shutdown began. The first reason wins; later ones change nothing.
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
    /// Somebody asked for it.
    #[default]
    Requested,
    /// The process was signalled.
    Signal(Signal),
    /// Main returned by itself.
    MainEnded,
    /// Main returned an error.
    MainFailed(Arc<dyn Error + Send + Sync>),
    /// Main panicked, with this message.
    MainPanicked(Arc<str>),
    /// A background task of this name ended with an error or a panic, and was to end the server then.
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
    /// As its text.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A signal, by its number (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(i32);

impl Signal {
    /// SIGHUP, 1.
    pub const HANGUP: Self = Self(1);
    /// SIGINT, 2: Ctrl-C at a terminal.
    pub const INTERRUPT: Self = Self(2);
    /// SIGQUIT, 3.
    pub const QUIT: Self = Self(3);
    /// SIGTERM, 15: how systemd and Kubernetes ask a process to end.
    pub const TERMINATE: Self = Self(15);

    /// The signal with this number.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }

    /// What shells say of a process that a signal has ended: 128 and the number.
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

/// What forced the end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Force {
    /// A signal that was repeated.
    Signal(Signal),
    /// The watchdog: the process was not gone in time.
    Watchdog,
}

impl Force {
    /// The exit code: 128 and the signal's number, as shells report it, or 70 (`EX_SOFTWARE` of
    /// sysexits.h) for the watchdog.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Signal(signal) => signal.exit_code(),
            Self::Watchdog => 70,
        }
    }

    /// As one number, for an atomic; 0 is no force.
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

/// An error and all its causes on one line.
///
/// They are told where nothing may panic, in the middle of a shutdown, and an error is somebody's code: what
/// panics when it is told says just that.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn Error + 'a));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = text(self.0);
        f.write_str(&shown)?;
        let mut next = cause(self.0);
        while let Some(error) = next {
            let text = text(error);
            // Many errors print their cause themselves.
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
    told(|| error.to_string()).unwrap_or_else(|| "an error that panics when it is told".into())
}

fn cause<'a>(error: &'a (dyn Error + 'a)) -> Option<&'a (dyn Error + 'a)> {
    told(|| error.source().map(|cause| cause as &dyn Error)).flatten()
}

/// Calls foreign code; what it returns, unless it panics.
fn told<T>(tell: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(tell)) {
        Ok(said) => Some(said),
        Err(payload) => {
            // A payload may panic when it is dropped.
            std::mem::forget(payload);
            None
        }
    }
}

/// Drops an error, which is foreign code.
pub(crate) fn drop_error(error: impl Sized) {
    told(|| drop(error));
}
