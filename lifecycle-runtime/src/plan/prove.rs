//! The longest path through a plan, and the proof that it fits, at compile time.

use std::time::Duration;

use super::{MAX_STEPS, Plan, PlanStep};

/// The longest path: every step as long as its cost, started when all it waits for have ended.
pub(super) const fn longest(steps: &[PlanStep]) -> Duration {
    let paths = Paths::of(steps);
    paths.longest
}

/// Fails the compilation if the plan cannot fit its timeouts, with the sum spelled out. `of_timeout` says more of the
/// plan's timeout, if there is more to say.
#[track_caller]
pub(super) const fn prove(plan: &Plan, of_timeout: &str) {
    if plan.one_of {
        return;
    }
    let mut i = 0;
    while i < plan.steps.len() {
        let step = &plan.steps[i];
        if let (Some(timeout), Some(nested)) = (step.timeout, &step.nested) {
            if let Some(needed) = nested.longest {
                if needed.as_nanos() > timeout.as_nanos() {
                    Text::new()
                        .push("the plan of `")
                        .push(step.name)
                        .push("` needs ")
                        .push_duration(needed)
                        .push(", but its timeout in `")
                        .push(plan.name)
                        .push("` is ")
                        .push_duration(timeout)
                        .push(": give the field more time, or its steps less")
                        .panic();
                }
            }
        }
        i += 1;
    }
    if let (Some(timeout), Some(longest)) = (plan.timeout, plan.longest) {
        if longest.as_nanos() > timeout.as_nanos() {
            over_budget(plan, timeout, of_timeout);
        }
    }
}

#[track_caller]
const fn over_budget(plan: &Plan, timeout: Duration, of_timeout: &str) {
    let paths = Paths::of(plan.steps);
    let mut path = [0; MAX_STEPS];
    let mut len = 0;
    let mut at = paths.last;
    while let Some(i) = at {
        path[len] = i;
        len += 1;
        at = paths.before[i];
    }
    let is_sum = len > 1;
    let mut text = Text::new();
    while len > 0 {
        len -= 1;
        let step = &plan.steps[path[len]];
        text = text.push(step.name).push(" ").push_duration(step.cost());
        if step.timeout.is_none() && step.nested.is_none() {
            text = text.push(" (states no timeout)");
        }
        if len > 0 {
            text = text.push(" + ");
        }
    }
    if is_sum {
        text = text.push(" = ").push_duration(paths.longest);
    }
    text.push(", but the timeout of `")
        .push(plan.name)
        .push("` is ")
        .push_duration(timeout)
        .push(of_timeout)
        .push(": raise it with `#[shutdown(timeout = \"…\")]` on the struct, or give these steps less")
        .panic();
}

struct Paths {
    longest: Duration,
    last: Option<usize>,
    /// The step before each on its longest path.
    before: [Option<usize>; MAX_STEPS],
}

impl Paths {
    const fn of(steps: &[PlanStep]) -> Self {
        assert!(steps.len() <= MAX_STEPS, "a plan has at most 256 steps");
        let mut finish = [Duration::ZERO; MAX_STEPS];
        let mut before = [None; MAX_STEPS];
        let mut longest = Duration::ZERO;
        let mut last = None;
        let mut i = 0;
        while i < steps.len() {
            let mut start = Duration::ZERO;
            let mut j = 0;
            while j < steps[i].after.len() {
                let earlier = steps[i].after[j];
                assert!(
                    earlier < i,
                    "steps are listed in an order in which they can run"
                );
                if before[i].is_none() || finish[earlier].as_nanos() > start.as_nanos() {
                    start = finish[earlier];
                    before[i] = Some(earlier);
                }
                j += 1;
            }
            finish[i] = start.saturating_add(steps[i].cost());
            if last.is_none() || finish[i].as_nanos() > longest.as_nanos() {
                longest = finish[i];
                last = Some(i);
            }
            i += 1;
        }
        Self {
            longest,
            last,
            before,
        }
    }
}

/// A text that is put together while compiling, where nothing can be formatted.
struct Text {
    bytes: [u8; Self::ROOM],
    len: usize,
}

impl Text {
    const ROOM: usize = 2048;

    const fn new() -> Self {
        Self {
            bytes: [0; Self::ROOM],
            len: 0,
        }
    }

    const fn push(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        // What does not fit whole is left out, so that the text stays valid.
        let mut i = 0;
        while i < text.len() && self.len + text.len() - i < Self::ROOM {
            self.bytes[self.len] = text[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    const fn push_number(mut self, mut number: u128) -> Self {
        let mut digits = [0; 40];
        let mut len = 0;
        while len == 0 || number > 0 {
            digits[len] = b'0' + (number % 10) as u8;
            number /= 10;
            len += 1;
        }
        while len > 0 && self.len < Self::ROOM {
            len -= 1;
            self.bytes[self.len] = digits[len];
            self.len += 1;
        }
        self
    }

    const fn push_duration(self, duration: Duration) -> Self {
        let nanos = duration.as_nanos();
        if nanos % 1_000_000_000 == 0 {
            self.push_number(nanos / 1_000_000_000).push("s")
        } else if nanos % 1_000_000 == 0 {
            self.push_number(nanos / 1_000_000).push("ms")
        } else if nanos % 1_000 == 0 {
            self.push_number(nanos / 1_000).push("µs")
        } else {
            self.push_number(nanos).push("ns")
        }
    }

    #[track_caller]
    const fn panic(&self) -> ! {
        let (text, _) = self.bytes.split_at(self.len);
        match std::str::from_utf8(text) {
            Ok(text) => panic!("{}", text),
            Err(_) => panic!("the plan does not fit its timeout"),
        }
    }
}
