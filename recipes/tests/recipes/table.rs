//! Generates the table of all recipes from the heads of their modules and the fields of their servers, and compares it
//! with the published table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

const KEYS: [&str; 5] = [
    "Cleanup",
    "Lost without it",
    "Repeated",
    "Waits for",
    "Order",
];

/// A recipe: a module or program whose head describes the shutdown of a crate's types.
struct Recipe {
    /// The path of the file, relative to this crate's root.
    file: String,
    /// The names of the crates in the head's first line.
    crates: Vec<String>,
    /// The entries of the head, such as **Cleanup**, by key.
    head: BTreeMap<String, String>,
    /// The type and the attribute of each field of `Server` that is a step.
    fields: Vec<(String, String)>,
}

impl Recipe {
    fn read(file: &Path) -> Option<Self> {
        let text = fs::read_to_string(file).expect("a file");
        let head = text.lines().map_while(|line| line.strip_prefix("//!"));
        let head: Vec<_> = head.map(str::trim).collect();
        if !head.iter().any(|line| line.starts_with("- **")) {
            return None;
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (crates, _) = head[0].split_once(':').expect("crates, then a colon");
        Some(Self {
            file: file
                .strip_prefix(root)
                .expect("inside")
                .display()
                .to_string(),
            crates: crates
                .split('`')
                .skip(1)
                .step_by(2)
                .map(str::to_owned)
                .collect(),
            head: head
                .iter()
                .filter_map(|line| line.strip_prefix("- **")?.split_once("**: "))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            fields: fields(&text),
        })
    }

    fn row(&self, manifest: &str) -> String {
        let crates = self.crates.iter().map(|name| {
            let version = version(manifest, name);
            format!("[`{name}`]({}){version}", self.file)
        });
        let crates: Vec<_> = crates.collect();
        let (types, writes): (Vec<_>, Vec<_>) = match self.head.get("Write") {
            Some(write) => (
                vec![self.head["Type"].clone()],
                vec![write.replace('|', "\\|")],
            ),
            None => self
                .fields
                .iter()
                .map(|(kind, write)| {
                    (
                        format!("`{kind}`"),
                        format!("`{}`", write.replace('|', "\\|")),
                    )
                })
                .unzip(),
        };
        let lost = &self.head["Lost without it"];
        format!(
            "| {} | {} | {} | {lost} |\n",
            crates.join(", "),
            types.join("<br>"),
            writes.join("<br>"),
        )
    }
}

/// Returns the type and the attribute of each field of `struct Server` that is a step.
fn fields(text: &str) -> Vec<(String, String)> {
    let body = text
        .lines()
        .skip_while(|line| !line.starts_with("struct Server"));
    let mut body = body.skip(1).take_while(|line| *line != "}").map(str::trim);
    let mut fields = Vec::new();
    while let Some(line) = body.next() {
        if !line.starts_with("#[shutdown") || line == "#[shutdown(state)]" {
            continue;
        }
        let mut attribute = line.to_owned();
        while !attribute.ends_with(")]") {
            attribute = format!("{attribute} {}", body.next().expect("the attribute's end"));
        }
        let field = body.next().expect("a field").trim_end_matches(',');
        let (_, kind) = field.split_once(": ").expect("a type");
        fields.push((kind.to_owned(), attribute));
    }
    fields
}

/// Returns the version of the crate `name` in the manifest, or an empty string for std.
fn version(manifest: &str, name: &str) -> String {
    if name == "std" {
        return String::new();
    }
    let line = manifest
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
        .unwrap_or_else(|| panic!("`{name}` is not in Cargo.toml"));
    format!(" {}", line.split('"').nth(1).expect("a version"))
}

fn recipes() -> Vec<Recipe> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = ["src/bin", "tests/recipes"]
        .iter()
        .flat_map(|folder| fs::read_dir(root.join(folder)).expect("a folder"))
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().filter_map(|file| Recipe::read(file)).collect()
}

#[test]
fn every_head_has_all_its_entries() {
    for recipe in recipes() {
        for key in KEYS {
            assert!(recipe.head.contains_key(key), "{}: no `{key}`", recipe.file);
        }
        let written = recipe.head.contains_key("Write") && recipe.head.contains_key("Type");
        assert!(
            written || !recipe.fields.is_empty(),
            "{}: no step",
            recipe.file
        );
    }
}

/// The variable `LIFECYCLE_WRITE_TABLE=1` makes this test write the table anew instead of comparing it.
#[test]
fn the_table_matches_the_recipes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    let file = root.join("README.md");
    let known = fs::read_to_string(&file).expect("the table");
    let start = "| crate | type | write | lost without it |\n|---|---|---|---|\n";
    let (before, _) = known.split_once(start).expect("the table's first lines");
    let rows: String = recipes()
        .iter()
        .map(|recipe| recipe.row(&manifest))
        .collect();
    let made = format!("{before}{start}{rows}");
    if env::var_os("LIFECYCLE_WRITE_TABLE").is_some() {
        fs::write(&file, &made).expect("the table");
    }
    let now = fs::read_to_string(&file).expect("the table");
    assert!(now == made, "run this test with LIFECYCLE_WRITE_TABLE=1");
}
