//! The joins of a plan's steps. There is one future type for each number of steps, and its poll is compiled once for
//! each list of step types.

use std::future::{Future, poll_fn, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::engine::{Join, OpenPlan, StepFuture, StepHandle, component};
use crate::{BoxError, Component};

/// A value that can be run as a step.
pub trait Step: Send {
    /// Runs the step. It begins when the returned future is first polled.
    fn run(self, handle: StepHandle) -> impl Future<Output = ()> + Send;
}

/// The step of a field that is a component.
#[derive(Debug)]
pub struct FieldStep<'a, C: ?Sized>(&'a mut C);

impl<'a, C: ?Sized> FieldStep<'a, C> {
    /// Creates the step that cleans `field`.
    pub fn of(field: &'a mut C) -> Self {
        Self(field)
    }
}

impl<C: Component + ?Sized> Step for FieldStep<'_, C> {
    fn run(self, handle: StepHandle) -> impl Future<Output = ()> + Send {
        component(handle, self.0)
    }
}

/// The step of a field that has `with =`. The future `F` begins and ends the step itself.
#[derive(Debug)]
struct With<F>(F);

impl<F: Future<Output = ()> + Send> Step for With<F> {
    fn run(self, _: StepHandle) -> impl Future<Output = ()> + Send {
        self.0
    }
}

/// The step of a field that is not a component. The compile error about the field is reported elsewhere.
#[derive(Debug)]
pub struct NoStep;

impl Step for NoStep {
    fn run(self, _: StepHandle) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// Turns a future into a step. It requires `Send` for each step separately, so that the error points to the step.
pub fn sendable<F: Future<Output = ()> + Send>(step: F) -> impl Step {
    With(step)
}

/// Joins a plan without steps.
pub fn join0(plan: OpenPlan) -> impl Future<Output = Result<(), BoxError>> + Send {
    let mut join = Join::new(plan);
    poll_fn(move |cx| join.poll(&mut [], cx))
}

macro_rules! join {
    ($Steps:ident $join:ident: $($Step:ident $step:ident $place:literal,)+) => {
        pin_project! {
            /// The joined steps. This hand-written future holds each step once. An async function would hold its
            /// arguments twice, and so a plan four levels deep sixteen times.
            struct $Steps<$($Step),+> {
                join: Join,
                $(#[pin] $step: $Step,)+
            }
        }

        impl<$($Step: Future<Output = ()> + Send),+> Future for $Steps<$($Step),+> {
            type Output = Result<(), BoxError>;

            fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
                let this = self.project();
                this.join.poll(&mut [$(this.$step as StepFuture<'_, '_>),+], cx)
            }
        }

        /// Joins the steps of a plan that has this number of steps.
        #[allow(clippy::too_many_arguments)] // one a step
        pub fn $join<$($Step: Step),+>(
            $($step: $Step,)+
            plan: OpenPlan,
        ) -> impl Future<Output = Result<(), BoxError>> + Send {
            $Steps {
                $($step: $step.run(plan.step($place)),)+
                join: Join::new(plan),
            }
        }
    };
}

/// Defines a join for each prefix of the list. For a plan with more steps the derive pins the steps itself.
macro_rules! joins {
    ([$($before:tt)*]) => {};
    ([$($before:tt)*] $Steps:ident $join:ident $Step:ident $step:ident $place:literal, $($rest:tt)*) => {
        join!($Steps $join: $($before)* $Step $step $place,);
        joins!([$($before)* $Step $step $place,] $($rest)*);
    };
}

joins! { []
    Steps1 join1 A a 0, Steps2 join2 B b 1, Steps3 join3 C c 2, Steps4 join4 D d 3,
    Steps5 join5 E e 4, Steps6 join6 F f 5, Steps7 join7 G g 6, Steps8 join8 H h 7,
    Steps9 join9 I i 8, Steps10 join10 J j 9, Steps11 join11 K k 10, Steps12 join12 L l 11,
    Steps13 join13 M m 12, Steps14 join14 N n 13, Steps15 join15 O o 14, Steps16 join16 P p 15,
    Steps17 join17 Q q 16, Steps18 join18 R r 17, Steps19 join19 S s 18, Steps20 join20 T t 19,
}
