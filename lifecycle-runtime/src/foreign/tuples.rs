//! The components of tuples. Their fields are cleaned together, with a row each.

use std::future::Future;

use super::containers::{resolve_together, together};
use crate::component::End;
use crate::derived::*;
use crate::engine::{OpenPlan, address_of};
use crate::plan::PlanStep;
use crate::{BoxError, Component, Context, MustClean, Plan, ResolvedPlan};

macro_rules! tuple {
    ($join:ident: $($T:ident $place:tt),+) => {
        impl<$($T: MustClean),+> MustClean for ($($T,)+) {}

        impl<$($T: Component),+> Component for ($($T,)+) {
            const PLAN: Plan = together(const { &steps([$(plan_of::<$T>()),+]) });

            const __IS_PLAN: bool = true;

            fn cleanup(
                &mut self,
                cx: &Context,
            ) -> impl Future<Output = Result<(), BoxError>> + Send {
                let rows = const { &Plan::together(const { &steps([$(plan_of::<$T>()),+]) }) };
                let plan = OpenPlan::part(cx, rows, address_of(self));
                $join($(FieldStep::of(&mut self.$place)),+, plan)
            }

            fn __end_parts(&mut self, end: End) {
                let plan = const { &Plan::together(const { &steps([$(plan_of::<$T>()),+]) }) };
                let by = EndParts::part(end, self, plan);
                $(by.component($place, &mut self.$place);)+
            }

            fn __plan(&self) -> ResolvedPlan {
                let rows = const { &steps([$(plan_of::<$T>()),+]) };
                resolve_together(rows, vec![$(($place, self.$place.__plan())),+])
            }
        }
    };
}

/// Creates a step for each field of a tuple, from the plans of the fields.
const fn steps<const N: usize>(plans: [&'static Plan; N]) -> [PlanStep; N] {
    const NAMES: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
    let mut steps = [PlanStep::__new("", 0); N];
    let mut i = 0;
    while i < N {
        steps[i] = PlanStep::__new(NAMES[i], 0).__nested(plans[i]);
        i += 1;
    }
    steps
}

tuple!(join1: A 0);
tuple!(join2: A 0, B 1);
tuple!(join3: A 0, B 1, C 2);
tuple!(join4: A 0, B 1, C 2, D 3);
tuple!(join5: A 0, B 1, C 2, D 3, E 4);
tuple!(join6: A 0, B 1, C 2, D 3, E 4, F 5);
tuple!(join7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple!(join8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
tuple!(join9: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8);
tuple!(join10: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9);
tuple!(join11: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10);
tuple!(join12: A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9, K 10, L 11);
