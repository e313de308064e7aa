//! A check for leaks: file descriptors, threads and tasks that are left behind.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// A check for leaks. A file descriptor, thread or task that exists now and did not exist when the check was created
/// has leaked.
///
/// The check sees the whole process, and the tasks of the current runtime. So tests that use it must run alone: in
/// their own test binary, one after the other. The check reads file descriptors and threads from `/proc`, so it sees
/// them on Linux only.
///
/// ```
/// use lifecycle_runtime::testing::LeakCheck;
///
/// let check = LeakCheck::new();
/// // … start a server, shut it down …
/// check.assert_none();
/// ```
#[derive(Debug)]
pub struct LeakCheck {
    before: Snapshot,
    since: Instant,
}

/// A file descriptor, a thread or tasks that were left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leak {
    /// A file descriptor is still open.
    Fd {
        /// The number of the descriptor.
        number: u32,
        /// Its target: a path, `socket:[…]`, `anon_inode:[eventpoll]`.
        target: String,
    },
    /// A thread is still running.
    Thread {
        /// The number of the thread.
        id: u32,
        /// The name of the thread, of which Linux stores 15 bytes.
        name: String,
    },
    /// Tasks of the current runtime have not ended. A runtime stores no names of tasks; a
    /// [`TaskGroup`](crate::TaskGroup) does. The check only counts tasks, so an earlier task that has ended hides a
    /// task that is left.
    Tasks {
        /// The number of tasks beyond those that existed before.
        more: usize,
    },
}

#[derive(Debug, Default)]
struct Snapshot {
    fds: BTreeMap<u32, String>,
    threads: BTreeMap<u32, String>,
    tasks: usize,
}

impl LeakCheck {
    /// Creates a check. Nothing that exists now counts as a leak.
    pub fn new() -> Self {
        Self {
            before: Snapshot::now(),
            since: Instant::now(),
        }
    }

    /// Lists what exists now and did not exist when the check was created. Threads of tokio's blocking pool count as
    /// leaks: they end after 10 s without work, or with their runtime.
    pub fn leaks(&self) -> Vec<Leak> {
        let now = Snapshot::now();
        let fds = now
            .fds
            .into_iter()
            .filter(|(number, target)| self.before.fds.get(number) != Some(target));
        let threads = now
            .threads
            .into_iter()
            .filter(|(id, _)| !self.before.threads.contains_key(id));
        let more = now.tasks.saturating_sub(self.before.tasks);
        fds.map(|(number, target)| Leak::Fd { number, target })
            .chain(threads.map(|(id, name)| Leak::Thread { id, name }))
            .chain((more > 0).then_some(Leak::Tasks { more }))
            .collect()
    }

    /// Returns the time since the check was created. No leak is older.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Asserts that nothing has leaked.
    ///
    /// # Panics
    ///
    /// If something has leaked, with its description.
    pub fn assert_none(&self) {
        let leaks = self.leaks();
        let text: Vec<_> = leaks.iter().map(Leak::to_string).collect();
        assert!(
            leaks.is_empty(),
            "leaked within the last {:.1?}: {}",
            self.age(),
            text.join(", ")
        );
    }
}

impl Default for LeakCheck {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fd { number, target } => write!(f, "fd {number} ({target})"),
            Self::Thread { id, name } => write!(f, "thread {id} ({name})"),
            Self::Tasks { more } => write!(f, "{more} tasks"),
        }
    }
}

impl Snapshot {
    fn now() -> Self {
        Self {
            fds: numbered("/proc/self/fd", |path| {
                let target = std::fs::read_link(path)
                    .ok()?
                    .to_string_lossy()
                    .into_owned();
                // This skips the descriptor with which this function reads the directory.
                (!target.starts_with("/proc/") || !target.ends_with("/fd")).then_some(target)
            }),
            threads: numbered("/proc/self/task", |path| {
                let name = std::fs::read_to_string(path.join("comm")).ok()?;
                Some(name.trim_end().to_owned())
            }),
            tasks: Handle::try_current().map_or(0, |handle| handle.metrics().num_alive_tasks()),
        }
    }
}

/// Returns a map of the entries of `directory` whose names are numbers.
fn numbered(
    directory: &str,
    known: impl Fn(&std::path::Path) -> Option<String>,
) -> BTreeMap<u32, String> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, known(&entry.path())?))
        })
        .collect()
}
