//! A plan opened: laid out once, taken up again after that.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::live::Origin;
use super::times::{SetTime, Times};
use super::{Live, Seat};
use crate::__private::Owner;
use crate::context::after;
use crate::{Context, Plan, clock, log};

/// A plan that runs. What the derive writes opens it and has it joined; nothing else should.
///
/// Nothing here is generic over what the plan is of: it is compiled once, and not for each type that is derived.
#[derive(Debug)]
pub struct Run {
    pub(super) live: Arc<Live>,
    pub(super) plan: &'static Plan,
    pub(super) root: bool,
}

impl Run {
    /// Opens the plan of a part, or of a variant of one.
    pub fn open(cx: &Context, plan: &'static Plan) -> Self {
        Self::nested(cx, plan, &Times::stated(plan))
    }

    /// Likewise, where some of its timeouts are computed.
    pub fn open_timed(
        cx: &Context,
        plan: &'static Plan,
        tell: &mut dyn FnMut(&mut SetTime<'_>),
    ) -> Self {
        Self::nested(cx, plan, &Times::told(plan, tell))
    }

    /// Opens the plan of an owner, and has its state remember it.
    pub fn open_owned(cx: &Context, owner: &mut dyn Owner, plan: &'static Plan) -> Self {
        if let Some(live) = owner.__state().live() {
            let live = Arc::clone(live);
            if let Some(seat) = cx.seat() {
                // It ran, or began to run, by itself before its owner's owner came to it.
                seat.adopt(&live);
            }
            if !live.is_open() {
                lay_out(&live, plan, &Times::of(owner, plan), clock::now());
            }
            return Self {
                live,
                plan,
                root: cx.is_root(),
            };
        }
        let run = Self::nested(cx, plan, &Times::of(owner, plan));
        if owner.__state().is_disarmed() {
            run.live.finish_empty(clock::now());
        } else {
            owner.__state().run(Arc::clone(&run.live));
        }
        run
    }

    fn nested(cx: &Context, plan: &'static Plan, times: &Times) -> Self {
        let now = clock::now();
        let deadline = match times.total {
            Some(total) => cx.hard_deadline().min(after(now, total)),
            None => cx.hard_deadline(),
        };
        let live = match cx.seat() {
            Some(seat) => seat.open(cx.open_next(), plan.name(), deadline),
            None => {
                let origin = Origin::new(cx.reason().clone(), now);
                Live::root(plan.name(), origin, deadline)
            }
        };
        if !live.is_open() {
            lay_out(&live, plan, times, now);
        }
        Self {
            live,
            plan,
            root: false,
        }
    }

    /// A row for each name, for the elements of a container, and where each is.
    pub(super) fn open_elements(
        cx: &Context,
        names: Vec<Cow<'static, str>>,
    ) -> (Arc<Live>, Vec<usize>) {
        let live = match cx.seat() {
            Some(seat) => seat.open(cx.open_next(), "", cx.hard_deadline()),
            None => {
                let origin = Origin::new(cx.reason().clone(), clock::now());
                Live::root("", origin, cx.hard_deadline())
            }
        };
        let places = live.lay_out_elements(names);
        (live, places)
    }

    /// Where the component of step `i` sits.
    pub fn seat(&self, i: usize) -> Seat {
        Seat::step(Arc::clone(&self.live), i)
    }
}

fn lay_out(live: &Live, plan: &Plan, times: &Times, now: Instant) {
    if let Some((needed, given)) = live.lay_out(plan, times, now) {
        if times.known_late {
            log::shrunk(plan.name(), needed, given);
        }
    }
}
