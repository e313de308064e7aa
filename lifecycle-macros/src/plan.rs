//! The validated plan of a type. A `Plan` cannot hold an invalid state, so `expand` has nothing left to check.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use syn::{DeriveInput, Expr, ExprClosure, ExprPath, Path};

use crate::ast::Field;

/// The shutdown of a type, without any mistake that the type's tokens can show.
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

/// The kind of the type that has the derive.
pub(crate) enum Kind<'a> {
    /// A struct that has its own shutdown.
    Owner {
        state: &'a Field<'a>,
        /// Whether the derive writes an impl of `Drop`.
        drops: bool,
        /// The timeout, and the span at which it is written. `None` for the default timeout, which the runtime knows.
        timeout: Option<(Budget<'a>, Span)>,
        body: Body<'a>,
    },
    /// A struct that is a field of another type, whose shutdown cleans it.
    Part {
        timeout: Option<(Budget<'a>, Span)>,
        body: Body<'a>,
    },
    /// An enum. The shutdown cleans the variant that the value has.
    Enum(Vec<Variant<'a>>),
}

pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) body: Body<'a>,
}

/// The fields of a struct or variant, divided into steps and other fields.
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
    /// Whether the closure of some step captures the field.
    pub(crate) captured: bool,
}

/// The reason why a field is not a step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The field has no `#[shutdown]`, so its type must not be a component.
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
    /// The steps for which this step waits directly, as positions in the plan.
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

/// A timeout, which is known at compile time or at run time.
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
    /// `self` is the whole value.
    WholeValue,
    /// `self` is only these fields, because the value is destructured where the expression runs.
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
    /// The step calls the `Component` impl of the field's type. With `leaf`, this plan leaves out the plan of the
    /// field's type.
    Component { leaf: bool },
    /// The step calls the function or closure of `with`.
    With(With<'a>),
}

/// A function or closure that a step calls instead of the `Component` impl of the field's type.
pub(crate) struct With<'a> {
    pub(crate) call: Callee<'a>,
    pub(crate) abort: Option<Callee<'a>>,
    pub(crate) access: Access,
    pub(crate) blocking: bool,
}

/// The form in which the called function gets the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The function gets `&mut` to the field.
    Field,
    /// The function gets `&mut` to the value inside the field's `Option`.
    InsideOption,
    /// The function gets the value inside the field's `Option`, moved out of it.
    Taken,
}

/// A function or closure, with the span at which the user wrote it.
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
