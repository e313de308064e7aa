//! The writer of `cleanup`: one lazy future for each step, and one join that holds and polls all these futures.
//!
//! Generated code calls methods by their paths, because a user's trait that is implemented for every type could have a
//! method of the same name.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{format_ident, quote_spanned};

use super::{Arm, ImplTarget, captured};
use crate::plan::{Access, Callee, Cleanup, Function, Kind, Plan, Step, With};

pub(super) fn cleanup(plan: &Plan<'_>, target: &ImplTarget<'_>) -> TokenStream {
    // A generic type gets its proof here, because its parameters are known where `cleanup` is compiled for them.
    let proof = (target.generics.type_params().next().is_some()
        || target.generics.const_params().next().is_some())
    .then(|| super::checks::proof(plan, &quote_mixed!(Self)))
    .map(|proof| quote_mixed!(const { #proof };));
    let body = match &plan.kind {
        Kind::Enum(_) => enum_body(plan),
        Kind::Owner { .. } | Kind::Part { .. } => struct_body(plan),
    };
    quote_mixed! {
        fn cleanup(
            &mut self,
            __cx: &__lc::Context,
        ) -> impl __lc::Future<Output = __lc::Result<(), __lc::BoxError>> + __lc::Send {
            #proof
            #body
        }
    }
}

fn struct_body(plan: &Plan<'_>) -> TokenStream {
    let constant = quote_mixed!(__lc::plan_of::<Self>());
    let open = if plan.is_owner() {
        quote_mixed!(__lc::OpenPlan::owner(__cx, &mut *self, #constant))
    } else {
        open(plan, &constant)
    };
    let arms = plan.arms().into_iter().map(|arm| {
        let (pattern, reborrow, steps) = (arm.pattern(), arm.reborrow_captured(), steps(&arm));
        quote_mixed!(let #pattern = self; #reborrow #steps)
    });
    quote_mixed!(let __plan = #open; #(#arms)*)
}

fn open(plan: &Plan<'_>, constant: &TokenStream) -> TokenStream {
    let address = quote_mixed!(__lc::address(&*self));
    match super::times::collect(plan) {
        Some(collect) => {
            quote_mixed!(__lc::OpenPlan::timed_part(__cx, #constant, #address, #collect))
        }
        None => quote_mixed!(__lc::OpenPlan::part(__cx, #constant, #address)),
    }
}

/// Writes the cleanup of an enum. The futures of its variants differ in type, so one async block awaits the future of
/// the variant that the value has.
fn enum_body(plan: &Plan<'_>) -> TokenStream {
    let arms = plan.arms();
    if arms.is_empty() {
        return wrap_future(&quote_mixed!(match *self {}));
    }
    if arms.iter().all(|arm| arm.body.steps.is_empty()) {
        return wrap_future(&quote_mixed!(__lc::Ok(())));
    }
    let positions = arms.iter().enumerate().map(|(position, arm)| {
        let (path, position) = (&arm.path, Literal::usize_unsuffixed(position));
        if arm.body.steps.is_empty() {
            quote_mixed!(#path { .. } => return __lc::Ok(()),)
        } else {
            quote_mixed!(#path { .. } => #position,)
        }
    });
    let cleaned = arms.iter().map(|arm| {
        if arm.body.steps.is_empty() {
            let path = &arm.path;
            return quote_mixed!(#path { .. } => __lc::Ok(()),);
        }
        let (pattern, reborrow, steps) = (arm.pattern(), arm.reborrow_captured(), steps(arm));
        quote_mixed!(#pattern => { #reborrow #steps.await })
    });
    let open = open(
        plan,
        &quote_mixed!(__lc::Plan::__variant(__lc::plan_of::<Self>(), __live)),
    );
    wrap_future(&quote_mixed! {
        let __live = match &*self { #(#positions)* };
        let __plan = #open;
        match self { #(#cleaned)* }
    })
}

/// Wraps a future that holds more than steps. The wrapper's bound on `Self` keeps the compiler from reporting a second
/// time that the type is not `Send`.
fn wrap_future(body: &TokenStream) -> TokenStream {
    quote_mixed!(<__lc::Probe<Self>>::cleanup(async move { #body }))
}

/// The largest number of steps that one call joins without pinning each step.
const JOINED_AT_ONCE: usize = 20;

/// Returns the code of one future that runs all steps.
fn steps(arm: &Arm<'_>) -> TokenStream {
    let steps = &arm.body.steps;
    if steps.len() <= JOINED_AT_ONCE {
        let steps_of = steps
            .iter()
            .enumerate()
            .map(|(position, step)| self::step(position, step));
        let join = format_ident!("join{}", steps.len(), span = Span::mixed_site());
        return quote_mixed!(__lc::#join(#(#steps_of,)* __plan));
    }
    let locals: Vec<_> = (0..steps.len()).map(local).collect();
    let futures = steps.iter().enumerate().map(|(position, step)| {
        let step = self::step(position, step);
        let position = Literal::usize_unsuffixed(position);
        quote_mixed!(__lc::Step::run(#step, __lc::OpenPlan::step(&__plan, #position)))
    });
    wrap_future(&quote_mixed! {
        #(let mut #locals = __lc::pin!(#futures);)*
        __lc::join_pinned(__plan, &mut [#(__lc::Pin::as_mut(&mut #locals)),*]).await
    })
}

fn local(position: usize) -> Ident {
    format_ident!("__s{}", position, span = Span::mixed_site())
}

fn step(position: usize, step: &Step<'_>) -> TokenStream {
    let position = Literal::usize_unsuffixed(position);
    let with = match &step.cleanup {
        Cleanup::Component { .. } => {
            let (ty, field) = (step.field.ty, super::binding(step.index));
            return quote_mixed!(<__lc::Probe<#ty>>::step(#field));
        }
        Cleanup::With(with) => with,
    };
    // The span makes the compiler report a wrong type, or a future that is not `Send`, at the call that the user wrote.
    let span = Span::mixed_site().located_at(with.call.span);
    let field = super::binding_at(step.index, span);
    let call = if with.blocking {
        blocking(with, &field)
    } else {
        asynchronous(with, &field)
    };
    let abort = super::forced::abort_of_step(with, &field);
    let body = quote_mixed! {
        let __step = __lc::StepRun::begin(__handle);
        let __result = __lc::StepRun::run(&__step, async { #call }).await;
        __lc::StepRun::end(__step, __result, |__step| { #abort });
    };
    let step = quote_spanned!(span=> __lc::sendable(async move { #body }));
    quote_mixed!({ let __handle = __lc::OpenPlan::step(&__plan, #position); #step })
}

/// Writes a call that runs on the shutdown's own task. The call borrows the value or moves it out of its `Option`.
fn asynchronous(with: &With<'_>, field: &Ident) -> TokenStream {
    let span = Span::mixed_site().located_at(with.call.span);
    let (value, cx) = (
        quote_spanned!(span=> __value),
        quote_spanned!(span=> __lc::StepRun::cx(&__step)),
    );
    match with.access {
        Access::Field => settle(
            &with.call,
            &quote_spanned!(span=> &mut *#field),
            Passed::Borrowed,
            &cx,
        ),
        Access::InsideOption => {
            let call = settle(&with.call, &value, Passed::Borrowed, &cx);
            quote_mixed!(match &mut *#field { __lc::Some(__value) => #call, __lc::None => __lc::StepRun::found_nothing(&__step) })
        }
        Access::Taken => {
            let call = settle(&with.call, &value, Passed::Moved, &cx);
            quote_mixed!(match __lc::Option::take(#field) {
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

/// The form in which a called function gets the value of its field.
#[derive(Clone, Copy)]
pub(super) enum Passed {
    /// The function gets a `&mut` to the value.
    Borrowed,
    /// The function gets the value itself.
    Moved,
}

/// Writes the call of a function or closure. A path is called directly, so that the argument is coerced. A closure is
/// called through a function, which ties the lifetime of the returned value to that of the argument.
pub(super) fn call(
    callee: &Callee<'_>,
    value: &TokenStream,
    passed: Passed,
    cx: Option<&TokenStream>,
) -> TokenStream {
    let span = Span::mixed_site().located_at(callee.span);
    let by = match passed {
        Passed::Borrowed => "call",
        Passed::Moved => "call_owned",
    };
    match &callee.function {
        Function::Path(path) => match passed {
            Passed::Borrowed => quote_spanned!(span=> __lc::call_borrowed!(#path, #value)),
            Passed::Moved => quote_spanned!(span=> #path(#value)),
        },
        Function::Closure {
            source,
            captured,
            takes_cx,
        } => {
            let closure = captured::with_fields(source, captured);
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

/// Writes a call that runs on the blocking pool. The value is moved to the pool and back, unless `take` lets the
/// function consume it.
fn blocking(with: &With<'_>, field: &Ident) -> TokenStream {
    let span = Span::mixed_site().located_at(with.call.span);
    let value = quote_spanned!(span=> __value);
    let (passed, on_pool) = match with.access {
        Access::Field | Access::InsideOption => (Passed::Borrowed, quote_spanned!(span=> blocking)),
        Access::Taken => (Passed::Moved, quote_spanned!(span=> blocking_taken)),
    };
    let call = call(&with.call, &value, passed, None);
    quote_spanned!(span=> __lc::#on_pool(#field, &__step, |__value| __lc::settle_now!(#call)).await)
}
