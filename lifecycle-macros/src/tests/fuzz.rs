//! Fuzz tests of the derive. The inputs follow the grammar of the attribute, with random mistakes in them. The derive
//! must never panic, its output must always be Rust, and it must either accept an input or report why not.
//!
//! Each case follows from its seed, so that a failure can be reproduced. `LIFECYCLE_FUZZ_CASES` sets the number of
//! cases, `LIFECYCLE_FUZZ_SEED` the first seed.

use std::env;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// The number of cases of a plain `cargo test`; `.ci/run` runs 100,000 cases.
const CASES: u64 = 10_000;

#[test]
fn the_derive_never_panics_and_always_writes_rust() {
    let cases = number("LIFECYCLE_FUZZ_CASES").unwrap_or(CASES);
    let first = number("LIFECYCLE_FUZZ_SEED").unwrap_or(0);
    let mut accepted = 0;
    for seed in first..first + cases {
        let case = case(seed);
        let text = case.clone();
        let output = std::panic::catch_unwind(|| crate::derive(case));
        let output =
            output.unwrap_or_else(|_| panic!("seed {seed} makes the derive panic: {text}"));
        let refused = starts_with_an_error(&output);
        accepted += u64::from(!refused);
        // Outputs for refused inputs differ in little but their messages, so it is enough to parse an eighth of them.
        if refused && seed % 8 > 0 {
            continue;
        }
        if let Err(error) = syn::parse2::<syn::File>(output.clone()) {
            panic!("the output for seed {seed} is not Rust, {error}: {text}\n{output}");
        }
    }
    // The mix of cases is checked, since cases that were all refused, or all accepted, would prove little.
    assert!(
        accepted > cases / 20 && accepted < cases - cases / 20,
        "{accepted} of {cases} accepted"
    );
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

fn starts_with_an_error(output: &TokenStream) -> bool {
    output
        .clone()
        .into_iter()
        .take(6)
        .any(|token| token.to_string() == "compile_error")
}

fn case(seed: u64) -> TokenStream {
    let mut dice = Dice::new(seed);
    let source = input(&mut dice);
    let tokens: TokenStream = source
        .parse()
        .unwrap_or_else(|error| panic!("{error}: {source}"));
    match dice.up_to(3) {
        0 => tokens,
        mutations => (0..mutations).fold(tokens, |tokens, _| mutate(tokens, &mut dice)),
    }
}

/// A random number generator (xorshift64*) whose sequence follows from its seed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn up_to(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(bits).unwrap_or_default() % sides
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.up_to(sides) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.up_to(from.len())]
    }
}

const NAMES: [&str; 6] = ["a", "b", "pool", "r#type", "config", "state"];
const TYPES: [&str; 10] = [
    "u8",
    "Option<Arc<Pool>>",
    "T",
    "Vec<&'a T>",
    "ShutdownState",
    "[u8; N]",
    "Box<dyn FnMut(u8) -> Self>",
    "<T as Iterator>::Item",
    "::std::option::Option<Either<T>>",
    "fn(&u8)",
];
const TIMES: [&str; 14] = [
    "\"5s\"",
    "\"1m 30s\"",
    "\"0s\"",
    "\"s\"",
    "\"99999999999999999999d\"",
    "5",
    "-1.5",
    "const { LIMIT * 2 }",
    "LIMIT",
    "Duration::from_secs(30 * LIMIT as u64)",
    "self.config.grace",
    "self.limit()",
    "f(self, |x| x + self.0.1)",
    "if self.a { LIMIT } else { self.b }",
];
const CALLS: [&str; 12] = [
    "Pool::close",
    "<Pool as Close<T>>::close::<u8, { N }>",
    "|pool| pool.close()",
    "|pool, cx| pool.close(cx, self.config.limit, log!(\"{}\", self.b))",
    "async |pool: &mut Pool| { pool.close().await?; Ok(()) }",
    "move |(a, b)| -> u8 { a + b }",
    "|| ()",
    "|a, b, c| (a | b | c)",
    "\"close\"",
    "close()",
    "|_| self",
    "|x| self.x().y",
];
const WORDS: [&str; 22] = [
    "=",
    ",",
    "|",
    "self",
    ".",
    "1",
    "\"5s\"",
    "after",
    "skip",
    "'a",
    "::",
    "r#priority",
    "#",
    "-",
    "1e3",
    "'c'",
    "b\"x\"",
    "struct",
    "crate",
    "timeout",
    "state",
    "part",
];

fn input(dice: &mut Dice) -> String {
    let attr = if dice.one_in(2) {
        format!("#[shutdown({})]", list(dice, type_key))
    } else {
        String::new()
    };
    let generics = dice.pick(&[
        "",
        "",
        "<T>",
        "<'a, T: Bound + 'a, const N: usize>",
        "<T = u8>",
    ]);
    let clause = dice.pick(&["", "", "where T: Iterator, T::Item: Send", "where"]);
    match dice.up_to(6) {
        0 => {
            let variants: Vec<_> = (0..dice.up_to(4))
                .map(|i| format!("V{i} {}", body(dice)))
                .collect();
            format!(
                "{attr} enum Either{generics} {clause} {{ {} }}",
                variants.join(",")
            )
        }
        1 => format!(
            "{attr} pub(crate) struct Server{generics} ({}) {clause};",
            fields(dice, false)
        ),
        2 if dice.one_in(4) => {
            format!("{attr} union Server{generics} {{ {} }}", fields(dice, true))
        }
        3 if dice.one_in(4) => format!("{attr} struct Server{generics};"),
        _ => format!(
            "{attr} struct Server{generics} {clause} {{ {} }}",
            fields(dice, true)
        ),
    }
}

fn body(dice: &mut Dice) -> String {
    match dice.up_to(3) {
        0 => String::new(),
        1 => format!("({})", fields(dice, false)),
        _ => format!("{{ {} }}", fields(dice, true)),
    }
}

fn fields(dice: &mut Dice, named: bool) -> String {
    let tidy = dice.one_in(2);
    let mut fields: Vec<_> = NAMES
        .iter()
        .take(dice.up_to(NAMES.len()))
        .map(|name| field(dice, name, named, tidy))
        .collect();
    if dice.one_in(2) {
        fields.push(
            if named {
                "#[shutdown(state)] end: ShutdownState"
            } else {
                "#[shutdown(state)] ShutdownState"
            }
            .to_owned(),
        );
    }
    fields.join(",")
}

fn field(dice: &mut Dice, name: &str, named: bool, tidy: bool) -> String {
    let attr = match dice.up_to(4) {
        0 => String::new(),
        1 => "#[shutdown]".to_owned(),
        2 if tidy => format!(
            "#[shutdown(timeout = {}, with = {})]",
            TIMES[dice.up_to(2)],
            CALLS[dice.up_to(3)]
        ),
        _ if tidy => "#[shutdown(required)]".to_owned(),
        _ => format!("#[shutdown({})] #[doc = \"x\"]", list(dice, field_key)),
    };
    let ty = dice.pick(&TYPES);
    if named {
        format!("{attr} pub {name}: {ty}")
    } else {
        format!("{attr} {ty}")
    }
}

fn list(dice: &mut Dice, key: fn(&mut Dice) -> String) -> String {
    let keys: Vec<_> = (0..=dice.up_to(4)).map(|_| key(dice)).collect();
    keys.join(", ")
}

fn type_key(dice: &mut Dice) -> String {
    match dice.up_to(10) {
        0 => format!("timeout = {}", dice.pick(&TIMES)),
        1 => format!("at_most = {}", dice.pick(&TIMES)),
        2 => "name = \"server\"".to_owned(),
        3 => format!(
            "crate = {}",
            dice.pick(&["crate", "::other::path", "\"text\"", "a::<u8>"])
        ),
        4 => field_key(dice),
        other => ["part", "strict", "no_drop", "part", "part"][other - 5].to_owned(),
    }
}

fn field_key(dice: &mut Dice) -> String {
    match dice.up_to(14) {
        0 | 1 => format!(
            "priority = {}",
            dice.pick(&["0", "-3", "10", "2147483648", "\"1\"", "1u8", "- -1"])
        ),
        2 | 3 => format!(
            "after = {}",
            dice.pick(&[
                "a", "b", "pool", "type", "0", "1", "self.a", "\"a\"", "nobody"
            ])
        ),
        4 => format!(
            "after({})",
            dice.pick(&["a, b", "", "pool,", "a, a", "0, 1", "(a)", ","])
        ),
        5 => format!("timeout = {}", dice.pick(&TIMES)),
        6 => format!("at_most = {}", dice.pick(&TIMES)),
        7 | 8 => format!("with = {}", dice.pick(&CALLS)),
        9 => format!("abort = {}", dice.pick(&CALLS)),
        10 => dice
            .pick(&["take", "blocking", "leaf", "take(1)", "blocking = true"])
            .to_owned(),
        11 => dice.pick(&["required", "best_effort"]).to_owned(),
        12 => dice.pick(&["skip", "state"]).to_owned(),
        _ => format!(
            "{} = {}",
            dice.pick(&["prioirty", "part", "strange", "r#after"]),
            dice.pick(&TIMES)
        ),
    }
}

/// Changes one token at a random place of the input.
fn mutate(tokens: TokenStream, dice: &mut Dice) -> TokenStream {
    let mut tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let groups: Vec<_> = (0..tokens.len())
        .filter(|&at| matches!(tokens[at], TokenTree::Group(_)))
        .collect();
    if !groups.is_empty() && !dice.one_in(4) {
        let at = groups[dice.up_to(groups.len())];
        if let TokenTree::Group(group) = &tokens[at] {
            let delimiter = if dice.one_in(16) {
                Delimiter::None
            } else {
                group.delimiter()
            };
            tokens[at] = TokenTree::Group(Group::new(delimiter, mutate(group.stream(), dice)));
        }
        return tokens.into_iter().collect();
    }
    let at = dice.up_to(tokens.len() + 1);
    let word: TokenStream = dice.pick(&WORDS).parse().unwrap_or_default();
    match dice.up_to(4) {
        0 if at < tokens.len() => {
            tokens.remove(at);
        }
        1 if at < tokens.len() => tokens.insert(at, tokens[at].clone()),
        2 if at + 1 < tokens.len() => tokens.swap(at, at + 1),
        _ => {
            tokens.splice(at..at, word);
        }
    }
    tokens.into_iter().collect()
}
