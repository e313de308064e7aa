//! All steps of a plan, joined. Their futures are pinned together, so that what is left of a derived `cleanup` is a call.

use std::future::Future;
use std::pin::Pin;

use pin_project_lite::pin_project;

use crate::BoxError;
use crate::engine::Run;

macro_rules! join {
    ($Steps:ident $steps:ident $join:ident: $($Step:ident $step:ident)+) => {
        pin_project! {
            /// So many futures. They are held once: an async function that is given them would hold them twice, and
            /// so a plan four levels deep sixteen times.
            #[derive(Debug)]
            pub struct $Steps<$($Step),+> {
                $(#[pin] $step: $Step,)+
            }
        }

        /// Holds so many futures.
        #[allow(clippy::too_many_arguments)] // one a step
        pub fn $steps<$($Step),+>($($step: $Step),+) -> $Steps<$($Step),+> {
            $Steps { $($step),+ }
        }

        /// Joins so many steps.
        ///
        /// # Errors
        ///
        /// Those of [`Run::join`].
        pub fn $join<$($Step),+>(
            run: &Run,
            steps: Pin<&mut $Steps<$($Step),+>>,
        ) -> impl Future<Output = Result<(), BoxError>> + Send
        where
            $($Step: Future<Output = ()> + Send,)+
        {
            async move {
                let steps = steps.project();
                run.join(&mut [$(steps.$step),+]).await
            }
        }
    };
}

/// One function for each beginning of the list; the derive pins more steps than the longest takes by itself.
macro_rules! joins {
    ($($before:ident)*;) => {};
    ($($before:ident)*; $Steps:ident $steps:ident $join:ident $Step:ident $step:ident, $($rest:tt)*) => {
        join!($Steps $steps $join: $($before)* $Step $step);
        joins!($($before)* $Step $step; $($rest)*);
    };
}

joins! {;
    Steps1 steps1 join1 A a, Steps2 steps2 join2 B b, Steps3 steps3 join3 C c, Steps4 steps4 join4 D d,
    Steps5 steps5 join5 E e, Steps6 steps6 join6 F f, Steps7 steps7 join7 G g, Steps8 steps8 join8 H h,
    Steps9 steps9 join9 I i, Steps10 steps10 join10 J j, Steps11 steps11 join11 K k, Steps12 steps12 join12 L l,
    Steps13 steps13 join13 M m, Steps14 steps14 join14 N n, Steps15 steps15 join15 O o, Steps16 steps16 join16 P p,
    Steps17 steps17 join17 Q q, Steps18 steps18 join18 R r, Steps19 steps19 join19 S s, Steps20 steps20 join20 T t,
}
