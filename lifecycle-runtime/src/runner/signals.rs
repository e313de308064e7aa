//! The signals that the process listens for.

use std::io;

use crate::Signal;

/// The signals that request a shutdown.
#[cfg(unix)]
pub(super) const ENDING: [Signal; 4] = [
    Signal::TERMINATE,
    Signal::INTERRUPT,
    Signal::QUIT,
    Signal::HANGUP,
];

#[cfg(unix)]
pub(super) struct Signals {
    streams: Vec<(Signal, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl Signals {
    pub(super) fn register() -> io::Result<Self> {
        let mut signals = Self {
            streams: Vec::new(),
        };
        ENDING.iter().try_for_each(|&signal| signals.add(signal))?;
        Ok(signals)
    }

    /// Listens for the signal `which` as well.
    pub(super) fn add(&mut self, which: Signal) -> io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        if self.streams.iter().all(|(known, _)| *known != which) {
            let stream = signal(SignalKind::from_raw(which.as_raw()))?;
            self.streams.push((which, stream));
        }
        Ok(())
    }

    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (which, stream) in &mut self.streams {
                if stream.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*which);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

#[cfg(windows)]
pub(super) struct Signals {
    ctrl_c: tokio::signal::windows::CtrlC,
}

#[cfg(windows)]
impl Signals {
    pub(super) fn register() -> io::Result<Self> {
        Ok(Self {
            ctrl_c: tokio::signal::windows::ctrl_c()?,
        })
    }

    pub(super) fn add(&mut self, which: Signal) -> io::Result<()> {
        Err(io::Error::other(format!("there is no {which} here")))
    }

    pub(super) async fn next(&mut self) -> Signal {
        if self.ctrl_c.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        Signal::INTERRUPT
    }
}
