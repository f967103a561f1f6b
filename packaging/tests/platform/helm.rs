//! Helm's own word on the chart: `cargo test -p packaging --features helm --test platform helm`, where Helm is installed. It
//! is no package of Debian's, so no setup installs it, and without the feature there is no such test.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;
use xtask::sh;

use crate::{chart::CHART, package::run};

#[test]
fn helm_accepts_it() {
    let helm = sh::find_program("helm").expect("helm is installed, from https://helm.sh");
    run(Command::new(&helm).args(["lint", "--strict", CHART]));
    let all = ["serviceMonitor.enabled=true", "prometheusRule.enabled=true", "dashboards.enabled=true"];
    let more = [
        "bpffs.enabled=true",
        "existingSecret=web",
        "config.limits.idle=10s",
        "extraArgs={--log.format=json}",
    ];
    let mut cmd = Command::new(&helm);
    cmd.args(["template", "gateway", CHART]);
    for set in all.iter().chain(&more) {
        cmd.args(["--set", set]);
    }
    let rendered = run(&mut cmd);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&rendered).unwrap();
    let kinds: BTreeSet<_> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    for kind in ["ConfigMap", "DaemonSet", "Service", "ServiceAccount", "ServiceMonitor"] {
        assert!(kinds.contains(kind), "no {kind} in\n{rendered}");
    }
    let pod = objects.iter().find(|object| object["kind"] == "DaemonSet").unwrap();
    assert_eq!(pod["spec"]["template"]["spec"]["hostNetwork"], true);
}
