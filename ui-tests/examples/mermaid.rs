//! Prints the Mermaid texts of plans and of a report, so that a script can check them with Mermaid itself. Before each
//! text comes a line `=== flowchart` or `=== gantt`, and then a line that begins with `name` for each name that the
//! diagram must contain.

use std::collections::BTreeMap;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

struct Leaf;

impl Component for Leaf {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A server with fields that are Mermaid keywords, and with names that Mermaid's syntax forbids.
#[derive(GracefulShutdown)]
#[shutdown(timeout = "25s", name = "say \"hi\": <T> #1; `a` & 50 % of $x$")]
struct Server {
    #[shutdown(priority = 0, timeout = "1500ms")]
    end: Leaf,
    #[shutdown(priority = 0)]
    r#type: Leaf,
    #[shutdown(priority = 1)]
    title: Leaf,
    #[shutdown(priority = 1)]
    section: Part,
    #[shutdown(priority = 2)]
    click: Vec<Leaf>,
    #[shutdown(after(click, subgraph))]
    größe: Leaf,
    #[shutdown(priority = 2, timeout = "2s")]
    subgraph: BTreeMap<String, Leaf>,
    #[shutdown(priority = 3)]
    either: Either,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part(#[shutdown] Leaf, #[shutdown] Inner);

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Inner {
    #[shutdown]
    graph: Leaf,
    #[shutdown]
    style: Leaf,
}

#[derive(GracefulShutdown)]
enum Either {
    Default(#[shutdown] Leaf),
    #[allow(dead_code)] // The program only shows its plan.
    Class {
        #[shutdown]
        class: Leaf,
    },
}

const FIELDS: [&str; 8] = [
    "end", "type", "title", "section", "click", "größe", "subgraph", "either",
];
const KEYS: [&str; 6] = [
    "",
    "a[0]",
    "say \"hi\": <T> #1; `a` & 50 % of $x$",
    "日本, µs",
    "%%{init: {}}%%",
    "#quot;",
];

fn print(kind: &str, text: &str, names: impl IntoIterator<Item = String>) {
    println!("=== {kind}");
    for name in names {
        println!("name {name}");
    }
    println!("{text}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut server = Server {
        end: Leaf,
        r#type: Leaf,
        title: Leaf,
        section: Part(
            Leaf,
            Inner {
                graph: Leaf,
                style: Leaf,
            },
        ),
        click: vec![Leaf, Leaf],
        größe: Leaf,
        subgraph: KEYS.iter().map(|&key| (key.to_owned(), Leaf)).collect(),
        either: Either::Default(Leaf),
        state: ShutdownState::new(),
    };
    let nested = ["graph", "style", "Default", "Class", "class"];
    let plan = FIELDS.iter().chain(&nested).map(|&name| name.to_owned());
    print("flowchart", &Server::PLAN.to_mermaid(), plan);
    let value = FIELDS
        .iter()
        .chain(&["graph", "style"])
        .map(|&name| name.to_owned());
    print("flowchart", &server.plan().to_mermaid(), value);
    print(
        "flowchart",
        &Inner::PLAN.to_mermaid(),
        ["graph".to_owned(), "style".to_owned()],
    );

    let report = server.shutdown().await;
    // A report shows an element by its key in brackets, so the diagram must contain these names.
    let elements = KEYS
        .iter()
        .map(|key| format!("subgraph[{}]", key.escape_debug()));
    let paths = ["section.0", "section.1.style", "click[1]"].map(str::to_owned);
    let names = FIELDS
        .iter()
        .map(|&name| name.to_owned())
        .chain(elements)
        .chain(paths);
    print("gantt", &report.to_mermaid(), names);
}
