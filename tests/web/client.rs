//! The agent's own client: the commands ask an agent that lets in only whom it knows, and alerts reach an Alertmanager that
//! does the same.

use std::process::Output;

use harness::agent::{DEADLINE, Launch, binary};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::RIGHT;
use harness::{Pair, eventually};
use serde_json::Value;

use crate::folder::{Curl, Folder, HASH, PASSWORD, USER, authority};

/// Only with a certificate of our authority.
const VERIFIED: &str = "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem";
/// The keys that show ours.
const SHOWN: &str = "cert_file: good.pem, key_file: good.key";

/// Everybody's certificates, a password, and a server that asks for both.
fn guarded() -> Folder {
    let folder = Folder::new();
    folder.certify("good", &["operator.example"], &folder.authority);
    folder.certify("stranger", &["operator.example"], &authority("stranger"));
    folder.write("password", &format!("{PASSWORD}\n"));
    folder.configure(VERIFIED, &format!("basic_auth_users:\n  {USER}: {HASH}\n"));
    folder
}

/// Runs a command with this HTTP configuration.
#[track_caller]
fn command(world: &Pair, folder: &Folder, http: &str, arguments: &[&str]) -> Output {
    folder.write("http.yml", http);
    let mut command = world.left.cmd(binary().to_str().expect("the path is text"));
    command.args(arguments).arg("--http.config.file").arg(folder.path("http.yml"));
    command.output().expect("the agent's program is there")
}

fn http(tls: &str, password: &str) -> String {
    format!("tls_config: {{{tls}}}\nbasic_auth: {{username: {USER}, {password}}}\n")
}

#[test]
fn commands_ask_an_agent_that_wants_certificate_and_password() {
    let world = Pair::new();
    let folder = guarded();
    let agent = folder.start(&world);
    let server = Server::start(&world.right, (RIGHT.v4, 443), Serve::Echo);
    for _ in 0..5 {
        let mut conn = tcp::connect(&world.left, server.address());
        tcp::echo(&mut conn, 100);
    }
    let (secure, clear) = (format!("https://{}", agent.web()), format!("http://{}", agent.web()));
    let right = http(&format!("ca_file: ca.pem, {SHOWN}"), "password_file: password");
    let point = format!("here={secure}");
    let commands: [&[&str]; 4] = [
        &["flows", "--url", &secure, "--output=json"],
        &["reuse", "--url", &secure, "--output=json"],
        &["explain", "--url", &secure, "--output=json"],
        &["locate", "--points", &point, "--output=json"],
    ];
    for arguments in commands {
        eventually(DEADLINE, "an answer", || {
            let output = command(&world, &folder, &right, arguments);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            match serde_json::from_slice::<Value>(&output.stdout) {
                Ok(Value::Object(_)) if output.status.success() => Ok(()),
                _ => Err(format!("{arguments:?}: {said}")),
            }
        });
    }

    let ca = "ca_file: ca.pem";
    let password = "password_file: password";
    for (what, url, http, said) in [
        ("in clear", &clear, right.clone(), "write https://"),
        ("an authority unknown", &secure, http(SHOWN, password), "tls_config: {ca_file: ...}"),
        (
            "another name",
            &secure,
            http(&format!("{ca}, {SHOWN}, server_name: a.example"), password),
            "server_name",
        ),
        ("no certificate", &secure, http(ca, password), "tls_config: {cert_file: ..., key_file: ...}"),
        (
            "a stranger's",
            &secure,
            http(&format!("{ca}, cert_file: stranger.pem, key_file: stranger.key"), password),
            "tls_config: {cert_file: ..., key_file: ...}",
        ),
        ("a wrong password", &secure, http(&format!("{ca}, {SHOWN}"), "password: zyx"), "write basic_auth"),
        (
            "a file that is not there",
            &secure,
            http("ca_file: none.pem", password),
            "http.yml: line 1: tls_config.ca_file: cannot read",
        ),
    ] {
        let output = command(&world, &folder, &http, &["flows", "--url", url]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(said), "{what}: {told}");
    }
    // A certificate for a name that no resolver knows; and any certificate at all.
    folder.certify("server", &["gateway.example"], &folder.authority);
    for (tls, let_in) in [
        (ca, false),
        ("ca_file: ca.pem, server_name: gateway.example", true),
        ("insecure_skip_verify: true", true),
    ] {
        let output = command(
            &world,
            &folder,
            &http(&format!("{tls}, {SHOWN}"), password),
            &["flows", "--url", &secure],
        );
        assert_eq!(output.status.success(), let_in, "{tls}: {}", String::from_utf8_lossy(&output.stderr));
    }
    agent.stop();
}

#[test]
fn alerts_reach_an_alertmanager_that_wants_certificate_and_password() {
    let world = Pair::new();
    let folder = guarded();
    let storage = tempfile::tempdir().expect("a temporary directory can be made");
    let manager = Launch::configuration("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
        .program("/usr/bin/prometheus-alertmanager")
        .argument(format!("--storage.path={}", storage.path().display()))
        .argument("--cluster.listen-address=")
        .argument(format!("--web.config.file={}", folder.path("web.yml").display()))
        .spawn(&world.left);
    let listed = || alerts(&Curl::new(&folder, &manager, &world.left));
    eventually(DEADLINE, "the Alertmanager to listen", || listed().is_some());
    let path = |name: &str| folder.path(name).display().to_string();
    let agent = Launch::configuration(format!(
        "interfaces: [{{name: eth0}}]
alerts:
  built_in: false
  alertmanagers:
    - url: https://{web}
      name: known
      http_config:
        tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}
        basic_auth: {{username: {USER}, password_file: {password}}}
    - {{url: 'https://{web}', name: unknown}}
  rules:
    - {{name: refused, severity: page, kind: count, window: 1h, above: 0, metric: fivetuple_tcp_resets_total, where: {{cause: refused}}}}
",
        web = manager.web(),
        ca = path("ca.pem"),
        cert = path("good.pem"),
        key = path("good.key"),
        password = path("password"),
    ))
    .start(&world.left);
    assert!(Dial::default().try_connect(&world.left, (RIGHT.v4, 443)).is_err(), "nobody listens");
    eventually(DEADLINE, "the alert to be there", || {
        let all = listed().unwrap_or_default();
        all.iter().any(|alert| alert["labels"]["alertname"] == "refused")
    });
    let sent = |sink| agent.metrics().get("fivetuple_alerts_sent_total", &[("sink", sink)]);
    eventually(DEADLINE, "it to be accounted for", || sent("known") == 1.0);
    assert_eq!(sent("unknown"), 0.0);
    eventually(DEADLINE, "the log to say what to write", || {
        let told = |line: &String| line.contains("sink=unknown") && line.contains("ca_file");
        if agent.log().iter().any(told) { Ok(()) } else { Err(agent.log().join("\n")) }
    });
    drop(manager);
    agent.stop();
}

/// The alerts of an Alertmanager; none before it answers.
fn alerts(curl: &Curl<'_>) -> Option<Vec<Value>> {
    let answer = curl.clone().showing("good").password(PASSWORD).ask("/api/v2/alerts");
    let (_, body) = answer.text.rsplit_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
