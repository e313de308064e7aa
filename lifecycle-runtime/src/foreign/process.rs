//! Child processes: asked to end with the group they lead, killed when they do not.

use tokio::process::Child;

use crate::{BoxError, Component, Context};

#[cfg(unix)]
mod target;

#[cfg(unix)]
impl Component for Child {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let Some(target) = target::Target::of(self) else {
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
        if target.has_ended()? && target.others()?.is_empty() {
            self.wait().await?;
            return Ok(());
        }
        target.terminate()?;
        cx.waiting_for(move || format!("{target} to end after SIGTERM"));
        if super::until::until(cx.deadline(), target.ends(self))
            .await
            .transpose()?
            .is_some()
        {
            // It has ended, so this reaps it and does not wait.
            self.wait().await?;
            return Ok(());
        }
        let left = target.left()?;
        target.kill();
        cx.waiting_for(move || format!("{target} to end after SIGKILL"));
        // No signal is sent any more, so the child may be reaped.
        self.wait().await?;
        target.others_end().await?;
        drop(unreaped);
        Err(format!("{target} did not end after SIGTERM and had to be killed{left}").into())
    }

    fn abort(&mut self) {
        if let Some(target) = target::Target::of(self) {
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
