//! What the process uses, and what it refuses to do when that is too much:
//! load is shed before file descriptors or memory run out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::protection::breaker::Stage;

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(250);

/// Of how many requests one is let through while it is tried whether the load
/// has become bearable.
const TRIAL: u64 = 4;

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Resource {
    /// Open file descriptors.
    Files,
    /// Resident memory, in bytes.
    Memory,
    /// Tasks of the runtime.
    Tasks,
    /// Client connections.
    Connections,
    /// Sessions of clients.
    Sessions,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Files,
        Self::Memory,
        Self::Tasks,
        Self::Connections,
        Self::Sessions,
    ];

    /// Its name, for logs and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "open_files",
            Self::Memory => "memory_bytes",
            Self::Tasks => "tasks",
            Self::Connections => "connections",
            Self::Sessions => "sessions",
        }
    }
}

/// A number for each of them, in their order.
pub type Each<T> = [T; Resource::ALL.len()];

/// How much of something there is, and was at most.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Used {
    /// Now.
    pub active: u64,
    /// At the same time, at most.
    pub peak: u64,
}

/// What others count.
pub struct Counted {
    /// Client connections.
    pub connections: Box<dyn Fn() -> Used + Send + Sync>,
    /// Sessions of clients.
    pub sessions: Box<dyn Fn() -> Used + Send + Sync>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

/// Two limits of a resource. What lies between them keeps a process that sheds
/// load from changing its mind with every request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// From here on connections are not kept for another request.
    pub soft: u64,
    /// From here on requests are refused, until it is less than `soft`.
    pub hard: u64,
}

impl Bounds {
    /// What is never reached.
    pub const NONE: Self = Self {
        soft: u64::MAX,
        hard: u64::MAX,
    };

    const fn pressure(self, used: u64) -> Pressure {
        if used >= self.hard {
            Pressure::Hard
        } else if used >= self.soft {
            Pressure::Soft
        } else {
            Pressure::None
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Pressure {
    None,
    Soft,
    Hard,
}

/// Tells what is used now.
pub type Look = Box<dyn Fn() -> Each<Used> + Send + Sync>;

/// What is used now, and whether that is too much.
pub struct Load {
    bounds: Each<Bounds>,
    look: Look,
    active: Each<AtomicU64>,
    peak: Each<AtomicU64>,
    stage: AtomicU8,
    pressed: AtomicU8,
    asked: AtomicU64,
    shed: AtomicU64,
    opened: AtomicU64,
}

impl Load {
    /// Nothing is used yet.
    #[must_use]
    pub fn new(bounds: Each<Bounds>, look: Look) -> Self {
        Self {
            bounds,
            look,
            active: Default::default(),
            peak: Default::default(),
            stage: AtomicU8::new(Stage::Closed as u8),
            pressed: AtomicU8::new(Pressure::None as u8),
            asked: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// Looks, for ever, and decides.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.observe((self.look)());
        }
    }

    /// What is used at this moment, and was at most. Nothing is decided by it, so it
    /// may be asked for at any time.
    #[must_use]
    pub fn usage(&self) -> Each<Used> {
        self.enter((self.look)());
        Resource::ALL.map(|resource| self.used(resource))
    }

    fn enter(&self, used: Each<Used>) {
        for resource in Resource::ALL {
            let Used { active, peak } = used[resource as usize];
            self.active[resource as usize].store(active, Ordering::Relaxed);
            self.peak[resource as usize].fetch_max(peak.max(active), Ordering::Relaxed);
        }
    }

    /// Enters what is used, and decides.
    pub fn observe(&self, used: Each<Used>) {
        self.enter(used);
        let mut worst = (Pressure::None, Resource::Files, 0);
        for resource in Resource::ALL {
            let now = used[resource as usize].active;
            let pressure = self.bounds[resource as usize].pressure(now);
            if pressure > worst.0 {
                worst = (pressure, resource, now);
            }
        }
        let (pressure, resource, now) = worst;
        let before = self.stage();
        let stage = match (before, pressure) {
            (_, Pressure::Hard) => Stage::Open,
            (Stage::Open, Pressure::None) => Stage::HalfOpen,
            (Stage::HalfOpen, Pressure::None) => Stage::Closed,
            (unchanged, _) => unchanged,
        };
        self.pressed.store(pressure as u8, Ordering::Relaxed);
        self.stage.store(stage as u8, Ordering::Relaxed);
        match (before, stage) {
            (Stage::Closed | Stage::HalfOpen, Stage::Open) => {
                self.opened.fetch_add(1, Ordering::Relaxed);
                warn!(resource = resource.name(), used = now, "load is shed");
            }
            (Stage::HalfOpen, Stage::Closed) => {
                let shed = self.shed();
                info!(shed, "load is taken again");
            }
            _ => {}
        }
    }

    /// Where the breaker stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            stage if stage == Stage::Open as u8 => Stage::Open,
            stage if stage == Stage::HalfOpen as u8 => Stage::HalfOpen,
            _ => Stage::Closed,
        }
    }

    /// Whether one more is taken on. One that is not is counted.
    #[must_use]
    pub fn admits(&self) -> bool {
        let admitted = match self.stage() {
            Stage::Closed => true,
            Stage::HalfOpen => self
                .asked
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(TRIAL),
            Stage::Open => false,
        };
        if !admitted {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Whether unused connections are better closed than kept.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed) != Pressure::None as u8
    }

    fn used(&self, resource: Resource) -> Used {
        let read = |values: &Each<AtomicU64>| values[resource as usize].load(Ordering::Relaxed);
        Used {
            active: read(&self.active),
            peak: read(&self.peak),
        }
    }

    /// How many were refused.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// How often the breaker opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("stage", &self.stage())
            .finish_non_exhaustive()
    }
}

/// What this process uses now; what cannot be known is 0.
#[must_use]
pub fn measure(counted: &Counted) -> Each<Used> {
    let tasks = Handle::try_current().map_or(0, |handle| handle.metrics().num_alive_tasks());
    // What was between two looks is not seen.
    let seen = |active| Used {
        active,
        peak: active,
    };
    [
        seen(open_files()),
        seen(memory()),
        seen(tasks as u64),
        (counted.connections)(),
        (counted.sessions)(),
    ]
}

/// Linux tells it as the directory's size since 6.2; before, they are counted.
fn open_files() -> u64 {
    let told = std::fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    if told > 0 {
        return told;
    }
    let counted = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // The directory is open itself while it is read.
    counted.saturating_sub(1) as u64
}

/// In kilobytes, whatever the size of a page: asking for that is what valgrind does
/// not survive.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests;
