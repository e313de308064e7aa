//! Load shedding: the server refuses work before file descriptors or memory run out.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::breaker::Stage;

pub use lifecycle_proxy_common::Used;

/// The interval between two measurements.
const INTERVAL: Duration = Duration::from_millis(250);

/// While the load's breaker is half open, one of this many requests is admitted.
const TRIAL: u64 = 4;

/// A resource whose use is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(usize)]
pub enum Resource {
    /// The open file descriptors of the process.
    Files,
    /// The resident memory of the process, in bytes.
    Memory,
    /// Tasks of the tokio runtime.
    Tasks,
    /// The connections of clients.
    Connections,
    /// The sessions of clients.
    Sessions,
}

impl Resource {
    /// The list of all resources, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Files,
        Self::Memory,
        Self::Tasks,
        Self::Connections,
        Self::Sessions,
    ];

    /// Returns the resource's name, for logs and labels.
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

/// A value for each resource, in the order of [`Resource::ALL`].
pub type Each<T> = [T; Resource::ALL.len()];

/// Functions that return the use of the resources that other parts count.
pub struct Counted {
    /// The tokio runtimes whose tasks count.
    pub runtimes: Vec<Handle>,
    /// A function that returns the number of client connections.
    pub connections: Box<dyn Fn() -> Used + Send + Sync>,
    /// A function that returns the number of client sessions.
    pub sessions: Box<dyn Fn() -> Used + Send + Sync>,
}

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").finish_non_exhaustive()
    }
}

/// A soft and a hard limit of a resource. The gap between them keeps the server from changing its
/// decision with every request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// The limit from which on connections are closed after their current request.
    pub soft: u64,
    /// The limit from which on requests are refused, until the use is below `soft` again.
    pub hard: u64,
}

impl Bounds {
    /// Limits that no use ever reaches.
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

/// A function that measures all resources.
pub type MeasureFn = Box<dyn Fn() -> Each<Used> + Send + Sync>;

/// The measured load, and the decision whether requests are refused.
pub struct Load {
    bounds: Each<Bounds>,
    measure: MeasureFn,
    active: Each<AtomicU64>,
    peak: Each<AtomicU64>,
    stage: AtomicU8,
    pressed: AtomicU8,
    half_open_requests: AtomicU64,
    shed: AtomicU64,
    opened: AtomicU64,
}

impl Load {
    /// Creates a load that has no measurements yet.
    #[must_use]
    pub fn new(bounds: Each<Bounds>, measure: MeasureFn) -> Self {
        Self {
            bounds,
            measure,
            active: Default::default(),
            peak: Default::default(),
            stage: AtomicU8::new(Stage::Closed as u8),
            pressed: AtomicU8::new(Pressure::None as u8),
            half_open_requests: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            opened: AtomicU64::new(0),
        }
    }

    /// Measures the resources at intervals, without an end, and decides after each measurement.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.observe((self.measure)());
        }
    }

    /// Measures the resources now, and returns their use and their peaks. Does not decide about
    /// requests, so it may be called at any time.
    #[must_use]
    pub fn usage(&self) -> Each<Used> {
        self.record((self.measure)());
        Resource::ALL.map(|resource| self.used(resource))
    }

    fn record(&self, used: Each<Used>) {
        for resource in Resource::ALL {
            let Used { active, peak } = used[resource as usize];
            self.active[resource as usize].store(active, Ordering::Relaxed);
            self.peak[resource as usize].fetch_max(peak.max(active), Ordering::Relaxed);
        }
    }

    /// Records a measurement, and decides whether requests are refused from now on.
    pub fn observe(&self, used: Each<Used>) {
        self.record(used);
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
                warn!(resource = resource.name(), used = now, "shedding load");
            }
            (Stage::HalfOpen, Stage::Closed) => {
                let shed = self.shed();
                info!(shed, "accepting load again");
            }
            _ => {}
        }
    }

    /// Returns the stage of the load's breaker, which is open while requests are refused.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            stage if stage == Stage::Open as u8 => Stage::Open,
            stage if stage == Stage::HalfOpen as u8 => Stage::HalfOpen,
            _ => Stage::Closed,
        }
    }

    /// Returns whether one more request is admitted. If not, counts the request as refused.
    #[must_use]
    pub fn admits(&self) -> bool {
        let admitted = match self.stage() {
            Stage::Closed => true,
            Stage::HalfOpen => self
                .half_open_requests
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(TRIAL),
            Stage::Open => false,
        };
        if !admitted {
            self.shed.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    /// Returns whether connections should be closed after their current request.
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

    /// Returns the number of requests that were refused so far.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Returns the number of times that the load's breaker has opened.
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

/// Measures the resources of this process. A value that cannot be measured is 0.
#[must_use]
pub fn measure(counted: &Counted) -> Each<Used> {
    let tasks = |runtime: &Handle| runtime.metrics().num_alive_tasks();
    let tasks: usize = counted.runtimes.iter().map(tasks).sum();
    // Uses the current number as the peak, since a peak between two measurements is not noticed.
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

/// Returns the number of open files. Since Linux 6.2 the size of `/proc/self/fd` is that number. On
/// older kernels, counts the directory's entries.
fn open_files() -> u64 {
    let size = std::fs::metadata("/proc/self/fd").map_or(0, |directory| directory.len());
    if size > 0 {
        return size;
    }
    let counted = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    // Subtracts the file that is opened to read the directory.
    counted.saturating_sub(1) as u64
}

/// Returns the resident memory, in bytes. Reads `/proc/self/status`, which has the value in
/// kilobytes, so that the page size is not needed: valgrind crashes when a process asks for it.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes.saturating_mul(1024))
}

#[cfg(test)]
mod tests;
