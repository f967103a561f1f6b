//! The agent's own client: the commands ask an agent that lets in only whom it knows, and alerts reach an Alertmanager that
//! does the same.

use std::net::Ipv4Addr;
use std::process::{Child, Output};

use harness::agent::{DEADLINE, Launch, binary};
use harness::hook::{Hook, Mood};
use harness::tcp::{self, Dial, Serve, Server};
use harness::topology::RIGHT;
use harness::{Pair, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
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
    let points = format!("here={secure},there={secure}");
    let commands: [&[&str]; 4] = [
        &["flows", "--url", &secure, "--output=json"],
        &["reuse", "--url", &secure, "--output=json"],
        &["explain", "--url", &secure, "--output=json"],
        &["locate", "--points", &points, "--output=json"],
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

/// nginx as it stands in front of many a webhook: it asks for a certificate and a password, and hands on what is right.
struct Nginx(Child);

impl Nginx {
    const PORT: u16 = 8443;

    #[track_caller]
    fn start(world: &Pair, folder: &Folder, hook: &Hook) -> Self {
        let here = folder.path("");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|what| format!("{what}_temp_path {what};\n"))
            .concat();
        folder.write("users", &format!("{USER}:{HASH}\n"));
        folder.write(
            "nginx.conf",
            &format!(
                "daemon off;\nuser root;\npid nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{temporary}access_log off;\n\
                 server {{\nlisten 127.0.0.1:{port} ssl;\n\
                 ssl_certificate server.pem;\nssl_certificate_key server.key;\n\
                 ssl_client_certificate ca.pem;\nssl_verify_client on;\n\
                 auth_basic pages;\nauth_basic_user_file users;\n\
                 location / {{ proxy_pass http://{hook}; }}\n}}\n}}\n",
                port = Self::PORT,
                hook = hook.place(),
            ),
        );
        let mut command = world.left.cmd("/usr/sbin/nginx");
        command.arg("-p").arg(&here).args(["-e", "stderr", "-c", "nginx.conf"]);
        let nginx = Self(command.spawn().expect("nginx is there: run `cargo xtask setup`"));
        eventually(DEADLINE, "nginx to listen", || {
            Dial::default().try_connect(&world.left, (Ipv4Addr::LOCALHOST, Self::PORT)).is_ok()
        });
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It tells its workers, which SIGKILL would leave behind.
        let pid = Pid::from_raw(self.0.id().cast_signed());
        let _ = kill(pid, Signal::SIGTERM).map(|()| self.0.wait());
    }
}

#[test]
fn alerts_reach_a_webhook_behind_nginx_that_wants_certificate_and_password() {
    let world = Pair::new();
    let folder = guarded();
    // A name that no resolver knows.
    folder.certify("server", &["pages.example"], &folder.authority);
    let hook = Hook::start(&world.left, Mood::Takes);
    let nginx = Nginx::start(&world, &folder, &hook);
    let right = "ca_file: ca.pem, cert_file: good.pem, key_file: good.key, server_name: pages.example";
    let sink = |name: &str, tls: &str, password: &str| {
        let mut tls = tls.to_owned();
        for file in ["ca.pem", "good.pem", "good.key", "stranger.pem", "stranger.key"] {
            tls = tls.replace(&format!(": {file}"), &format!(": {}", folder.path(file).display()));
        }
        format!(
            "    - {{url: 'https://127.0.0.1:{}/hook', name: {name}, http_config: {{tls_config: {{{tls}}}, basic_auth: {{username: {USER}, password: {password}}}}}}}\n",
            Nginx::PORT
        )
    };
    let sinks = [
        sink("known", right, PASSWORD),
        sink("unnamed", &right.replace(", server_name: pages.example", ""), PASSWORD),
        sink("stranger", &right.replace("good", "stranger"), PASSWORD),
        sink("nobody", "ca_file: ca.pem, server_name: pages.example", PASSWORD),
        sink("mistaken", right, "zyx"),
    ];
    let agent = Launch::configuration(format!(
        "interfaces: [{{name: eth0}}]\nalerts:\n  built_in: false\n  webhooks:\n{}  rules:\n    - {{name: refused, severity: page, kind: count, window: 1h, above: 0, metric: fivetuple_tcp_resets_total, where: {{cause: refused}}}}\n",
        sinks.concat(),
    ))
    .start(&world.left);
    assert!(Dial::default().try_connect(&world.left, (RIGHT.v4, 443)).is_err(), "nobody listens");
    eventually(DEADLINE, "the alert to be there", || !hook.posts().is_empty());
    let told = hook.posts().remove(0).body;
    assert_eq!(
        (&told["version"], &told["rule"], &told["status"]),
        (&1.into(), &"refused".into(), &"firing".into())
    );

    let count =
        |of: &str, sink: &str| agent.metrics().get(&format!("fivetuple_alerts_{of}"), &[("sink", sink)]);
    for (name, said) in [
        ("unnamed", "server_name"),
        ("stranger", "tls_config: {cert_file: ..., key_file: ...}"),
        ("nobody", "tls_config: {cert_file: ..., key_file: ...}"),
        ("mistaken", "basic_auth"),
    ] {
        eventually(DEADLINE, "it to be tried more than once", || count("send_failures_total", name) > 1.0);
        assert_eq!((count("queued", name), count("dropped_total", name)), (1.0, 0.0), "{name} waits");
        let sink = format!("sink={name} ");
        let told = |line: &String| line.contains(&sink) && line.contains(said);
        assert!(agent.log().iter().any(told), "{name}: {}", agent.log().join("\n"));
    }
    assert_eq!((hook.posts().len(), count("sent_total", "known")), (1, 1.0));

    // Its certificate is renewed, by whom nginx trusts: what waited is told.
    folder.certify("stranger", &["operator.example"], &folder.authority);
    eventually(DEADLINE, "the renewed one to be let in", || count("sent_total", "stranger") == 1.0);
    assert_eq!(hook.posts().len(), 2);
    drop(nginx);
    agent.stop();
}

/// The alerts of an Alertmanager; none before it answers.
fn alerts(curl: &Curl<'_>) -> Option<Vec<Value>> {
    let answer = curl.clone().showing("good").password(PASSWORD).ask("/api/v2/alerts");
    let (_, body) = answer.text.rsplit_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
