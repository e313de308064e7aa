//! Tuples: cleaned together, a row for each place.

use std::future::Future;
use std::pin::{Pin, pin};

use super::containers::{on_each, resolve_together, together};
use crate::engine::Run;
use crate::plan::PlanStep;
use crate::{BoxError, Component, Context, Plan, ResolvedPlan};

macro_rules! tuple {
    ($($T:ident $place:tt),+) => {
        impl<$($T: Component),+> Component for ($($T,)+) {
            const PLAN: Plan = together(const { &steps([$($T::PLAN),+]) });

            async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
                let rows = const { &Plan::together(const { &steps([$($T::PLAN),+]) }) };
                let run = Run::open(cx, &*self, rows);
                run.join(&mut [
                    $(pin!(run.component($place, &mut self.$place)) as Pin<&mut (dyn Future<Output = ()> + Send + '_)>),+
                ])
                .await
            }

            fn abort(&mut self) {
                let each: [&mut dyn FnMut(); _] = [$(&mut || self.$place.abort()),+];
                on_each(each, |abort| abort());
            }

            fn release(&mut self) {
                let each: [&mut dyn FnMut(); _] = [$(&mut || self.$place.release()),+];
                on_each(each, |release| release());
            }

            fn __plan(&self) -> ResolvedPlan {
                let rows = const { &steps([$($T::PLAN),+]) };
                resolve_together(rows, vec![$(($place, self.$place.__plan())),+])
            }
        }
    };
}

/// A step for each place.
const fn steps<const N: usize>(plans: [Plan; N]) -> [PlanStep; N] {
    const NAMES: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    let mut steps = [PlanStep::__new("", 0); N];
    let mut i = 0;
    while i < N {
        steps[i] = PlanStep::__new(NAMES[i], 0).__nested(plans[i]);
        i += 1;
    }
    steps
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
