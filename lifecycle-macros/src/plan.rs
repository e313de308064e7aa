//! The validated model: what cannot be built here cannot be wrong, so `expand` has nothing left to check.

use std::time::Duration;

use proc_macro2::{Ident, Span};
use syn::{DeriveInput, Expr, ExprClosure, ExprPath, Path};

use crate::ast::Field;

/// A type whose shutdown is declared without a mistake that its tokens could show.
pub(crate) struct Plan<'a> {
    pub(crate) source: &'a DeriveInput,
    /// The path of the runtime crate, if it was given.
    pub(crate) runtime: Option<&'a Path>,
    /// What reports call the type.
    pub(crate) name: String,
    pub(crate) kind: Kind<'a>,
}

impl Plan<'_> {
    /// The timeout that is stated for the whole type.
    pub(crate) fn timeout(&self) -> Option<&Budget<'_>> {
        match &self.kind {
            Kind::Owner { timeout, .. } | Kind::Part { timeout, .. } => {
                timeout.as_ref().map(|(timeout, _)| timeout)
            }
            Kind::OneOf(_) => None,
        }
    }
}

pub(crate) enum Kind<'a> {
    /// Shut down by itself.
    Owner {
        state: &'a Field<'a>,
        drops: bool,
        /// With the place where it is stated; `None` for the default, which the runtime knows.
        timeout: Option<(Budget<'a>, Span)>,
        body: Body<'a>,
    },
    /// A struct that lives inside another.
    Part {
        timeout: Option<(Budget<'a>, Span)>,
        body: Body<'a>,
    },
    /// An enum: the live variant is cleaned.
    OneOf(Vec<Variant<'a>>),
}

pub(crate) struct Variant<'a> {
    pub(crate) ident: &'a Ident,
    pub(crate) body: Body<'a>,
}

/// The fields of a struct or variant, by what the shutdown does with them.
pub(crate) struct Body<'a> {
    /// In an order in which they could run one by one.
    pub(crate) steps: Vec<Step<'a>>,
    /// Every field that is no step.
    pub(crate) others: Vec<Other<'a>>,
}

/// A field that is no step.
pub(crate) struct Other<'a> {
    pub(crate) field: &'a Field<'a>,
    pub(crate) index: usize,
    pub(crate) role: Role,
    /// Whether a closure of a step reads it.
    pub(crate) lent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Without `#[shutdown]`: it must be no component.
    Plain,
    Skipped,
    State,
}

pub(crate) struct Step<'a> {
    pub(crate) field: &'a Field<'a>,
    /// Its place among the fields.
    pub(crate) index: usize,
    pub(crate) priority: i32,
    /// The steps it waits for directly, as places in the plan.
    pub(crate) after: Vec<usize>,
    pub(crate) budget: Option<Budget<'a>>,
    pub(crate) cleanup: Cleanup<'a>,
    pub(crate) weight: Weight,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Normal,
    Required,
    BestEffort,
}

pub(crate) enum Budget<'a> {
    Known(Known<'a>),
    /// Known only at run time.
    Computed {
        expr: &'a Expr,
        this: This,
        at_most: Option<Known<'a>>,
    },
}

pub(crate) enum Known<'a> {
    Time(Duration),
    Const(&'a Expr),
}

/// What `self` means in an expression.
pub(crate) enum This {
    /// The value as a whole.
    Whole,
    /// These fields alone: the value is taken apart there.
    Fields(Vec<Captured>),
}

/// A field that an expression reads as `self.name`.
pub(crate) struct Captured {
    pub(crate) name: String,
    /// Its place among the fields.
    pub(crate) index: usize,
}

pub(crate) enum Cleanup<'a> {
    /// What the type's own implementation does. A leaf hides the plan of the type.
    Component {
        leaf: bool,
    },
    With(With<'a>),
}

/// What is called instead of the type's own cleanup.
pub(crate) struct With<'a> {
    pub(crate) call: Callee<'a>,
    pub(crate) abort: Option<Callee<'a>>,
    pub(crate) through: Through,
    pub(crate) blocking: bool,
}

/// How the called function gets at the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// `&mut field`.
    Field,
    /// `&mut` what is inside the `Option`.
    Option,
    /// What is inside the `Option`, moved out.
    Taken,
}

/// Something to call, with the place where it is written.
pub(crate) struct Callee<'a> {
    pub(crate) function: Function<'a>,
    pub(crate) span: Span,
}

pub(crate) enum Function<'a> {
    Path(&'a ExprPath),
    Closure {
        source: &'a ExprClosure,
        captured: Vec<Captured>,
        /// Whether it is called with the context, too.
        cx: bool,
    },
}
