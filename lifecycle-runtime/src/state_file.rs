//! State that outlives the process, in a file that is always whole.

mod disk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{MissedTickBehavior, interval};

use crate::{BoxError, Component, Context, MustClean, log};

use self::disk::{Envelope, Found};

/// State that is kept in memory and saved to a file: now and then, and at shutdown.
///
/// The file is replaced in one step: written beside it, fsynced, renamed over it, and the directory
/// fsynced. So after a crash at any moment it is the old state or the new one. It is JSON with a name,
/// a version and wall-clock times around the state.
///
/// A file whose content is damaged, another program's or of a newer version is set aside under another name, with a
/// warning, and the state starts anew. A file of an older version is read as it is: give new fields
/// `#[serde(default)]`. A file that cannot be *read* is an error, so that it is never saved over. Where the path is a
/// symbolic link, the file it leads to is replaced and the link stays.
///
/// As a component it saves, and marks the file with the time of the shutdown. If that fails (a full
/// disk, a read-only directory) the step fails and the old file stays whole. Nothing is saved on drop.
///
/// ```
/// use lifecycle_runtime::{BoxError, Component, Context, Reason, StateFile};
/// use std::time::Duration;
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Peers {
///     known: Vec<String>,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("peers.json");
/// let mut peers = StateFile::<Peers>::open(&path, "peers", 1).await?;
/// peers.update(|peers| peers.known.push("10.0.0.7".into()));
/// peers.cleanup(&Context::new(Reason::Requested, Duration::from_secs(5))).await?;
///
/// let again = StateFile::<Peers>::open(&path, "peers", 1).await?;
/// assert_eq!(again.read(|peers| peers.known.len()), 1);
/// assert!(again.restored().and_then(|saved| saved.shutdown_at).is_some());
/// # Ok(())
/// # }
/// ```
pub struct StateFile<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    path: PathBuf,
    name: &'static str,
    version: u32,
    restored: Option<Saved>,
    memory: Mutex<Memory<T>>,
    /// Saves come one after the other, so that the last one to be begun is the last on the disk. Held by what
    /// writes, which goes on when the future of a save is dropped.
    saving: Arc<tokio::sync::Mutex<()>>,
}

struct Memory<T> {
    state: T,
    /// Changed since it was last saved.
    dirty: bool,
}

/// When a file was saved, by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// When.
    pub saved_at: SystemTime,
    /// When the shutdown that saved it ran, if one did; otherwise the process ended without.
    pub shutdown_at: Option<SystemTime>,
    /// The version it was written with.
    pub version: u32,
}

impl<T> StateFile<T>
where
    T: Serialize + DeserializeOwned + Default + Send + 'static,
{
    /// Restores the state from the file, or starts with the default if there is none or its content is damaged.
    ///
    /// `name` says which program's file it is, `version` which shape the state has.
    ///
    /// # Errors
    ///
    /// Whatever keeps the file from being read (no permission, no free descriptors, a directory or a pipe in its place),
    /// and that a damaged one could not be set aside. The error names the path; nothing was changed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as the file is read on its blocking pool; so does every save.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropped half-way it may have set a damaged file aside, and the next call starts anew.
    pub async fn open(
        path: impl AsRef<Path>,
        name: &'static str,
        version: u32,
    ) -> io::Result<Self> {
        let path = path.as_ref().to_path_buf();
        let at = path.clone();
        let found = tokio::task::spawn_blocking(move || disk::load::<T>(&at, name, version)).await;
        let found =
            found.unwrap_or_else(|error| Err(io::Error::other(crate::engine::message_of(error))));
        let (state, restored) = match found {
            Ok(Found::State(state, saved)) => (state, Some(saved)),
            Ok(Found::Nothing) => (T::default(), None),
            Ok(Found::SetAside { why, aside }) => {
                log::state_set_aside(&path, &why, &aside);
                (T::default(), None)
            }
            Err(error) => {
                let text = format!("the state file {} was not read: {error}", path.display());
                return Err(io::Error::new(error.kind(), text));
            }
        };
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                name,
                version,
                restored,
                memory: Mutex::new(Memory {
                    state,
                    dirty: false,
                }),
                saving: Arc::default(),
            }),
        })
    }
}

impl<T> StateFile<T> {
    /// What it was restored from, if from anything.
    pub fn restored(&self) -> Option<Saved> {
        self.shared.restored
    }

    /// Where it is saved.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Looks at the state, under a lock that `update` and saves share: do not call either from inside, which would
    /// deadlock, and do not block.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.memory().state)
    }

    /// Changes the state. It is on the disk after the next save. Likewise under the lock; if `change` panics, what
    /// it did until then stays.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut memory = self.shared.memory();
        memory.dirty = true;
        change(&mut memory.state)
    }
}

impl<T: Serialize + Send + 'static> StateFile<T> {
    /// Saves the state now, if it changed since it was saved.
    ///
    /// # Errors
    ///
    /// What kept it from being saved; the old file stays whole, and the next save tries again.
    ///
    /// # Cancel safety
    ///
    /// Safe: a save that was begun ends on the blocking pool.
    pub async fn save(&self) -> Result<(), BoxError> {
        self.shared.save(None).await
    }

    /// Saves the state every `period`, the first time at once, as far as it changed; a period below 1 ms is 1 ms.
    /// It never ends: spawn it, into a [`TaskGroup`](crate::TaskGroup) say, which aborts it. Failures are logged, and the
    /// next save tries again.
    pub fn save_every(&self, period: Duration) -> impl Future<Output = ()> + Send + use<T> {
        let shared = Arc::clone(&self.shared);
        async move {
            let mut ticks = interval(period.max(Duration::from_millis(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Err(error) = shared.save(None).await {
                    log::state_not_saved(&shared.path, &*error);
                }
            }
        }
    }
}

impl<T> Shared<T> {
    fn memory(&self) -> MutexGuard<'_, Memory<T>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Serialize + Send + 'static> Shared<T> {
    async fn save(self: &Arc<Self>, shutdown_at: Option<SystemTime>) -> Result<(), BoxError> {
        let turn = Arc::clone(&self.saving).lock_owned().await;
        let text = {
            let mut memory = self.memory();
            if !memory.dirty && shutdown_at.is_none() {
                return Ok(());
            }
            let envelope = Envelope::new(self.name, self.version, shutdown_at, &memory.state);
            let text = serde_json::to_vec_pretty(&envelope)?;
            memory.dirty = false;
            text
        };
        let shared = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let saved = disk::replace(&shared.path, &text);
            if saved.is_err() {
                shared.memory().dirty = true;
            }
            saved
        });
        saved
            .await
            .map_err(crate::engine::message_of)?
            .map_err(|error| {
                let path = self.path.display();
                io::Error::new(error.kind(), format!("{path} was not saved: {error}")).into()
            })
    }
}

impl<T> MustClean for StateFile<T> {}
impl<T> MustClean for &StateFile<T> {}

impl<T: Serialize + Send + 'static> Component for &StateFile<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let path = self.shared.path.display().to_string();
        cx.waiting_for(move || format!("{path} to be saved"));
        self.shared.save(Some(SystemTime::now())).await
    }
}

impl<T: Serialize + Send + 'static> Component for StateFile<T> {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        Component::cleanup(&mut &*self, cx).await
    }
}

impl<T> fmt::Debug for StateFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateFile")
            .field("path", &self.shared.path)
            .field("name", &self.shared.name)
            .field("restored", &self.shared.restored)
            .finish_non_exhaustive()
    }
}
