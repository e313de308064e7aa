//! Checks that every field of the manifests exists in Kubernetes, and that the container file can
//! be parsed.

#![cfg(test)]

use std::fs::read_to_string;
use std::path::Path;

use dockerfile_parser::{Dockerfile, Instruction};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn manifests() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../kubernetes.yaml");
    serde_saphyr::from_multiple(&read_to_string(path).unwrap()).unwrap()
}

/// Parses a manifest with the types of Kubernetes and formats it again. This drops fields that
/// Kubernetes does not know.
fn understood(manifest: &Value) -> Value {
    fn through<T: DeserializeOwned + Serialize>(manifest: &Value) -> Value {
        let typed: T = serde_json::from_value(manifest.clone()).unwrap();
        serde_json::to_value(typed).unwrap()
    }
    match manifest["kind"].as_str() {
        Some("ConfigMap") => through::<ConfigMap>(manifest),
        Some("Deployment") => through::<Deployment>(manifest),
        Some("Service") => through::<Service>(manifest),
        Some("PodDisruptionBudget") => through::<PodDisruptionBudget>(manifest),
        kind => panic!("nobody checks a {kind:?}"),
    }
}

/// Appends the paths of the values in `given` that are missing or different in `kept` to `found`.
fn lost(given: &Value, kept: &Value, path: &str, found: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                let kept = kept.get(key).unwrap_or(&Value::Null);
                lost(value, kept, &format!("{path}.{key}"), found);
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                lost(given, kept, &format!("{path}[{index}]"), found);
            }
        }
        _ if given == kept => {}
        _ => found.push(path.to_owned()),
    }
}

fn unknown(manifest: &Value) -> Vec<String> {
    let mut found = Vec::new();
    lost(manifest, &understood(manifest), "", &mut found);
    found
}

#[test]
fn every_field_of_every_manifest_is_one_that_kubernetes_has() {
    let manifests = manifests();
    assert_eq!(manifests.len(), 4);
    for manifest in &manifests {
        assert_eq!(unknown(manifest), [""; 0], "{}", manifest["kind"]);
    }
}

#[test]
fn a_field_that_does_not_exist_is_found_however_deep() {
    let mut deployment = manifests().swap_remove(1);
    let container = &mut deployment["spec"]["template"]["spec"]["containers"][0];
    container["lifecycle"]["preStopp"] = Value::from(1);
    container["readinessProbe"]["httpGet"]["prot"] = Value::from("admin");
    assert_eq!(
        unknown(&deployment),
        [
            ".spec.template.spec.containers[0].lifecycle.preStopp",
            ".spec.template.spec.containers[0].readinessProbe.httpGet.prot",
        ]
    );
}

#[test]
fn the_container_file_is_read_and_what_it_copies_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../..");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../Containerfile");
    let file = Dockerfile::parse(&read_to_string(path).unwrap()).unwrap();
    assert_eq!(file.iter_stages().count(), 2);
    let known = ["WORKDIR", "USER", "EXPOSE", "STOPSIGNAL"];
    let mut copied = 0;
    for instruction in &file.instructions {
        match instruction {
            Instruction::Copy(copy) if copy.flags.is_empty() => {
                for source in &copy.sources {
                    assert!(root.join(source.as_ref()).exists(), "{source}");
                    copied += 1;
                }
            }
            Instruction::Misc(other) => {
                assert!(known.contains(&&*other.instruction.content), "{other:?}");
            }
            _ => {}
        }
    }
    assert!(copied >= 6, "{copied}");
}
