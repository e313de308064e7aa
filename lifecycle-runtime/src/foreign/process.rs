//! Child processes, and the process groups that they lead.
//!
//! | file | contents |
//! |---|---|
//! | `unreaped` | signals to a child, as long as its number cannot belong to another process |
//! | `group` | the end of a process group |
//! | `view` | reads the state of a process group; `view/linux` uses `/proc` |

#[cfg(unix)]
mod group;
#[cfg(all(test, target_os = "linux"))]
mod tests;
#[cfg(unix)]
mod unreaped;
#[cfg(unix)]
mod view;

use tokio::process::Child;

use crate::{BoxError, Component, Context, MustClean};

#[cfg(unix)]
use self::{
    group::Group,
    unreaped::{Target, Unreaped},
};

impl MustClean for Child {}

#[cfg(unix)]
impl Component for Child {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let Some(target) = Target::of(self)? else {
            return Ok(());
        };
        let unreaped = Unreaped::new(target);
        cx.on_force(unreaped.kill_hook());
        match target {
            Target::Group(leader) => Group::new(leader, self, &unreaped).end(cx).await,
            Target::Process(_) => end_process(self, &unreaped, cx).await,
        }
    }

    fn abort(&mut self) {
        if let Ok(Some(target)) = Target::of(self) {
            target.kill();
        }
    }

    fn release(&mut self) {
        self.abort();
    }
}

/// Ends a child that does not lead a process group.
#[cfg(unix)]
async fn end_process(child: &mut Child, unreaped: &Unreaped, cx: &Context) -> Result<(), BoxError> {
    let target = unreaped.target();
    if unreaped.reap(child)? {
        return Ok(());
    }
    unreaped.terminate()?;
    cx.waiting_for(move || format!("{target} to end after SIGTERM"));
    if let Some(ended) = super::until::until(cx.deadline(), unreaped.wait(child)).await {
        return Ok(ended?);
    }
    unreaped.kill();
    cx.waiting_for(move || format!("{target} to end after SIGKILL"));
    unreaped.wait(child).await?;
    Err(format!("{target} did not end after SIGTERM and had to be killed").into())
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
        // The result is ignored: this call fails only if the child has ended.
        let _ = self.start_kill();
    }

    fn release(&mut self) {
        self.abort();
    }
}
