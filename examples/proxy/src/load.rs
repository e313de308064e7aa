//! What the process uses, and what it refuses to do when that is too much:
//! load is shed before file descriptors or memory run out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use rustix::param::page_size;
use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::breaker::Stage;

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
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Files, Self::Memory, Self::Tasks];

    /// Its name, for logs and labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "open_files",
            Self::Memory => "memory_bytes",
            Self::Tasks => "tasks",
        }
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

/// What is used now, and whether that is too much.
#[derive(Debug)]
pub struct Load {
    bounds: [Bounds; 3],
    active: [AtomicU64; 3],
    peak: [AtomicU64; 3],
    stage: AtomicU8,
    pressed: AtomicU8,
    asked: AtomicU64,
    shed: AtomicU64,
    opened: AtomicU64,
}

impl Load {
    /// Nothing is used yet.
    #[must_use]
    pub fn new(bounds: [Bounds; 3]) -> Self {
        Self {
            bounds,
            active: Default::default(),
            peak: Default::default(),
            stage: AtomicU8::new(Stage::Closed as u8),
            pressed: AtomicU8::new(Pressure::None as u8),
            asked: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// Looks, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.observe(measure());
        }
    }

    /// Enters what is used, and decides.
    pub fn observe(&self, used: [u64; 3]) {
        let mut worst = (Pressure::None, Resource::Files, 0);
        for resource in Resource::ALL {
            let now = used[resource as usize];
            self.active[resource as usize].store(now, Ordering::Relaxed);
            self.peak[resource as usize].fetch_max(now, Ordering::Relaxed);
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

    /// What is used of a resource, and was at most.
    #[must_use]
    pub fn used(&self, resource: Resource) -> (u64, u64) {
        let read = |values: &[AtomicU64; 3]| values[resource as usize].load(Ordering::Relaxed);
        (read(&self.active), read(&self.peak))
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

/// What this process uses now; what cannot be known is 0.
fn measure() -> [u64; 3] {
    let tasks = Handle::try_current().map_or(0, |handle| handle.metrics().num_alive_tasks());
    [open_files(), memory(), tasks as u64]
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

fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|text| text.parse().ok());
    pages.map_or(0, |pages: u64| pages.saturating_mul(page_size() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> Load {
        let files = Bounds { soft: 80, hard: 90 };
        Load::new([files, Bounds::NONE, Bounds::NONE])
    }

    #[test]
    fn it_is_shed_from_the_hard_limit_until_below_the_soft_one() {
        let load = load();
        for (files, stage, pressed) in [
            (79, Stage::Closed, false),
            (85, Stage::Closed, true),
            (90, Stage::Open, true),
            (85, Stage::Open, true),
            (79, Stage::HalfOpen, false),
            (85, Stage::HalfOpen, true),
            (79, Stage::Closed, false),
            (95, Stage::Open, true),
            (10, Stage::HalfOpen, false),
            (95, Stage::Open, true),
        ] {
            load.observe([files, 0, 0]);
            assert_eq!(
                (load.stage(), load.is_pressed()),
                (stage, pressed),
                "{files}"
            );
        }
        assert_eq!(load.opened(), 3);
        assert_eq!(load.used(Resource::Files), (95, 95));
    }

    #[test]
    fn half_open_lets_some_through_and_counts_the_others() {
        let load = load();
        load.observe([90, 0, 0]);
        assert!(!load.admits());
        load.observe([0, 0, 0]);
        let admitted = (0..8).filter(|_| load.admits()).count();
        assert_eq!((admitted, load.shed()), (2, 7));
        load.observe([0, 0, 0]);
        assert!((0..8).all(|_| load.admits()));
    }

    #[tokio::test]
    async fn this_process_uses_files_memory_and_tasks() {
        let before = measure();
        assert!(before[0] >= 3 && before[1] > 1 << 16, "{before:?}");
        let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null")).collect();
        let task = tokio::spawn(std::future::pending::<()>());
        let after = measure();
        assert!(after[0] >= 23, "{after:?}");
        assert!(after[2] > before[2], "{before:?} {after:?}");
        drop(files);
        task.abort();
    }
}
