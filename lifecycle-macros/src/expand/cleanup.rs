//! `cleanup`: one lazy future a step, all held and polled by one join.
//!
//! Methods are called by their paths: a trait of the user's that is implemented for every type would come first.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote_spanned};

use super::{Arm, Target, captured};
use crate::plan::{Callee, Cleanup, Function, Kind, Plan, Step, Through, With};

pub(super) fn cleanup(plan: &Plan<'_>, target: &Target<'_>) -> TokenStream {
    // Of a generic type the proof waits until its parameters are known.
    let proof = (target.generics.type_params().next().is_some()
        || target.generics.const_params().next().is_some())
    .then(|| super::checks::proof(plan, &here!(Self)))
    .map(|proof| here!(const { #proof };));
    let body = match &plan.kind {
        Kind::OneOf(_) => one_of(plan),
        Kind::Owner { .. } | Kind::Part { .. } => structure(plan),
    };
    here! {
        fn cleanup(
            &mut self,
            __cx: &__lc::Context,
        ) -> impl __lc::Future<Output = __lc::Result<(), __lc::BoxError>> + __lc::Send {
            #proof
            #body
        }
    }
}

fn structure(plan: &Plan<'_>) -> TokenStream {
    let constant = here!(__lc::plan_of::<Self>());
    let open = if plan.is_owner() {
        here!(__lc::OpenPlan::owner(__cx, &mut *self, #constant))
    } else {
        open(plan, &constant)
    };
    let arms = plan.arms().into_iter().map(|arm| {
        let (pattern, share, steps) = (arm.pattern(), arm.share(), steps(&arm));
        here!(let #pattern = self; #share #steps)
    });
    here!(let __plan = #open; #(#arms)*)
}

fn open(plan: &Plan<'_>, constant: &TokenStream) -> TokenStream {
    let address = here!(__lc::address(&*self));
    match super::times::collect(plan) {
        Some(collect) => here!(__lc::OpenPlan::timed_part(__cx, #constant, #address, #collect)),
        None => here!(__lc::OpenPlan::part(__cx, #constant, #address)),
    }
}

/// Variants differ in their futures, so one that awaits any of them is put around them.
fn one_of(plan: &Plan<'_>) -> TokenStream {
    let arms = plan.arms();
    if arms.is_empty() {
        return sent(&here!(match *self {}));
    }
    if arms.iter().all(|arm| arm.body.steps.is_empty()) {
        return sent(&here!(__lc::Ok(())));
    }
    let places = arms.iter().enumerate().map(|(place, arm)| {
        let (path, place) = (&arm.path, Literal::usize_unsuffixed(place));
        if arm.body.steps.is_empty() {
            here!(#path { .. } => return __lc::Ok(()),)
        } else {
            here!(#path { .. } => #place,)
        }
    });
    let cleaned = arms.iter().map(|arm| {
        if arm.body.steps.is_empty() {
            let path = &arm.path;
            return here!(#path { .. } => __lc::Ok(()),);
        }
        let (pattern, share, steps) = (arm.pattern(), arm.share(), steps(arm));
        here!(#pattern => { #share #steps.await })
    });
    let open = open(
        plan,
        &here!(__lc::Plan::__variant(__lc::plan_of::<Self>(), __live)),
    );
    sent(&here! {
        let __live = match &*self { #(#places)* };
        let __plan = #open;
        match self { #(#cleaned)* }
    })
}

/// A future that holds more than steps: where the type itself cannot be sent, that was told already.
fn sent(body: &TokenStream) -> TokenStream {
    here!(<__lc::Probe<Self>>::cleanup(async move { #body }))
}

/// How many steps one call joins.
const JOINED_AT_ONCE: usize = 20;

/// One future of all steps.
fn steps(arm: &Arm<'_>) -> TokenStream {
    let steps = &arm.body.steps;
    if steps.len() <= JOINED_AT_ONCE {
        let steps_of = steps
            .iter()
            .enumerate()
            .map(|(place, step)| self::step(place, step));
        let join = format_ident!("join{}", steps.len(), span = Span::mixed_site());
        return here!(__lc::#join(#(#steps_of,)* __plan));
    }
    let locals: Vec<_> = (0..steps.len()).map(local).collect();
    let futures = steps.iter().enumerate().map(|(place, step)| {
        let step = self::step(place, step);
        let place = Literal::usize_unsuffixed(place);
        here!(__lc::Step::run(#step, __lc::OpenPlan::step(&__plan, #place)))
    });
    sent(&here! {
        #(let mut #locals = __lc::pin!(#futures);)*
        __lc::join_pinned(__plan, &mut [#(__lc::Pin::as_mut(&mut #locals)),*]).await
    })
}

fn local(place: usize) -> Ident {
    format_ident!("__s{}", place, span = Span::mixed_site())
}

fn step(place: usize, step: &Step<'_>) -> TokenStream {
    let place = Literal::usize_unsuffixed(place);
    let with = match &step.cleanup {
        Cleanup::Component { .. } => {
            let (ty, field) = (step.field.ty, super::binding(step.index));
            return here!(<__lc::Probe<#ty>>::own(#field));
        }
        Cleanup::With(with) => with,
    };
    // What is wrong in a call, be it the field's type or that the future cannot be sent, is reported where it is written.
    let span = Span::mixed_site().located_at(with.call.span);
    let field = super::binding_at(step.index, span);
    let call = if with.blocking {
        blocking(with, &field)
    } else {
        asynchronous(with, &field)
    };
    let abort = super::forced::abort_of_step(with, &field);
    let body = here! {
        let __step = __lc::StepRun::begin(__handle);
        let __result = __lc::StepRun::run(&__step, async { #call }).await;
        __lc::StepRun::end(__step, __result, |__step| { #abort });
    };
    let step = quote_spanned!(span=> __lc::sendable(async move { #body }));
    here!({ let __handle = __lc::OpenPlan::step(&__plan, #place); #step })
}

/// On the task itself: the value is borrowed, or moved out of its `Option`.
fn asynchronous(with: &With<'_>, field: &Ident) -> TokenStream {
    let span = Span::mixed_site().located_at(with.call.span);
    let (value, cx) = (
        quote_spanned!(span=> __value),
        quote_spanned!(span=> __lc::StepRun::cx(&__step)),
    );
    match with.through {
        Through::Field => settle(
            &with.call,
            &quote_spanned!(span=> &mut *#field),
            Passed::Lent,
            &cx,
        ),
        Through::Option => {
            let call = settle(&with.call, &value, Passed::Lent, &cx);
            here!(match &mut *#field { __lc::Some(__value) => #call, __lc::None => __lc::StepRun::found_nothing(&__step) })
        }
        Through::Taken => {
            let call = settle(&with.call, &value, Passed::Moved, &cx);
            here!(match __lc::Option::take(#field) {
                __lc::Some(__value) => { __lc::StepRun::took(&__step); #call }
                __lc::None => __lc::StepRun::found_nothing(&__step),
            })
        }
    }
}

fn settle(
    callee: &Callee<'_>,
    value: &TokenStream,
    passed: Passed,
    cx: &TokenStream,
) -> TokenStream {
    let call = call(callee, value, passed, Some(cx));
    let span = Span::mixed_site().located_at(callee.span);
    quote_spanned!(span=> __lc::settle!(#call))
}

/// How a function is given the value.
#[derive(Clone, Copy)]
pub(super) enum Passed {
    /// As `&mut`.
    Lent,
    /// The value itself.
    Moved,
}

/// The call itself. A path is called directly, so that its argument is coerced; a closure through a function, which
/// ties the lifetime of what it returns to that of its argument.
pub(super) fn call(
    callee: &Callee<'_>,
    value: &TokenStream,
    passed: Passed,
    cx: Option<&TokenStream>,
) -> TokenStream {
    let span = Span::mixed_site().located_at(callee.span);
    let by = match passed {
        Passed::Lent => "call",
        Passed::Moved => "call_owned",
    };
    match &callee.function {
        Function::Path(path) => match passed {
            Passed::Lent => quote_spanned!(span=> __lc::lend!(#path, #value)),
            Passed::Moved => quote_spanned!(span=> #path(#value)),
        },
        Function::Closure {
            source,
            captured,
            cx: takes_cx,
        } => {
            let closure = captured::fields(source, captured);
            if *takes_cx {
                let by = format_ident!("{}_cx", by, span = span);
                quote_spanned!(span=> __lc::#by(#closure, #value, #cx))
            } else {
                let by = Ident::new(by, span);
                quote_spanned!(span=> __lc::#by(#closure, #value))
            }
        }
    }
}

/// On a thread of the blocking pool, where the value is moved and from where it comes back, unless it is taken.
fn blocking(with: &With<'_>, field: &Ident) -> TokenStream {
    let span = Span::mixed_site().located_at(with.call.span);
    let value = quote_spanned!(span=> __value);
    let (passed, on_pool) = match with.through {
        Through::Field | Through::Option => (Passed::Lent, quote_spanned!(span=> blocking)),
        Through::Taken => (Passed::Moved, quote_spanned!(span=> blocking_taken)),
    };
    let call = call(&with.call, &value, passed, None);
    quote_spanned!(span=> __lc::#on_pool(#field, &__step, |__value| __lc::settle_now!(#call)).await)
}
