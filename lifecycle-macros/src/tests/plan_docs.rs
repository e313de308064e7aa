//! Tests of the documentation that the derive writes for a plan.

use super::parsed;

/// Returns the documentation of the `Component` impl.
fn docs(source: &str) -> String {
    let file = parsed(source);
    let mut found = String::new();
    for item in file.items {
        let syn::Item::Const(block) = item else {
            continue;
        };
        let syn::Expr::Block(block) = *block.expr else {
            continue;
        };
        for statement in block.block.stmts {
            let syn::Stmt::Item(syn::Item::Impl(item)) = statement else {
                continue;
            };
            for attr in item
                .attrs
                .iter()
                .filter(|attr| attr.path().is_ident("cfg_attr"))
            {
                // The attribute is `cfg_attr(doc, doc = "…")`, whose text is parsed here.
                let text = attr.parse_args_with(|input: syn::parse::ParseStream<'_>| {
                    input.parse::<syn::Ident>()?;
                    input.parse::<syn::Token![,]>()?;
                    let doc: syn::MetaNameValue = input.parse()?;
                    Ok(doc.value)
                });
                if let Ok(syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                })) = text
                {
                    found.push_str(&text.value());
                }
            }
        }
    }
    found
}

#[test]
fn the_plan_is_a_table_and_a_diagram() {
    let text = docs(
        r#"
        #[shutdown(timeout = "1m 30s")]
        struct Server {
            #[shutdown(priority = 0)]
            token: CancellationToken,
            #[shutdown(priority = 1, timeout = "250ms", with = Tape::<u8>::flush, required)]
            tape: Option<Tape>,
            #[shutdown(after = tape, with = |pool| pool.close(), timeout = self.grace, at_most = "5s", best_effort)]
            pool: Pool,
            grace: Duration,
            #[shutdown(state)]
            state: ShutdownState,
        }
        "#,
    );
    assert_eq!(
        text,
        "The shutdown plan of `Server`, within 1m 30s.\n\
         \n\
         | order | field | waits for | budget | how |\n\
         |---|---|---|---|---|\n\
         | 0 | `token` |  | what is left | by its type |\n\
         | 1 | `tape` | `token` | 250ms | with `Tape::<u8>::flush`, required |\n\
         | 1 | `pool` | `tape` | at most 5s | with a closure, best effort |\n\
         \n\
         ```mermaid\n\
         flowchart LR\n    \
             s0[\"token\"]\n    \
             s1[\"tape<br/>250ms\"]\n    \
             s2[\"pool<br/>at most 5s\"]\n    \
             s0 --> s1\n    \
             s1 --> s2\n\
         ```\n"
    );
}

#[test]
fn an_enum_has_a_section_for_each_variant() {
    let text = docs("enum Either { Live(#[shutdown] Task), r#Gone }");
    assert!(
        text.starts_with("The shutdown plan of `Either`: the live variant is cleaned.\n\n`Live`:"),
        "{text}"
    );
    assert!(text.ends_with("`Gone`:\n\nNothing to clean.\n"), "{text}");
}
