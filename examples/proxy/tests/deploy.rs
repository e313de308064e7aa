//! Tests that the deployment files agree with the proxy: a platform's grace period is long enough
//! for the shutdown, and the ports, paths and names exist.

use std::path::PathBuf;
use std::time::Duration;

use lifecycle_proxy::app::ProxyServer;
use lifecycle_proxy::config::{Config, Seconds};
use lifecycle_proxy::restart;
use lifecycle_runtime::{Component as _, Signal};
use serde_json::Value;

/// The time for the goodbyes. It counts if the lame duck is shorter.
const GOODBYES: Duration = Duration::from_secs(5);

/// The time after the shutdown plan, for `finally` hooks and the last log lines.
const AFTER: Duration = Duration::from_secs(1);

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap()
}

/// Returns the longest time from the signal to the end of the process.
fn needed(config: &Config) -> Duration {
    let most = ProxyServer::PLAN.budget().unwrap();
    let budget = config.shutdown_timeout.duration().min(most);
    lame_duck(config).max(GOODBYES) + budget + AFTER
}

fn lame_duck(config: &Config) -> Duration {
    config.lame_duck.map_or(Duration::ZERO, Seconds::duration)
}

/// Returns the values of a key in a systemd unit file.
fn unit(name: &str, key: &str) -> Vec<String> {
    let text = text(&format!("systemd/{name}"));
    let values = text.lines().filter_map(|line| {
        let (found, value) = line.split_once('=')?;
        (found == key).then(|| value.to_owned())
    });
    values.collect()
}

fn unit_seconds(key: &str) -> Duration {
    let values = unit("proxy.service", key);
    assert_eq!(values.len(), 1, "{key}");
    Duration::from_secs(values[0].parse().unwrap())
}

fn systemd() -> Config {
    Config::load(&path("systemd/proxy.yaml")).unwrap()
}

fn manifest(kind: &str) -> Value {
    let all: Vec<Value> = serde_saphyr::from_multiple(&text("kubernetes.yaml")).unwrap();
    let found = all.into_iter().find(|manifest| manifest["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind}"))
}

fn kubernetes() -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    let config = &manifest("ConfigMap")["data"]["proxy.yaml"];
    std::fs::write(&file, config.as_str().unwrap()).unwrap();
    Config::load(&file).unwrap()
}

fn seconds(value: &Value) -> Duration {
    Duration::from_secs(value.as_u64().unwrap_or_else(|| panic!("{value}")))
}

#[test]
fn systemd_waits_as_long_as_the_proxy_may_take() {
    let config = systemd();
    assert!(unit_seconds("TimeoutStopSec") >= needed(&config));
    assert_eq!(unit("proxy.service", "Type"), ["notify"]);
    assert_eq!(unit("proxy.service", "KillMode"), ["mixed"]);
    assert!(!unit_seconds("WatchdogSec").is_zero());
    // `ExecReload` must send the signal that makes the proxy start a new process.
    assert_eq!(
        unit("proxy.service", "ExecReload"),
        ["/bin/kill -USR2 $MAINPID"]
    );
    assert_eq!(restart::signal(), Signal::from_raw(12));
}

#[test]
fn the_sockets_of_systemd_are_those_of_its_configuration_under_their_names() {
    let config = systemd();
    let http = config.listen_addrs[0].to_string();
    let admin = config.admin_address().unwrap().to_string();
    for (file, name, address) in [
        ("proxy.socket", "http", http),
        ("proxy-admin.socket", "admin", admin),
    ] {
        assert_eq!(unit(file, "FileDescriptorName"), [name]);
        assert_eq!(unit(file, "ListenStream"), [address]);
        assert_eq!(unit(file, "Service"), ["proxy.service"]);
        let wanted = &unit("proxy.service", "Sockets")[0];
        assert!(wanted.split(' ').any(|socket| socket == file), "{wanted}");
    }
}

#[test]
fn kubernetes_waits_for_pre_stop_lame_duck_plan_and_a_second() {
    let config = kubernetes();
    let deployment = manifest("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let pre_stop = seconds(&container["lifecycle"]["preStop"]["sleep"]["seconds"]);
    let grace = seconds(&pod["terminationGracePeriodSeconds"]);
    assert!(grace >= pre_stop + needed(&config), "{grace:?}");

    // The readiness probe must fail before the proxy stops listening.
    let probe = &container["readinessProbe"];
    let round = seconds(&probe["periodSeconds"]) + seconds(&probe["timeoutSeconds"]);
    let known = round * u32::try_from(probe["failureThreshold"].as_u64().unwrap()).unwrap();
    assert!(known <= lame_duck(&config), "{known:?}");
}

#[test]
fn the_manifests_name_only_ports_and_files_that_exist() {
    let (config, deployment) = (kubernetes(), manifest("Deployment"));
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name).unwrap();
        port["containerPort"].as_u64().unwrap()
    };
    let admin = config.admin_address().unwrap();
    assert_eq!(port("http"), u64::from(config.listen_addrs[0].port()));
    assert_eq!(port("admin"), u64::from(admin.port()));
    assert!(admin.ip().is_unspecified() && config.admin.public);
    for (probe, path) in [
        ("startupProbe", "/readyz"),
        ("readinessProbe", "/readyz"),
        ("livenessProbe", "/livez"),
    ] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(
            (&asked["path"], &asked["port"]),
            (&path.into(), &"admin".into())
        );
    }

    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let (service, budget) = (manifest("Service"), manifest("PodDisruptionBudget"));
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &service["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");

    // Every file in the container's arguments must be mounted into the container.
    let arguments = container["args"].as_array().unwrap();
    let read = arguments[1].as_str().unwrap();
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(
        mounts
            .iter()
            .any(|mount| read.starts_with(mount["mountPath"].as_str().unwrap()))
    );
    for mount in mounts {
        let volumes = pod["volumes"].as_array().unwrap();
        assert!(
            volumes.iter().any(|volume| volume["name"] == mount["name"]),
            "{mount}"
        );
    }
}

#[test]
fn a_roll_out_never_has_fewer_than_before_and_an_eviction_leaves_one() {
    let deployment = manifest("Deployment");
    let rolling = &deployment["spec"]["strategy"]["rollingUpdate"];
    assert_eq!(rolling["maxUnavailable"], 0);
    assert!(rolling["maxSurge"].as_u64().unwrap() > 0);
    let replicas = deployment["spec"]["replicas"].as_u64().unwrap();
    let kept = manifest("PodDisruptionBudget")["spec"]["minAvailable"]
        .as_u64()
        .unwrap();
    assert!(kept >= 1 && kept < replicas);
}

#[test]
fn the_container_runs_the_proxy_on_the_ports_of_the_manifest() {
    let (file, config) = (text("Containerfile"), kubernetes());
    let lines = |word: &str| -> Vec<String> {
        let lines = file.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|line| line.trim().to_owned()).collect()
    };
    let admin = config.admin_address().unwrap().port();
    let ports = format!("{} {admin}", config.listen_addrs[0].port());
    assert_eq!(lines("EXPOSE"), [ports]);
    let built = format!(
        "target/release/{}",
        env!("CARGO_BIN_EXE_proxy").rsplit('/').next().unwrap()
    );
    assert!(
        lines("COPY --from=build")
            .iter()
            .all(|line| line.contains(&built))
    );
    assert_eq!(lines("STOPSIGNAL"), ["SIGTERM"]);
    let manifest = manifest("Deployment");
    let container = &manifest["spec"]["template"]["spec"]["containers"][0];
    let command: Value = serde_json::from_str(&lines("CMD")[0]).unwrap();
    assert_eq!(command, container["args"]);
}
