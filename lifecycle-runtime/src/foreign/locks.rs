//! The components of locks. A shared lock's value is taken out under the lock, and cleaned while the lock is free.
//!
//! An owned lock needs no locking, and is transparent. In a shared lock a `Default` replaces the value during the
//! cleanup, so no other task waits for the lock. A cleanup that ends early puts the value back.

use std::future::Future;
use std::mem;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use super::until::pause;
use crate::engine::{Identity, contain};
use crate::{BoxError, Component, Context, MustClean, Plan, ResolvedPlan};

/// A value that can be taken out of a shared lock. Every type with a `Default` implements this trait; it exists for its
/// compile error.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "a `{Self}` cannot be taken out of a shared lock: it has no `Default` to leave in its place",
    label = "the cleanup takes the `{Self}` out, so that no task waits for the lock while it runs",
    note = "write `Option<{Self}>` inside the lock, for example `Arc<Mutex<Option<{Self}>>>`: then the cleanup leaves `None`",
    note = "or clean it under its lock: `#[shutdown(with = async |value| value.lock().await.close().await)]`"
)]
pub trait LeavesDefault: Default {}

// Without this attribute, the error would be about `Default`, and suggest to derive it.
#[diagnostic::do_not_recommend]
impl<T: Default> LeavesDefault for T {}

/// A shared lock around a component.
trait Lock {
    type Inside: Component;

    /// Replaces the value by `new` and returns the old value. If the lock is not free, returns `new` as the error.
    fn try_replace(&self, new: Self::Inside) -> Result<Self::Inside, Self::Inside>;

    /// Replaces the value by `new` once the lock is free, and returns the old value. This is cancel-safe: the future is
    /// ready as soon as it has taken the value.
    fn replace(&self, new: Self::Inside) -> impl Future<Output = Self::Inside> + Send
    where
        Self: Sync;

    /// Calls `look` with the value, if the lock is free.
    fn look<R>(&self, look: impl FnOnce(&Self::Inside) -> R) -> Option<R>;
}

async fn cleanup<L>(lock: &L, cx: &Context) -> Result<(), BoxError>
where
    L: Lock<Inside: Default> + Sync,
{
    let mut taken = Taken::out_of(lock, cx).await;
    if let Some(inside) = &mut taken.inside {
        inside.cleanup(cx).await?;
    }
    // The value is clean, so it is dropped and not put back.
    taken.inside = None;
    Ok(())
}

fn abort<L: Lock<Inside: Default>>(lock: &L) {
    if let Ok(mut inside) = lock.try_replace(L::Inside::default()) {
        inside.abort();
    }
}

fn release<L: Lock<Inside: Default>>(lock: &L) {
    if let Ok(mut inside) = lock.try_replace(L::Inside::default()) {
        inside.release();
    }
}

/// A value that was taken out of a shared lock. It stays here until it is clean.
struct Taken<'a, L: Lock> {
    lock: &'a L,
    inside: Option<L::Inside>,
}

impl<'a, L: Lock> Taken<'a, L> {
    async fn out_of(lock: &'a L, cx: &Context) -> Self
    where
        L: Lock<Inside: Default> + Sync,
    {
        let inside = match lock.try_replace(L::Inside::default()) {
            Ok(inside) => inside,
            Err(new) => {
                cx.waiting_for(|| "its lock".into());
                let inside = lock.replace(new).await;
                cx.waiting_for(String::new);
                inside
            }
        };
        Self {
            lock,
            inside: Some(inside),
        }
    }
}

impl<L: Lock> Drop for Taken<'_, L> {
    /// Puts a value that is not clean back into the lock, for the next run or for `abort`.
    ///
    /// A value that was put into the lock meanwhile came after the shutdown had begun, so it is removed, aborted and
    /// released here. If the lock is not free, that is done to the taken value instead.
    fn drop(&mut self) {
        let Some(inside) = self.inside.take() else {
            return;
        };
        let (Ok(mut displaced) | Err(mut displaced)) = self.lock.try_replace(inside);
        // Panics are contained: a drop must not panic, least of all while a panic of the cleanup unwinds.
        let _ = contain(|| displaced.abort());
        let _ = contain(|| displaced.release());
        let _ = contain(|| drop(displaced));
    }
}

/// Replaces the value of a std lock. Such a lock cannot wake a task, so this function tries repeatedly, with growing
/// pauses.
async fn replace_repeatedly<L: Lock + Sync>(lock: &L, mut new: L::Inside) -> L::Inside {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(32);
    let mut wait = FIRST;
    loop {
        match lock.try_replace(new) {
            Ok(inside) => return inside,
            Err(back) => new = back,
        }
        pause(wait).await;
        wait = (wait * 2).min(LONGEST);
    }
}

macro_rules! std_lock {
    ($lock:ident, $try_write:ident, $try_read:ident) => {
        impl<T: Component> Lock for std::sync::$lock<T> {
            type Inside = T;

            fn try_replace(&self, new: T) -> Result<T, T> {
                match self.$try_write() {
                    Ok(mut guard) => Ok(mem::replace(&mut guard, new)),
                    Err(TryLockError::Poisoned(poisoned)) => {
                        Ok(mem::replace(&mut poisoned.into_inner(), new))
                    }
                    Err(TryLockError::WouldBlock) => Err(new),
                }
            }

            fn replace(&self, new: T) -> impl Future<Output = T> + Send
            where
                Self: Sync,
            {
                replace_repeatedly(self, new)
            }

            fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
                match self.$try_read() {
                    Ok(guard) => Some(look(&guard)),
                    Err(TryLockError::Poisoned(poisoned)) => Some(look(&poisoned.into_inner())),
                    Err(TryLockError::WouldBlock) => None,
                }
            }
        }
    };
}

std_lock!(Mutex, try_lock, try_lock);
std_lock!(RwLock, try_write, try_read);

macro_rules! tokio_lock {
    ($lock:ident, $write:ident, $try_write:ident, $try_read:ident) => {
        impl<T: Component> Lock for tokio::sync::$lock<T> {
            type Inside = T;

            fn try_replace(&self, new: T) -> Result<T, T> {
                match self.$try_write() {
                    Ok(mut guard) => Ok(mem::replace(&mut guard, new)),
                    Err(_locked) => Err(new),
                }
            }

            async fn replace(&self, new: T) -> T
            where
                Self: Sync,
            {
                mem::replace(&mut *self.$write().await, new)
            }

            fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
                self.$try_read().ok().map(|guard| look(&guard))
            }
        }
    };
}

tokio_lock!(Mutex, lock, try_lock, try_lock);
tokio_lock!(RwLock, write, try_write, try_read);

/// Returns the value of a lock even if the lock is poisoned: a value in which a panic occurred needs cleaning even
/// more.
fn ignore_poison<T>(locked: Result<T, PoisonError<T>>) -> T {
    locked.unwrap_or_else(PoisonError::into_inner)
}

macro_rules! lock {
    ($lock:ty, shared where T: $($bound:path),+; |$inside:ident| $get_mut:expr) => {
        impl<T: Component> Component for $lock {
            const PLAN: Plan = T::PLAN;

            fn cleanup(&mut self, cx: &Context) -> impl Future<Output = Result<(), BoxError>> + Send {
                let $inside = self.get_mut();
                $get_mut.cleanup(cx)
            }

            fn abort(&mut self) {
                let $inside = self.get_mut();
                $get_mut.abort();
            }

            fn release(&mut self) {
                let $inside = self.get_mut();
                $get_mut.release();
            }

            fn __plan(&self) -> ResolvedPlan {
                self.look(Component::__plan).unwrap_or_else(|| T::PLAN.into())
            }

            const __IS_PLAN: bool = T::__IS_PLAN;

            fn __is_empty(&self) -> bool {
                self.look(Component::__is_empty).unwrap_or(false)
            }

            fn __is_composite(&self) -> bool {
                self.look(Component::__is_composite).unwrap_or(false)
            }

            fn __identity(&mut self) -> Option<Identity> {
                let $inside = self.get_mut();
                $get_mut.__identity()
            }
        }

        impl<T: MustClean> MustClean for $lock {}
        impl<T: MustClean> MustClean for &$lock {}

        impl<T: $($bound +)+> Component for &$lock {
            const PLAN: Plan = T::PLAN;

            async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
                cleanup(*self, cx).await
            }

            fn abort(&mut self) {
                abort(*self);
            }

            fn release(&mut self) {
                release(*self);
            }

            fn __plan(&self) -> ResolvedPlan {
                self.look(Component::__plan).unwrap_or_else(|| T::PLAN.into())
            }

            fn __is_empty(&self) -> bool {
                self.look(Component::__is_empty).unwrap_or(false)
            }
        }
    };
}

lock!(std::sync::Mutex<T>, shared where T: Component, LeavesDefault; |inside| ignore_poison(inside));
lock!(std::sync::RwLock<T>, shared where T: Component, LeavesDefault, Sync; |inside| ignore_poison(inside));
lock!(tokio::sync::Mutex<T>, shared where T: Component, LeavesDefault; |inside| inside);
lock!(tokio::sync::RwLock<T>, shared where T: Component, LeavesDefault, Sync; |inside| inside);
