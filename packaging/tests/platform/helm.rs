//! Helm's own word on the chart, and Kubernetes' schemas on what it makes of it:
//! `cargo test -p packaging --features helm --test platform helm`, where `helm` (3 or 4, https://helm.sh) and
//! `kubernetes-validate` (`pip install kubernetes-validate`) are installed. Neither is a package of Debian's, so no setup
//! installs them, and without the feature there are no such tests.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use xtask::sh;

use crate::{chart::CHART, package::run};

/// Kubernetes' versions: the first that the chart is for, and the newest known when this was written.
const VERSIONS: [&str; 2] = ["1.25", "1.37"];
/// Everything that is off by default, and one of each kind of value.
const ALL: &[&str] = &[
    "serviceMonitor.enabled=true",
    "serviceMonitor.scheme=https",
    "serviceMonitor.tlsConfig.insecureSkipVerify=true",
    "prometheusRule.enabled=true",
    "prometheusRule.labels.release=prometheus",
    "dashboards.enabled=true",
    "pin=true",
    "existingSecret=web",
    "config.limits.idle=10s",
    "extraArgs={--log.format=json}",
    "imagePullSecrets[0].name=registry",
    "podAnnotations.a=b",
    "podLabels.c=d",
    "podSecurityContext.fsGroup=1",
    "priorityClassName=system-node-critical",
    "nodeSelector.gateway=yes",
    "serviceAccount.annotations.e=f",
    "image.tag=1",
];

fn program(name: &str) -> PathBuf {
    sh::find_program(name)
        .unwrap_or_else(|| panic!("{name} is not installed; the head of helm.rs says from where"))
}

/// What the chart makes with these values, by kind and name.
#[track_caller]
fn rendered(values: &[&str]) -> BTreeMap<(String, String), Value> {
    let mut cmd = Command::new(program("helm"));
    cmd.args(["template", "gateway", CHART]);
    for value in values {
        cmd.args(["--set", value]);
    }
    let objects: Vec<Value> = serde_saphyr::from_multiple(&run(&mut cmd)).unwrap();
    let named = |object: Value| {
        let text = |place| object.pointer(place).and_then(Value::as_str).unwrap().to_owned();
        ((text("/kind"), text("/metadata/name")), object)
    };
    objects.into_iter().filter(|object| !object.is_null()).map(named).collect()
}

#[track_caller]
fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn helm_accepts_it() {
    run(Command::new(program("helm")).args(["lint", "--strict", CHART]));
    let kinds = |values: &[&str]| rendered(values).into_keys().map(|(kind, _)| kind).collect::<Vec<_>>();
    assert_eq!(kinds(&[]), ["ConfigMap", "DaemonSet", "Service", "ServiceAccount"]);
    let more = ["PrometheusRule", "PrometheusRule", "Service", "ServiceAccount", "ServiceMonitor"];
    assert_eq!(kinds(ALL), [&["ConfigMap", "ConfigMap", "DaemonSet"], &more[..]].concat());
    // Links to the mixin become files of the package, which is what registries and repositories have.
    let directory = tempfile::tempdir().unwrap();
    run(Command::new(program("helm")).args(["package", CHART, "--destination"]).arg(directory.path()));
    let package = directory.path().join(concat!("fivetuple-", env!("CARGO_PKG_VERSION"), ".tgz"));
    let list = run(Command::new("tar").args(["--list", "--verbose", "--gzip", "--file"]).arg(package));
    for file in ["files/dashboards/fivetuple.json", "files/rules/alerts.yml"] {
        let whole = |line: &str| line.starts_with('-') && line.ends_with(&format!("fivetuple/{file}"));
        assert!(list.lines().any(whole), "{file} is not in {list}");
    }
}

#[test]
fn kubernetes_accepts_what_it_makes() {
    let directory = tempfile::tempdir().unwrap();
    for (set, values) in [&[], ALL].into_iter().enumerate() {
        for ((kind, name), object) in rendered(values) {
            // The operator's own kinds, which Kubernetes knows nothing of.
            if object["apiVersion"] == "monitoring.coreos.com/v1" {
                continue;
            }
            let file = write(directory.path(), &format!("{set}-{kind}-{name}.json"), &object.to_string());
            for version in VERSIONS {
                let mut cmd = Command::new(program("kubernetes-validate"));
                run(cmd.args(["--strict", "--kubernetes-version", version]).arg(&file));
            }
        }
    }
}

/// What is inside of the objects is for others to judge.
#[test]
fn agent_and_prometheus_accept_what_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let all = rendered(ALL);
    let of = |kind: &'static str| all.iter().filter(move |((k, _), _)| k == kind).map(|(_, object)| object);
    for (i, rules) in of("PrometheusRule").enumerate() {
        let file = write(directory.path(), &format!("{i}.yml"), &rules["spec"].to_string());
        run(Command::new("promtool").args(["check", "rules"]).arg(file));
        assert_eq!(rules["metadata"]["labels"]["release"], "prometheus");
    }
    let mut dashboards = 0;
    for (name, text) in of("ConfigMap").flat_map(|map| map["data"].as_object().unwrap()) {
        if name.ends_with(".json") {
            let dashboard: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 20), "{dashboard}");
            dashboards += 1;
        } else {
            write(directory.path(), name, text.as_str().unwrap());
        }
    }
    assert_eq!(dashboards, 1);

    let pod = &of("DaemonSet").next().unwrap()["spec"]["template"]["spec"];
    assert_eq!(pod["hostNetwork"], true);
    let agent = Path::new(env!("CARGO_BIN_EXE_packaging")).with_file_name("fivetuple");
    let mut cmd = Command::new(agent);
    for argument in pod["containers"][0]["args"].as_array().unwrap() {
        let place = |file: &str| directory.path().join(file).display().to_string();
        // The secret is the operator's.
        write(directory.path(), "web.yml", "{}\n");
        let argument =
            argument.as_str().unwrap().replace("/etc/fivetuple/fivetuple.yaml", &place("fivetuple.yaml"));
        cmd.arg(argument.replace("/etc/fivetuple-web/web.yml", &place("web.yml")));
    }
    // It says so on its log.
    run(cmd.arg("--config.check"));
}
