//! Child processes.

use tokio::process::Child;

use crate::{BoxError, Component, Context};

#[cfg(unix)]
impl Component for Child {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        let Some(target) = unix::Target::of(self) else {
            return Ok(());
        };
        // Held while the child is not reaped: later its number may be another's.
        let unreaped = std::sync::Arc::new(target);
        let forced = std::sync::Arc::downgrade(&unreaped);
        cx.on_force(move || {
            if let Some(target) = forced.upgrade() {
                target.kill();
            }
        });
        target.terminate()?;
        cx.waiting_for(move || format!("{target} to end after SIGTERM"));
        if let Some(ended) = super::until::until(cx.deadline(), self.wait()).await {
            ended?;
            return Ok(());
        }
        target.kill();
        cx.waiting_for(move || format!("{target} to end after SIGKILL"));
        self.wait().await?;
        drop(unreaped);
        Err(format!("{target} did not end after SIGTERM and had to be killed").into())
    }

    fn abort(&mut self) {
        if let Some(target) = unix::Target::of(self) {
            target.kill();
        }
        // For a child that is no group's leader any more. It fails only for one that has ended.
        let _ = self.start_kill();
    }

    fn release(&mut self) {
        self.abort();
    }
}

#[cfg(not(unix))]
impl Component for Child {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        self.start_kill()?;
        cx.waiting_for(|| "the killed process to end".into());
        self.wait().await?;
        Ok(())
    }

    fn abort(&mut self) {
        // It fails only for one that has ended.
        let _ = self.start_kill();
    }

    fn release(&mut self) {
        self.abort();
    }
}

#[cfg(unix)]
mod unix {
    use std::fmt;
    use std::io;

    use rustix::io::Errno;
    use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
    use tokio::process::Child;

    /// Whom a signal goes to.
    #[derive(Clone, Copy)]
    pub(super) enum Target {
        /// The child leads a process group, so its own children are told with it.
        Group(Pid),
        Process(Pid),
    }

    impl Target {
        /// `None` once the child is reaped. Until then its number cannot be another's.
        pub(super) fn of(child: &Child) -> Option<Self> {
            let pid = Pid::from_raw(i32::try_from(child.id()?).ok()?)?;
            let leads = getpgid(Some(pid)).is_ok_and(|group| group == pid);
            Some(if leads {
                Self::Group(pid)
            } else {
                Self::Process(pid)
            })
        }

        pub(super) fn terminate(self) -> io::Result<()> {
            self.signal(Signal::TERM)
        }

        /// Whether it worked, the wait that follows shows.
        pub(super) fn kill(self) {
            let _ = self.signal(Signal::KILL);
        }

        fn signal(self, signal: Signal) -> io::Result<()> {
            let sent = match self {
                Self::Group(pid) => kill_process_group(pid, signal),
                Self::Process(pid) => kill_process(pid, signal),
            };
            match sent {
                // Gone already, which is what was wanted.
                Ok(()) | Err(Errno::SRCH) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
    }

    impl fmt::Display for Target {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Group(pid) => write!(f, "process group {pid}"),
                Self::Process(pid) => write!(f, "process {pid}"),
            }
        }
    }
}
