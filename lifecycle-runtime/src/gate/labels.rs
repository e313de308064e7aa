//! The names of labelled passes, and the text about the passes that a drain waits for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// The largest number of names that a text lists. The text only counts the passes or tasks beyond that.
const NAMED: usize = 8;

#[derive(Default)]
pub(super) struct Labels(Mutex<Held>);

#[derive(Default)]
struct Held {
    next: u64,
    /// The names of the passes that are held, by number. The numbers count up, so the map is ordered by age.
    names: BTreeMap<u64, (Instant, Cow<'static, str>)>,
}

impl Labels {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, name: Cow<'static, str>) -> u64 {
        let since = Instant::now();
        let mut held = self.held();
        let number = held.next;
        held.next += 1;
        held.names.insert(number, (since, name));
        number
    }

    pub(super) fn remove(&self, number: u64) {
        self.held().names.remove(&number);
    }

    pub(super) fn longest(&self, count: usize, noun: &str) -> String {
        let oldest: Vec<_> = self.held().names.values().take(NAMED).cloned().collect();
        longest(count, noun, &oldest)
    }
}

/// Describes `count` tasks or passes, of which `oldest` are named: `3 tasks: poller for 3.1 s, feed for 0.2 s and 1
/// more`.
pub(crate) fn longest<T: Display>(count: usize, noun: &str, oldest: &[(Instant, T)]) -> String {
    let plural = match (count, noun.ends_with('s')) {
        (1, _) => "",
        (_, true) => "es",
        (_, false) => "s",
    };
    let mut text = format!("{count} {noun}{plural}");
    let mut lead = ": ";
    for (since, name) in oldest.iter().take(NAMED) {
        // Errors are ignored here and below, since writing to a `String` cannot fail.
        let _ = write!(
            text,
            "{lead}{name} for {:.1} s",
            since.elapsed().as_secs_f32()
        );
        lead = ", ";
    }
    match count.saturating_sub(oldest.len().min(NAMED)) {
        0 => {}
        more if !oldest.is_empty() => {
            let _ = write!(text, " and {more} more");
        }
        _ => {}
    }
    text
}
