//! The functions that recognize constant expressions by their tokens.

use syn::{BinOp, Expr, ExprCall, ExprLit, ExprPath, Lit, Path};

/// The constructors of `Duration` that count as constants.
const CONSTRUCTORS: [&str; 9] = [
    "new",
    "from_secs",
    "from_millis",
    "from_micros",
    "from_nanos",
    "from_mins",
    "from_hours",
    "from_days",
    "from_weeks",
];

/// Returns whether a timeout is constant: a `const` block, the name of a constant, or a `Duration` made of numbers and
/// constants. Any other expression may depend on run-time values.
pub(super) fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Const(_) => true,
        Expr::Group(group) => is_constant(&group.expr),
        Expr::Paren(paren) => is_constant(&paren.expr),
        Expr::Path(path) => names_a_constant(path),
        Expr::Call(call) => constructs_duration(call),
        _ => false,
    }
}

/// Returns whether the call constructs a `Duration`, such as `Duration::from_secs(30)`, whatever path leads to
/// `Duration`.
fn constructs_duration(call: &ExprCall) -> bool {
    let Expr::Path(ExprPath {
        qself: None, path, ..
    }) = &*call.func
    else {
        return false;
    };
    let mut names = path.segments.iter().rev().map(|segment| &segment.ident);
    let is_constructor = names
        .next()
        .is_some_and(|name| CONSTRUCTORS.iter().any(|known| name == known));
    is_constructor
        && names.next().is_some_and(|name| name == "Duration")
        && call.args.iter().all(is_number)
}

/// Returns whether the expression is an integer made of literals and constants.
fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Lit(ExprLit {
            lit: Lit::Int(_), ..
        })
        | Expr::Const(_) => true,
        Expr::Group(group) => is_number(&group.expr),
        Expr::Paren(paren) => is_number(&paren.expr),
        Expr::Cast(cast) => is_number(&cast.expr),
        Expr::Path(path) => names_a_constant(path),
        Expr::Binary(binary) => {
            let is_arithmetic = matches!(
                binary.op,
                BinOp::Add(_) | BinOp::Sub(_) | BinOp::Mul(_) | BinOp::Div(_) | BinOp::Rem(_)
            );
            is_arithmetic && is_number(&binary.left) && is_number(&binary.right)
        }
        _ => false,
    }
}

/// Returns whether the path's last name is in capitals, like the names of constants and statics. The compiler can read
/// the value of both.
fn names_a_constant(path: &ExprPath) -> bool {
    last_name(&path.path).is_some_and(|name| {
        name.chars().any(char::is_uppercase) && !name.chars().any(char::is_lowercase)
    })
}

fn last_name(path: &Path) -> Option<String> {
    path.segments
        .last()
        .map(|segment| segment.ident.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(source: &str) -> bool {
        is_constant(&syn::parse_str(source).expect("an expression"))
    }

    #[test]
    fn numbers_and_names_in_capitals_are_constants() {
        for source in [
            "LIMIT",
            "config::LIMIT_2",
            "Self::LIMIT",
            "<Pool as Timed>::LIMIT",
            "Duration::from_secs(30)",
            "std::time::Duration::from_millis(1_000 * 30)",
            "Duration::new(SECONDS as u64 + 1, 0)",
            "(Duration::ZERO)",
            "const { limit() }",
        ] {
            assert!(constant(source), "{source}");
        }
    }

    #[test]
    fn expressions_that_may_depend_on_the_run_time_are_not_constants() {
        for source in [
            "self.limit",
            "limit",
            "limit()",
            "*LIMIT",
            "LIMIT * 2",
            "LIMIT.mul_f64(0.5)",
            "Duration::from_secs(self.seconds)",
            "Duration::from_secs(seconds())",
            "Duration::from_secs_f64(0.5)",
            "Limit::from_secs(30)",
            "if LIMIT { A } else { B }",
        ] {
            assert!(!constant(source), "{source}");
        }
    }
}
