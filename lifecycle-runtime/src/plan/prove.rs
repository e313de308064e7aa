//! The longest path through a plan, and the compile-time proof that the plan fits its timeout.

use std::time::Duration;

use super::{MAX_STEPS, Plan, PlanStep, StepSet};

/// Returns the time of the longest path. Every step takes its cost, and starts when all steps for which it waits have
/// ended.
pub(super) const fn longest(steps: &[PlanStep]) -> Duration {
    let finish = finishes(steps);
    let mut longest = 0;
    let mut i = 0;
    while i < steps.len() {
        if finish[i] > longest {
            longest = finish[i];
        }
        i += 1;
    }
    from_nanos(longest)
}

/// Returns the latest end of each step, in nanoseconds.
///
/// The compiler evaluates this function for every plan of every type, where calls take most of the time. So the
/// function makes few calls.
const fn finishes(steps: &[PlanStep]) -> [u128; MAX_STEPS] {
    let mut finish = [0; MAX_STEPS];
    let mut rest = steps;
    let mut i = 0;
    while let [step, others @ ..] = rest {
        let mut start = 0;
        let StepSet { mut low, mut high } = step.after;
        while low != 0 || high != 0 {
            let earlier = if low != 0 {
                low.trailing_zeros() as usize
            } else {
                128 + high.trailing_zeros() as usize
            };
            if low != 0 {
                low &= low - 1;
            } else {
                high &= high - 1;
            }
            assert!(
                earlier < i,
                "steps are listed in an order in which they can run"
            );
            if finish[earlier] > start {
                start = finish[earlier];
            }
        }
        finish[i] = start + step.cost;
        rest = others;
        i += 1;
    }
    finish
}

pub(super) const fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    if nanos / SECOND > u64::MAX as u128 {
        return Duration::MAX;
    }
    Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32)
}

/// Fails the compilation if the plan cannot fit its timeouts, and shows the sum in the message. `of_timeout` is
/// appended to the plan's timeout in the message.
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

/// Fails the compilation of a plan with too many steps.
#[track_caller]
pub(super) const fn too_many(name: &str, steps: &[PlanStep]) -> ! {
    Text::new()
        .push("`")
        .push(name)
        .push("` has ")
        .push_number(steps.len() as u128)
        .push(" steps, but a plan has at most ")
        .push_number(MAX_STEPS as u128)
        .push(": group fields into a struct of their own with `#[shutdown(part)]`")
        .panic()
}

/// The largest number of steps of a path that a message names, so that the advice at its end still fits.
const NAMED: usize = 12;

#[track_caller]
const fn over_budget(plan: &Plan, timeout: Duration, of_timeout: &str) {
    let path = Path::of(plan.steps);
    let mut len = path.len;
    let is_sum = len > 1;
    let mut text = Text::new();
    while len > 0 {
        if path.len - len == NAMED && len > 1 {
            text = text.push_number(len as u128).push(" more steps");
            break;
        }
        len -= 1;
        let step = &plan.steps[path.steps[len]];
        text = text.push(step.name).push(" ").push_nanos(step.cost);
        if step.timeout.is_none() && step.nested.is_none() {
            text = text.push(" (states no timeout)");
        }
        if len > 0 {
            text = text.push(" + ");
        }
    }
    if is_sum {
        text = text.push(" = ").push_duration(longest(plan.steps));
    }
    text.push(", but the timeout of `")
        .push(plan.name)
        .push("` is ")
        .push_duration(timeout)
        .push(of_timeout)
        .push(": raise it with `#[shutdown(timeout = \"…\")]` on the struct, or give these steps less")
        .panic();
}

/// The steps of the longest path.
struct Path {
    /// The indices of the steps, the last step first.
    steps: [usize; MAX_STEPS],
    len: usize,
}

impl Path {
    const fn of(steps: &[PlanStep]) -> Self {
        let finish = finishes(steps);
        let mut path = Self {
            steps: [0; MAX_STEPS],
            len: 0,
        };
        let mut last = last_of(&finish, steps.len(), None);
        while let Some(step) = last {
            path.steps[path.len] = step;
            path.len += 1;
            last = last_of(&finish, step, Some(steps[step].after));
        }
        path
    }
}

/// Returns the step with the latest end among `among`. If several steps have that end, returns the first of them.
const fn last_of(finish: &[u128; MAX_STEPS], len: usize, among: Option<StepSet>) -> Option<usize> {
    let mut last = None;
    let mut i = 0;
    while i < len {
        let counts = match among {
            Some(among) => among.has(i),
            None => true,
        };
        match last {
            Some(last) if !counts || finish[i] <= finish[last] => {}
            _ if counts => last = Some(i),
            _ => {}
        }
        i += 1;
    }
    last
}

/// A text built during compilation, where formatting is not possible.
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
        // The length is checked before each byte, so a text that does not fit is left out whole and the bytes stay
        // valid UTF-8.
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
        self.push_nanos(duration.as_nanos())
    }

    const fn push_nanos(self, nanos: u128) -> Self {
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
