//! Writes the workspace whose compilation is measured. It has a crate for each shape of struct and each derive, and
//! each crate also has the types of its fields.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

const STRUCTS: usize = 50;
const FIELDS: usize = 20;

/// The shape of the structs in a crate: which of their fields are steps.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    id: &'static str,
    /// The number of fields that are steps. The derive generates their cleanup. The last field is the state, and never
    /// a step.
    steps: usize,
}

pub(crate) const SHAPES: [Shape; 2] = [
    Shape {
        name: "Every field is a step",
        id: "all",
        steps: STATE,
    },
    Shape {
        name: "Eight of the fields are steps",
        id: "some",
        steps: 8,
    },
];

#[derive(Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    dependencies: &'static str,
    /// The type of the last field of each struct, which is the state.
    state: &'static str,
    /// The attributes above each struct, such as the derive.
    derive: &'static str,
    /// Returns the attributes of a field from its index and whether the field is a step.
    field: fn(usize, bool) -> String,
    /// A function beside each struct that uses the derived code, so that the compiler generates it.
    used: &'static str,
    /// The attributes above each leaf (a type of a field that is a step), and the code after it.
    leaf: (&'static str, &'static str),
}

const NOTHING: Contestant = Contestant {
    name: "nothing",
    title: "nothing",
    dependencies: "",
    state: "u8",
    derive: "",
    field: |_, _| String::new(),
    used: "",
    leaf: ("", ""),
};

const SERDE: Contestant = Contestant {
    name: "serde-unused",
    title: "`serde::Serialize`, never called",
    dependencies: "serde = { version = \"1\", features = [\"derive\"] }\nserde_json = \"1\"",
    derive: "#[derive(serde::Serialize)]",
    field: |index, _| match index {
        STATE => "#[serde(skip)]".to_owned(),
        _ => String::new(),
    },
    leaf: ("#[derive(serde::Serialize)]", ""),
    ..NOTHING
};

const LIFECYCLE: Contestant = Contestant {
    name: "lifecycle-unused",
    title: "`GracefulShutdown`, never called",
    dependencies: "lifecycle-runtime = { path = \"RUNTIME\" }",
    state: "lifecycle_runtime::ShutdownState",
    derive: "#[derive(lifecycle_runtime::GracefulShutdown)]",
    field: |index, is_step| match index {
        STATE => "#[shutdown(state)]".to_owned(),
        _ if !is_step => String::new(),
        0..LANES => "#[shutdown(priority = 0)]".to_owned(),
        _ => format!("#[shutdown(after = f{})]", index - LANES),
    },
    leaf: (
        "",
        "impl lifecycle_runtime::Component for LEAF {
            async fn cleanup(&mut self, _: &lifecycle_runtime::Context) -> Result<(), lifecycle_runtime::BoxError> {
                Ok(())
            }
        }",
    ),
    ..NOTHING
};

pub(crate) const CONTESTANTS: [Contestant; 7] = [
    NOTHING,
    Contestant {
        name: "thiserror",
        title: "`thiserror::Error` and `Debug`",
        dependencies: "thiserror = \"2\"",
        derive: "#[derive(Debug, thiserror::Error)]\n#[error(TEXT)]",
        used: "pub fn used(value: &S) -> String { value.to_string() }",
        leaf: ("#[derive(Debug)]", ""),
        ..NOTHING
    },
    SERDE,
    Contestant {
        name: "serde",
        title: "`serde::Serialize`, called with `serde_json`",
        used: "pub fn used(value: &S) -> Result<String, serde_json::Error> { serde_json::to_string(value) }",
        ..SERDE
    },
    Contestant {
        name: "eulogy",
        title: "`eulogy::AsyncDrop`, called",
        dependencies: "eulogy = { version = \"0.1\", features = [\"derive\", \"tokio\"] }",
        derive: "#[derive(eulogy::AsyncDrop)]",
        field: |index, is_step| match index {
            _ if !is_step => "#[eulogy(skip)]".to_owned(),
            0..LANES => String::new(),
            _ => format!("#[eulogy(after = [f{}])]", index - LANES),
        },
        used: "pub fn used(value: S) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
            Box::pin(eulogy::AsyncDrop::async_drop(value))
        }",
        leaf: ("", "impl eulogy::AsyncDrop for LEAF { async fn async_drop(self) {} }"),
        ..NOTHING
    },
    LIFECYCLE,
    Contestant {
        name: "lifecycle",
        title: "`GracefulShutdown`, called",
        used: "pub fn used(value: &mut S) -> std::pin::Pin<Box<dyn Future<Output = lifecycle_runtime::Report> + Send + '_>> {
            Box::pin(lifecycle_runtime::GracefulShutdown::shutdown(value))
        }",
        ..LIFECYCLE
    },
];

/// The index of the last field, which is the state and not a step.
const STATE: usize = FIELDS - 1;

/// The number of fields that are cleaned up at the same time. Each field waits for the field `LANES` places before it.
const LANES: usize = 3;

/// Returns the name of a contestant's package.
pub(crate) fn package(shape: Shape, contestant: Contestant) -> String {
    format!("{}-{}", contestant.name, shape.id)
}

/// Writes the workspace with all crates into `folder`.
pub(crate) fn write(folder: &Path) -> io::Result<()> {
    let mut members = Vec::new();
    for shape in SHAPES {
        for contestant in CONTESTANTS {
            let name = package(shape, contestant);
            one(&folder.join(&name), &name, shape, contestant)?;
            members.push(name);
        }
    }
    let manifest = format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n");
    save(&folder.join("Cargo.toml"), &manifest)
}

/// Renames a field of one struct of a package. The next call restores the name.
pub(crate) fn change(folder: &Path, package: &str) -> io::Result<()> {
    let path = folder.join(package).join("src/m25.rs");
    let text = fs::read_to_string(&path)?;
    let (from, to) = if text.contains("f18_") {
        ("f18_", "f18")
    } else {
        ("f18", "f18_")
    };
    fs::write(&path, text.replace(from, to))
}

fn one(folder: &Path, name: &str, shape: Shape, contestant: Contestant) -> io::Result<()> {
    let runtime = concat!(env!("CARGO_MANIFEST_DIR"), "/../../lifecycle-runtime");
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{}\n",
        contestant.dependencies.replace("RUNTIME", runtime)
    );
    save(&folder.join("Cargo.toml"), &manifest)?;
    let mut lib = String::from("pub mod leaves;\n");
    for index in 0..STRUCTS {
        let _ = writeln!(lib, "pub mod m{index:02};");
        save(
            &folder.join(format!("src/m{index:02}.rs")),
            &module(shape, contestant),
        )?;
    }
    save(&folder.join("src/leaves.rs"), &leaves(contestant))?;
    save(&folder.join("src/lib.rs"), &lib)
}

fn module(shape: Shape, contestant: Contestant) -> String {
    let text: String = (0..FIELDS)
        .map(|index| format!("{{f{index}:?}} "))
        .collect();
    let mut module = String::from("use crate::leaves::*;\n");
    module.push_str(&contestant.derive.replace("TEXT", &format!("{text:?}")));
    module.push_str("\npub struct S {\n");
    for index in 0..FIELDS {
        let is_step = index < shape.steps;
        let ty = match index {
            STATE => contestant.state,
            _ if is_step => STEPS[index % STEPS.len()],
            _ => OTHERS[index % OTHERS.len()],
        };
        let attribute = (contestant.field)(index, is_step);
        let _ = writeln!(module, "    {attribute}\n    pub f{index}: {ty},");
    }
    module.push_str("}\n");
    module.push_str(contestant.used);
    module.push('\n');
    module
}

/// The types of the fields that are steps.
const STEPS: [&str; 4] = ["Pool", "Cache", "Option<Queue>", "Vec<Task>"];
/// The types of the fields that are not steps.
const OTHERS: [&str; 4] = ["String", "u64", "Vec<u8>", "Option<String>"];

fn leaves(contestant: Contestant) -> String {
    let mut leaves = String::new();
    for leaf in ["Pool", "Cache", "Queue", "Task"] {
        let (above, beside) = contestant.leaf;
        let _ = writeln!(
            leaves,
            "{above}\npub struct {leaf}(pub u64);\n{}",
            beside.replace("LEAF", leaf)
        );
    }
    leaves
}

/// Writes a file unless it already has this text, so that an unchanged file is not compiled again.
fn save(path: &Path, text: &str) -> io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text)
}
