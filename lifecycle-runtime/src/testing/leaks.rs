//! What is left behind: file descriptors, threads, tasks.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// What a process has, from when it was made: what is there later and was not then, has leaked.
///
/// It sees the whole process (and the current runtime's tasks), so tests that use it run alone: in
/// a test binary of their own, one after the other. File descriptors and threads are read from `/proc`, so they
/// are seen on Linux only.
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

/// Something that was left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leak {
    /// A file descriptor.
    Fd {
        /// Its number.
        number: u32,
        /// What it refers to: a path, `socket:[…]`, `anon_inode:[eventpoll]`.
        target: String,
    },
    /// A thread.
    Thread {
        /// Its number.
        id: u32,
        /// Its name, of which Linux keeps 15 bytes.
        name: String,
    },
    /// Tasks of the current runtime, which keeps no names: a [`TaskGroup`](crate::TaskGroup) does. Only
    /// counted, so one that was there before and ended hides one that is left.
    Tasks {
        /// How many more than before.
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
    /// What there is now has not leaked.
    pub fn new() -> Self {
        Self {
            before: Snapshot::now(),
            since: Instant::now(),
        }
    }

    /// What there is now and was not then. Threads of tokio's blocking pool count: they end when they were
    /// idle for 10 s, or with their runtime.
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

    /// How long ago it was made: nothing that leaked is older.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Fails unless nothing has leaked.
    ///
    /// # Panics
    ///
    /// Naming what has.
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
                // The one that reads this directory.
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

/// What is known of each entry whose name is a number.
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
