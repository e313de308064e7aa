//! The validated model. Invalid states cannot be built here, so `expand` has nothing left to check.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use syn::{DeriveInput, Expr, ExprClosure, ExprPath, Path};

use crate::ast::Field;

/// The shutdown of a type, free of every mistake that its tokens could show.
pub(crate) struct Plan<'a> {
    pub(crate) source: &'a DeriveInput,
    /// The path of the runtime crate, if `crate = …` gives one.
    pub(crate) runtime: Option<&'a Path>,
    /// The type's name in plans, reports and logs.
    pub(crate) name: String,
    pub(crate) kind: Kind<'a>,
}

impl Plan<'_> {
    /// Returns the timeout of the whole type, if the type states one.
    pub(crate) fn timeout(&self) -> Option<&Budget<'_>> {
        match &self.kind {
            Kind::Owner { timeout, .. } | Kind::Part { timeout, .. } => {
                timeout.as_ref().map(|(timeout, _)| timeout)
            }
            Kind::Enum(_) => None,
        }
    }
}

/// The kind of type that is derived for.
pub(crate) enum Kind<'a> {
    /// A struct that is shut down by itself.
    Owner {
        state: &'a Field<'a>,
        /// Whether the derive writes `Drop`.
        drops: bool,
        /// The timeout and where it is written; `None` for the default, which the runtime knows.
        timeout: Option<(Budget<'a>, Span)>,
        body: Body<'a>,
    },
    /// A struct that lives inside another type.
    Part {
        timeout: Option<(Budget<'a>, Span)>,
        body: Body<'a>,
    },
    /// An enum, whose live variant is cleaned up.
    Enum(Vec<Variant<'a>>),
}

pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) body: Body<'a>,
}

/// The fields of a struct or variant, by what the shutdown does with them.
pub(crate) struct Body<'a> {
    /// The steps, in an order in which they could run one by one.
    pub(crate) steps: Vec<Step<'a>>,
    /// The fields that are not steps.
    pub(crate) non_steps: Vec<NonStep<'a>>,
}

/// A field that is not a step.
pub(crate) struct NonStep<'a> {
    pub(crate) field: &'a Field<'a>,
    /// The field's position in its struct or variant.
    pub(crate) index: usize,
    pub(crate) role: Role,
    /// Whether the closure of a step captures the field.
    pub(crate) captured: bool,
}

/// The reason why a field is not a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// No `#[shutdown]`: the field's type must not be a component.
    Plain,
    Skipped,
    State,
}

/// A field that the shutdown cleans up.
pub(crate) struct Step<'a> {
    pub(crate) field: &'a Field<'a>,
    /// The field's position in its struct or variant.
    pub(crate) index: usize,
    pub(crate) priority: i32,
    /// The steps that this one waits for directly, as positions in the plan.
    pub(crate) after: Vec<usize>,
    pub(crate) budget: Option<Budget<'a>>,
    pub(crate) cleanup: Cleanup<'a>,
    pub(crate) importance: Importance,
}

/// The effect that a step's failure has on the rest of the shutdown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Importance {
    Normal,
    Required,
    BestEffort,
}

/// A timeout, by when its value is known.
pub(crate) enum Budget<'a> {
    Constant(KnownTime<'a>),
    /// An expression that is evaluated at run time.
    Computed {
        expr: &'a Expr,
        self_meaning: SelfMeaning,
        at_most: Option<KnownTime<'a>>,
    },
}

/// A duration that the compiler can evaluate.
pub(crate) enum KnownTime<'a> {
    Literal(Duration),
    Const(&'a Expr),
}

/// The meaning of `self` in an expression.
pub(crate) enum SelfMeaning {
    /// The value itself.
    WholeValue,
    /// The named fields alone, because the value is destructured where the expression runs.
    Fields(Vec<Captured>),
}

/// A field that an expression reads as `self.name`.
pub(crate) struct Captured {
    pub(crate) name: String,
    /// The field's position in its struct or variant.
    pub(crate) index: usize,
}

/// The way in which a step cleans up its field.
pub(crate) enum Cleanup<'a> {
    /// The `Component` impl of the field's type. A `leaf` leaves the type's plan out of this one.
    Component { leaf: bool },
    /// The function or closure that `with` names.
    With(With<'a>),
}

/// A cleanup that is called instead of the `Component` impl of the field's type.
pub(crate) struct With<'a> {
    pub(crate) call: Callee<'a>,
    pub(crate) abort: Option<Callee<'a>>,
    pub(crate) access: Access,
    pub(crate) blocking: bool,
}

/// The form in which the called function gets the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// `&mut field`.
    Field,
    /// `&mut` to the value inside the field's `Option`.
    InsideOption,
    /// The value inside the field's `Option`, moved out.
    Taken,
}

/// A function or closure, with the place where the user wrote it.
pub(crate) struct Callee<'a> {
    pub(crate) function: Function<'a>,
    pub(crate) span: Span,
}

pub(crate) enum Function<'a> {
    Path(&'a ExprPath),
    Closure {
        source: &'a ExprClosure,
        captured: Vec<Captured>,
        /// Whether the closure takes the context as its second argument.
        takes_cx: bool,
    },
}
