//! State that outlives the process, in a file that is never half written.

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

/// State that is kept in memory and saved to a file, periodically and at shutdown.
///
/// Each save replaces the file atomically: it writes a new file in the same directory, fsyncs that file, renames it
/// over the old one, and fsyncs the directory. So after a crash at any moment the file holds the old state or the new
/// state. The content is JSON: the state, with a name, a version and wall-clock times.
///
/// Opening sets a file aside, with a warning, if its content is damaged, belongs to another program, or has a newer
/// version. The file then gets another name, and the state starts with its default. A file of an older version is read
/// as it is: give new fields `#[serde(default)]`. A file that cannot be *read* is an error, so that it is never
/// overwritten. If the path is a symbolic link, its target is replaced and the link stays.
///
/// As a component, a `StateFile` saves the state, and writes the time of the shutdown into the file. If saving fails (a
/// full disk, a read-only directory), the step fails and the old file stays whole. Dropping a `StateFile` saves
/// nothing.
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
    /// The lock that makes saves run one after the other, so that the last save to begin is the last on the disk. The
    /// thread that writes holds the lock, since it goes on when the future of a save is dropped.
    saving: Arc<tokio::sync::Mutex<()>>,
}

struct Memory<T> {
    state: T,
    /// Whether the state has changed since it was last saved.
    dirty: bool,
}

/// The times and the version of a saved file, by the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Saved {
    /// The time when the file was saved.
    pub saved_at: SystemTime,
    /// The time of the shutdown that saved the file. `None` if the process ended without a shutdown.
    pub shutdown_at: Option<SystemTime>,
    /// The version with which the file was written.
    pub version: u32,
}

impl<T> StateFile<T>
where
    T: Serialize + DeserializeOwned + Default + Send + 'static,
{
    /// Restores the state from the file, or starts with the default if there is no file or its content is damaged.
    ///
    /// `name` identifies the program to which the file belongs, and `version` the shape of the state.
    ///
    /// # Errors
    ///
    /// If the file cannot be read (no permission, no free descriptors, a directory or a pipe in its place), or if a
    /// damaged file cannot be set aside. The error names the path; no file was changed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, since its blocking pool reads the file. Every save panics there, too.
    ///
    /// # Cancel safety
    ///
    /// Safe: the dropped future may have set a damaged file aside; in that case the next call starts with the default.
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
    /// Returns the times and the version of the file from which the state was restored. `None` if the state started
    /// with its default.
    pub fn restored(&self) -> Option<Saved> {
        self.shared.restored
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Calls `look` with the state, under a lock that `update` and saves share. Do not block in `look`, and call
    /// neither `read` nor `update` there: that would deadlock.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.memory().state)
    }

    /// Calls `change` to change the state, which the next save writes. The lock is the same as that of
    /// [`read`](Self::read). If `change` panics, the changes that it has made stay.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut memory = self.shared.memory();
        memory.dirty = true;
        change(&mut memory.state)
    }
}

impl<T: Serialize + Send + 'static> StateFile<T> {
    /// Saves the state, if it has changed since it was last saved.
    ///
    /// # Errors
    ///
    /// If the file cannot be written. The old file stays whole, and the next save tries again.
    ///
    /// # Cancel safety
    ///
    /// Safe: a save that has begun runs to its end on the blocking pool.
    pub async fn save(&self) -> Result<(), BoxError> {
        self.shared.save(None).await
    }

    /// Saves the state every `period` if it has changed; the first save is at once. A period below 1 ms counts as 1 ms.
    ///
    /// The future never ends. Spawn it, for example into a [`TaskGroup`](crate::TaskGroup), which aborts it. A failed
    /// save is logged, and the next save tries again.
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
        let permit = Arc::clone(&self.saving).lock_owned().await;
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
            let _permit = permit;
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
