//! TLS as curl and openssl see it, and each change of the file while the agent runs.

use std::process::Stdio;
use std::time::Duration;

use harness::agent::Agent;
use harness::{Pair, eventually};

use crate::folder::{Curl, Folder, HASH, PASSWORD, authority};

/// How long a line of the log may take to be here, on a busy machine.
const TOLD: Duration = Duration::from_secs(20);
const VERIFIED: &str = "client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem";

/// What openssl's client tells of a handshake; with TLS 1.3 the server judges the client only after it, so that a page
/// is asked for.
#[track_caller]
fn handshake(world: &Pair, agent: &Agent<'_>, arguments: &[&str]) -> (bool, String) {
    let mut command = world.left.cmd("openssl");
    command.args(["s_client", "-connect", &agent.web().to_string()]).args(arguments);
    let output = command.stdin(Stdio::null()).output().expect("openssl is there");
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    (output.status.success(), said.concat())
}

#[test]
fn only_who_has_certificate_name_and_password_is_let_in() {
    let world = Pair::new();
    let folder = Folder::new();
    let stranger = authority("stranger");
    folder.certify("good", &["scraper.example"], &folder.authority);
    folder.certify("other", &["other.example"], &folder.authority);
    folder.certify("stranger", &["scraper.example"], &stranger);
    let users = format!("basic_auth_users:\n  scraper: {HASH}\n");
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security: max-age=60\n";
    folder.configure(
        &format!("{VERIFIED}\nclient_allowed_sans: [scraper.example]"),
        &format!("{users}{headers}"),
    );
    let agent = folder.start(&world);
    let curl = || Curl::new(&folder, &agent, &world.left);

    let answer = curl().showing("good").password(PASSWORD).ask("/metrics");
    assert_eq!((answer.status, answer.version.as_str()), (200, "2"), "{answer:?}");
    for part in ["x-frame-options: deny", "strict-transport-security: max-age=60", "fivetuple_build_info"] {
        assert!(answer.text.contains(part), "{part} is not in {}", answer.text);
    }
    let old = curl().showing("good").password(PASSWORD).with(&["--http1.1"]).ask("/metrics");
    assert_eq!((old.status, old.version.as_str()), (200, "1.1"));
    for (who, asked) in [
        ("no password", curl().showing("good")),
        ("a wrong password", curl().showing("good").password("zyx")),
        ("another user", curl().showing("good").with(&["--user", &format!("root:{PASSWORD}")])),
    ] {
        let answer = asked.ask("/metrics");
        assert_eq!(answer.status, 401, "{who}: {answer:?}");
        assert!(answer.text.contains("www-authenticate: Basic"), "{answer:?}");
    }
    for (who, asked) in [
        ("nobody", curl()),
        ("a stranger's client", curl().showing("stranger")),
        ("another name", curl().showing("other")),
    ] {
        for page in ["/metrics", "/", "/-/healthy"] {
            let answer = asked.clone().password(PASSWORD).ask(page);
            assert!(answer.exit != 0 && answer.status == 0, "{who}: {answer:?}");
        }
    }
    let clear = curl().password(PASSWORD).ask_by("http", "/metrics");
    assert_eq!(clear.status, 0, "without TLS: {clear:?}");
    eventually(TOLD, "the log to tell why", || {
        agent.log().iter().any(|line| line.contains("TLS handshake failed") && line.contains("127.0.0.1"))
    });
    agent.stop();
}

#[test]
fn the_file_is_in_force_as_it_stands() {
    let world = Pair::new();
    let folder = Folder::new();
    let stranger = authority("stranger");
    folder.certify(
        "good",
        &["scraper.example", "10.1.2.3", "me@example.net", "spiffe://a/b"],
        &folder.authority,
    );
    folder.certify("stranger", &["scraper.example"], &stranger);
    folder.configure("", "");
    let agent = folder.start(&world);
    let curl = || Curl::new(&folder, &agent, &world.left);
    let lets_in = |who: &str| {
        let asked = if who.is_empty() { curl() } else { curl().showing(who) };
        asked.ask("/-/healthy").status == 200
    };
    let openssl = |arguments: &[&str]| handshake(&world, &agent, arguments);

    // Without a client, with a stranger's certificate, with one of ours.
    let ca = "client_ca_file: ca.pem";
    for (kind, more, expected) in [
        ("NoClientCert", "", [true, true, true]),
        ("RequestClientCert", ca, [true, true, true]),
        ("RequireAnyClientCert", ca, [false, true, true]),
        ("RequireClientCert", "", [false, true, true]),
        ("VerifyClientCertIfGiven", ca, [true, false, true]),
        ("VerifyClientCertIfGiven", "", [true, false, false]),
        ("RequireAndVerifyClientCert", ca, [false, false, true]),
        ("RequireAndVerifyClientCert", "", [false, false, false]),
        // A client's own certificate may be the authority.
        ("RequireAndVerifyClientCert", "client_ca_file: stranger.pem", [false, true, false]),
    ] {
        folder.configure(&format!("client_auth_type: {kind}\n{more}"), "");
        let got = ["", "stranger", "good"].map(lets_in);
        assert_eq!(got, expected, "{kind} {more}");
    }
    for (san, expected) in [
        ("scraper.example", true),
        ("10.1.2.3", true),
        ("me@example.net", true),
        ("spiffe://a/b", true),
        ("other.example", false),
        ("example", false),
        ("10.1.2.30", false),
    ] {
        folder.configure(&format!("{VERIFIED}\nclient_allowed_sans: [zz, \"{san}\"]"), "");
        assert_eq!(lets_in("good"), expected, "{san}");
        assert!(!lets_in(""), "{san}");
    }
    folder.configure("client_auth_type: VerifyClientCertIfGiven\nclient_allowed_sans: [zz]", "");
    assert!(!lets_in(""), "who shows nothing has no name");

    folder.configure("", "");
    for (arguments, expected) in [
        (&["-tls1_3"][..], true),
        (&["-tls1_2"], true),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], false),
        (&["-tls1", "-cipher", "ALL:@SECLEVEL=0"], false),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"], false),
    ] {
        let (done, said) = openssl(arguments);
        assert_eq!(done, expected, "{arguments:?}: {said}");
    }
    let (_, said) = openssl(&["-alpn", "h2,http/1.1"]);
    assert!(said.contains("ALPN protocol: h2"), "{said}");
    folder.configure("", "http_server_config: {http2: false}\n");
    let (_, said) = openssl(&["-alpn", "h2,http/1.1"]);
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");

    folder.configure("", "rate_limit: {interval: 1h, burst: 2}\n");
    let codes: Vec<_> = (0..4).map(|_| curl().ask("/-/healthy").status).collect();
    assert_eq!(codes, [200, 200, 429, 429]);

    folder.configure("min_version: TLS13\ncurve_preferences: [CurveP384]", "");
    assert!(!openssl(&["-tls1_2"]).0);
    assert!(!openssl(&["-groups", "X25519"]).0);
    let (done, said) = openssl(&["-groups", "X25519:P-384"]);
    assert!(done && said.contains("secp384r1"), "{said}");
    folder.configure("max_version: TLS12", "");
    assert!(!openssl(&["-tls1_3"]).0 && openssl(&["-tls1_2"]).0);
    let two =
        "cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]";
    let wanted = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"];
    for (server_order, suite) in [(true, "AES128-GCM-SHA256"), (false, "AES256-GCM-SHA384")] {
        folder.configure(&format!("{two}\nprefer_server_cipher_suites: {server_order}"), "");
        let (_, said) = openssl(&wanted);
        assert!(said.contains(&format!("Cipher is ECDHE-ECDSA-{suite}")), "{server_order}: {said}");
    }
    assert!(!openssl(&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"]).0);
    agent.stop();
}

#[test]
fn certificates_are_replaced_while_it_runs() {
    let world = Pair::new();
    let folder = Folder::new();
    folder.certify("old", &["scraper.example"], &folder.authority);
    folder.configure(VERIFIED, "");
    let agent = folder.start(&world);
    let curl = || Curl::new(&folder, &agent, &world.left);
    let serial = |of: &str| {
        let (_, said) = handshake(&world, &agent, &["-showcerts", "-servername", of]);
        let begin = said.find("-----BEGIN").unwrap_or_else(|| panic!("no certificate in {said}"));
        let end = said.find("-----END").expect("a certificate ends");
        said[begin..end].to_owned()
    };
    let before = serial("localhost");
    assert_eq!(curl().showing("old").ask("/-/healthy").status, 200);

    folder.certify("server", &["127.0.0.1", "localhost"], &folder.authority);
    let after = serial("localhost");
    assert_ne!(before, after, "the next handshake has the new certificate");
    assert_eq!(curl().showing("old").ask("/-/healthy").status, 200);

    // Another authority for clients: whom the old one vouched for is out.
    let successor = authority("successor");
    folder.certify("new", &["scraper.example"], &successor);
    folder.write("clients.pem", &successor.pem());
    folder.configure(&VERIFIED.replace("ca.pem", "clients.pem"), "");
    assert_eq!(curl().showing("old").ask("/-/healthy").status, 0);
    assert_eq!(curl().showing("new").ask("/-/healthy").status, 200);

    // A file that is wrong lets nobody in, and is told once; then it is right again.
    folder.configure("client_auth_type: Nobody", "");
    for _ in 0..3 {
        assert_eq!(curl().showing("new").ask("/-/healthy").status, 0);
    }
    let told = |word: &str| {
        eventually(TOLD, word, || agent.log().iter().any(|line| line.contains(word)));
        agent.log().iter().filter(|line| line.contains(word)).count()
    };
    assert_eq!(told("client_auth_type"), 1, "{:?}", agent.log());
    folder.configure(&VERIFIED.replace("ca.pem", "clients.pem"), "");
    assert_eq!(curl().showing("new").ask("/-/healthy").status, 200);
    assert_eq!(told("the web configuration is right again"), 1, "{:?}", agent.log());
    agent.stop();
}
