//! A real Prometheus: which it is, how it is started, and what it answers.

use harness::agent::{Agent, Launch};
use harness::{NetNs, Pair, eventually};
use serde_json::Value;
use std::time::Duration;

use crate::folder::{Folder, HASH, PASSWORD, USER, authority};

/// How long scrapes may take to come, on a busy machine.
pub const SCRAPED: Duration = Duration::from_secs(60);

/// Debian's, or another one that `PROMETHEUS` names.
pub fn program() -> String {
    std::env::var("PROMETHEUS").unwrap_or_else(|_| "/usr/bin/prometheus".to_owned())
}

/// Its first version number.
pub fn major() -> u32 {
    let output =
        std::process::Command::new(program()).arg("--version").output().expect("Prometheus is there");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    let version = said.split_whitespace().skip_while(|word| *word != "version").nth(1);
    version.and_then(|v| v.split('.').next()?.parse().ok()).unwrap_or_else(|| panic!("no version in {said}"))
}

/// Starts it with these jobs.
#[track_caller]
pub fn start<'a>(namespace: &'a NetNs, jobs: &str, features: &str, storage: &tempfile::TempDir) -> Agent<'a> {
    Launch::configuration(format!("global:\n  scrape_interval: 1s\nscrape_configs:\n{jobs}"))
        .program(program())
        .argument(format!("--storage.tsdb.path={}", storage.path().display()))
        .argument(format!("--enable-feature={features}"))
        .start(namespace)
}

/// The results of an instant query.
#[track_caller]
pub fn query(prometheus: &Agent<'_>, text: &str) -> Vec<Value> {
    let encoded: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = prometheus.get_json(&format!("/api/v1/query?query={encoded}"));
    answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{text}: {answer}")).clone()
}

#[test]
fn prometheus_scrapes_with_certificate_name_and_password_and_not_otherwise() {
    let world = Pair::new();
    let folder = Folder::new();
    folder.certify("good", &["scraper.example"], &folder.authority);
    folder.certify("other", &["other.example"], &folder.authority);
    folder.certify("stranger", &["scraper.example"], &authority("stranger"));
    folder.configure(
        "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem\nclient_allowed_sans: [scraper.example]",
        &format!("basic_auth_users:\n  {USER}: {HASH}\n"),
    );
    let agent = folder.start(&world);
    let job = |name: &str, client: &str, password: &str| {
        let path = |file: &str| folder.path(file).display().to_string();
        let shown = if client.is_empty() {
            String::new()
        } else {
            format!(
                "      cert_file: {}\n      key_file: {}\n",
                path(&format!("{client}.pem")),
                path(&format!("{client}.key"))
            )
        };
        format!(
            "  - job_name: {name}\n    scheme: https\n    basic_auth: {{username: {USER}, password: {password}}}\n    \
             tls_config:\n      ca_file: {}\n{shown}    static_configs: [{{targets: [\"{}\"]}}]\n",
            path("ca.pem"),
            agent.web()
        )
    };
    let jobs = [
        job("right", "good", PASSWORD),
        job("no_certificate", "", PASSWORD),
        job("another_name", "other", PASSWORD),
        job("a_stranger", "stranger", PASSWORD),
        job("a_wrong_password", "good", "wrong"),
    ]
    .concat();
    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let prometheus = start(&world.left, &jobs, "memory-snapshot-on-shutdown", &storage);
    eventually(SCRAPED, "each job to be scraped", || {
        let answer = prometheus.get_json("/api/v1/targets");
        let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let state = |job: &str| {
            let target = targets.iter().find(|t| t["labels"]["job"] == job);
            let text = |key: &str| target.and_then(|t| t[key].as_str()).unwrap_or_default().to_owned();
            (text("health"), text("lastError"))
        };
        let (health, error) = state("right");
        if health != "up" {
            return Err(format!("right: {health} {error}"));
        }
        for (job, word) in [
            ("no_certificate", "certificate"),
            ("another_name", "certificate"),
            ("a_stranger", "certificate"),
            ("a_wrong_password", "401"),
        ] {
            let (health, error) = state(job);
            if health != "down" || !error.contains(word) {
                return Err(format!("{job}: {health} {error}"));
            }
        }
        Ok(())
    });
    assert_eq!(query(&prometheus, "fivetuple_build_info{job=\"right\"}").len(), 1);
    assert_eq!(query(&prometheus, "fivetuple_build_info").len(), 1);
    drop(prometheus);
    agent.stop();
}
