//! Tests of the file: for each key of the format what is taken, and what is refused with its line.

use super::{super::reader::go_duration, *};
use crate::config::content::Source;
use std::time::Duration;

fn parse(text: &str) -> Result<Web, Vec<Problem>> {
    super::parse(text, Path::new("/etc/fivetuple"))
}

/// Everything a TLS configuration needs, and more lines of it.
fn tls(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    format!("tls_server_config:\n  cert_file: a.crt\n  key_file: a.key\n{lines}")
}

const HASH: &str = "$2y$10$abcdefghijklmnopqrstuuV5R7zjUo1CwgqXCRB0x/lRMzEvuMwSG";

#[test]
fn all_that_is_right_is_taken() {
    for text in [
        "".to_owned(),
        "# nothing\n".to_owned(),
        "{}".to_owned(),
        "tls_server_config:\n".to_owned(),
        "tls_server_config: {cert: x, key: y}".to_owned(),
        "tls_server_config: {cert: x, key_file: y}".to_owned(),
        "tls_server_config: {cert: x, cert_file: y, key: z, key_file: z}".to_owned(),
        tls("client_auth_type: NoClientCert"),
        tls("client_auth_type: ''"),
        tls("client_auth_type: RequestClientCert"),
        tls("client_auth_type: RequireAnyClientCert"),
        tls("client_auth_type: RequireClientCert"),
        tls("client_auth_type: VerifyClientCertIfGiven"),
        tls("client_auth_type: RequireAndVerifyClientCert\nclient_ca_file: ca.pem"),
        tls(
            "client_auth_type: RequireAndVerifyClientCert\nclient_ca: PEM\nclient_allowed_sans: [a, 10.0.0.1]",
        ),
        tls("min_version: TLS12\nmax_version: TLS12"),
        tls("min_version: TLS13"),
        tls("cipher_suites: []"),
        tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]"),
        tls("cipher_suites: [TLS_AES_128_GCM_SHA256]\nmin_version: TLS13"),
        tls("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]") + "http_server_config: {http2: false}",
        tls("curve_preferences: [CurveP384, X25519, CurveP256]"),
        tls("prefer_server_cipher_suites: false"),
        tls("prefer_server_cipher_suites: yes"),
        "http_server_config: {http2: true}".to_owned(),
        "http_server_config: {headers: {X-Frame-Options: deny, X-XSS-Protection: 1}}".to_owned(),
        "http_server_config: {headers: {X-Frame-Options: sameorigin, X-Content-Type-Options: nosniff}}"
            .to_owned(),
        "http_server_config: {headers: {X-Frame-Options: ''}}".to_owned(),
        "http_server_config: {headers: {Strict-Transport-Security: max-age=1; includeSubDomains}}".to_owned(),
        "http_server_config: {headers: {Content-Security-Policy: \"default-src 'self'\"}}".to_owned(),
        format!("basic_auth_users:\n  alice: {HASH}\n  bob: {}\n", HASH.replace("2y", "2b")),
        "basic_auth_users: {}".to_owned(),
        "rate_limit: {interval: 1s, burst: 20}".to_owned(),
        "rate_limit: {interval: 0, burst: 20}".to_owned(),
        "rate_limit: {interval: 0s}".to_owned(),
        "rate_limit: {burst: 20}".to_owned(),
    ] {
        assert!(parse(&text).is_ok(), "{text}\n{:?}", parse(&text));
    }
}

/// Line, key, and a word of the reason.
#[test]
fn all_that_is_wrong_is_refused_with_its_line_and_key() {
    let mut otherwise = Vec::new();
    let no_tls13 = "max_version: TLS12\ncipher_suites:\n- TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384";
    for (text, line, key, word) in [
        ("junk".to_owned(), 1, "", ""),
        ("a: [".to_owned(), 1, "a", ""),
        ("tls_server_confg: {}".to_owned(), 1, "tls_server_confg", "did you mean tls_server_config?"),
        (tls("cert_filse: x"), 4, "cert_filse", "did you mean cert_file?"),
        (tls("cert_file: x"), 4, "cert_file", "twice"),
        ("tls_server_config: 5".to_owned(), 1, "tls_server_config", ""),
        (tls("cipher_suites: 5"), 4, "cipher_suites", ""),
        (
            "tls_server_config:\n  key_file: k".to_owned(),
            2,
            "tls_server_config",
            "cert_file or cert is missing",
        ),
        ("tls_server_config:\n  cert: ''\n  key: k".to_owned(), 2, "tls_server_config", "cert_file or cert"),
        (
            "tls_server_config:\n  cert_file: c".to_owned(),
            2,
            "tls_server_config",
            "key_file or key is missing",
        ),
        ("tls_server_config: {min_version: TLS13}".to_owned(), 1, "tls_server_config", "cert_file or cert"),
        (tls("client_auth_type: Require"), 4, "tls_server_config.client_auth_type", "RequestClientCert"),
        (tls("client_ca_file: ca"), 4, "tls_server_config.client_ca_file", "no client is asked"),
        (
            tls("client_auth_type: NoClientCert\nclient_ca: c"),
            5,
            "tls_server_config.client_ca",
            "no client is",
        ),
        (tls("client_allowed_sans: [a]"), 4, "tls_server_config.client_allowed_sans", "no client is asked"),
        (
            tls("client_auth_type: RequireAnyClientCert\nclient_allowed_sans: []"),
            5,
            "tls_server_config.client_allowed_sans",
            "nobody could connect",
        ),
        (tls("min_version: TLS10"), 4, "tls_server_config.min_version", "none older than TLS 1.2"),
        (tls("max_version: TLS11"), 4, "tls_server_config.max_version", "none older than TLS 1.2"),
        (tls("min_version: TLS111"), 4, "tls_server_config.min_version", "is no TLS version"),
        (
            tls("min_version: TLS13\nmax_version: TLS12"),
            5,
            "tls_server_config.max_version",
            "no version is left",
        ),
        (tls("cipher_suites:\n- TLS_AES_129"), 5, "tls_server_config.cipher_suites", "is no cipher suite"),
        (
            tls("cipher_suites:\n- TLS_AES_128_GCM_SHA256\n- TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"),
            6,
            "tls_server_config.cipher_suites",
            "no suites with CBC",
        ),
        (tls(no_tls13), 6, "tls_server_config.cipher_suites", "HTTP/2 needs"),
        (tls("curve_preferences:\n- CurveP521"), 5, "tls_server_config.curve_preferences", "cannot be had"),
        (tls("curve_preferences:\n- CurveP257"), 5, "tls_server_config.curve_preferences", "is no curve"),
        (
            tls("prefer_server_cipher_suites: x"),
            4,
            "tls_server_config.prefer_server_cipher_suites",
            "neither",
        ),
        ("http_server_config:\n  http2: maybe".to_owned(), 2, "http_server_config.http2", "neither"),
        ("http_server_config: {http3: true}".to_owned(), 1, "http3", "keys here: http2, headers"),
        (
            "http_server_config:\n  headers:\n    Content-Type: foo".to_owned(),
            3,
            "Content-Type",
            "keys here: Content-Security-Policy, X-Frame-Options",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: foo".to_owned(),
            3,
            "http_server_config.headers.X-Frame-Options",
            "deny or sameorigin",
        ),
        (
            "http_server_config: {headers: {X-Content-Type-Options: sniff}}".to_owned(),
            1,
            "http_server_config.headers.X-Content-Type-Options",
            "nosniff",
        ),
        (
            "http_server_config: {headers: {Content-Security-Policy: \"a\\nb\"}}".to_owned(),
            1,
            "http_server_config.headers.Content-Security-Policy",
            "line break",
        ),
        ("basic_auth_users:\n  john: doe".to_owned(), 2, "basic_auth_users.john", "no bcrypt hash"),
        (format!("basic_auth_users:\n  a: {HASH}\n  a: {HASH}"), 3, "a", "twice"),
        (
            format!("basic_auth_users: {{john: {}}}", HASH.replace("$10$", "$32$")),
            1,
            "basic_auth_users.john",
            "a cost of 32",
        ),
        ("basic_auth_users: [a]".to_owned(), 1, "basic_auth_users", ""),
        ("rate_limit:\n  interval: 1s".to_owned(), 2, "rate_limit.burst", "is missing"),
        (
            "rate_limit:\n  interval: 1s\n  burst: 0".to_owned(),
            3,
            "rate_limit.burst",
            "0 would let no request",
        ),
        ("rate_limit: {interval: 1s, burst: -1}".to_owned(), 1, "rate_limit.burst", "no number of requests"),
        ("rate_limit:\n  interval: 1".to_owned(), 2, "rate_limit.interval", "is not a duration"),
        (
            "rate_limit:\n  interval: -1s\n  burst: 1".to_owned(),
            2,
            "rate_limit.interval",
            "is not a duration",
        ),
        ("rate_limit:\n  brust: 1".to_owned(), 2, "brust", "did you mean burst?"),
    ] {
        let Err(problems) = parse(&text) else { panic!("{text}\nis taken") };
        let told = &problems[0];
        if (told.line, told.key.as_str()) != (line, key) || !told.text.contains(word) {
            otherwise.push(format!("{text}\n=> {told}\ninstead of line {line}: {key}: {word}"));
        }
        assert!(!told.to_string().contains("doe"), "a password is not repeated: {told}");
    }
    assert!(otherwise.is_empty(), "{}", otherwise.join("\n\n"));
}

#[test]
fn what_is_read_is_what_is_written() {
    let web = parse(&(tls("client_auth_type: VerifyClientCertIfGiven\ncipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\ncurve_preferences: [CurveP384]\nprefer_server_cipher_suites: false\nmin_version: TLS12")
        + "http_server_config: {headers: {X-XSS-Protection: 1, X-Frame-Options: deny}}\nrate_limit: {interval: 1m30s, burst: 3}\n"))
    .unwrap();
    let tls = web.tls.unwrap();
    let names: Vec<_> = tls.suites.iter().map(|s| format!("{:?}", s.suite())).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("TLS13_")).count(), 3, "always: {names:?}");
    assert_eq!(
        names[3..],
        ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]
    );
    assert_eq!((tls.curves.len(), tls.versions.len(), tls.server_order, tls.http2), (1, 2, false, true));
    assert_eq!(tls.client_auth, ClientAuth::VerifyIfGiven);
    assert!(matches!(&tls.cert.source, Source::File(path) if path == Path::new("/etc/fivetuple/a.crt")));
    assert_eq!(web.headers.len(), 2);
    assert_eq!(web.rate, Some(Rate { interval: Duration::from_secs(90), burst: 3 }));
}

/// The keys come from serde's own list of them, so that no key can be forgotten.
#[test]
fn the_page_names_every_key() {
    let page = include_str!("../../../docs/web.md");
    for section in [
        "%",
        "tls_server_config: %",
        "http_server_config: %",
        "http_server_config: {headers: %}",
        "rate_limit: %",
    ] {
        let problems = parse(&section.replace('%', "{zz: 1}")).map(|_| ()).unwrap_err();
        let keys = problems[0].text.split("keys here: ").nth(1).unwrap().trim_end_matches(')');
        for key in keys.split(", ") {
            assert!(page.contains(&format!("{key}:")), "{key} is not in docs/web.md");
        }
    }
}

#[test]
fn durations_are_go_s() {
    for (text, millis) in
        [("1s", 1000), ("1m30s", 90_000), ("1.5h", 5_400_000), ("250ms", 250), ("+1s", 1000), ("0", 0)]
    {
        assert_eq!(go_duration(text), Ok(Duration::from_millis(millis)), "{text}");
    }
    for bad in ["", "1", "s", "-1s", "1x", "1s2", ".s", "1e3s", "99999999999999999999h", "1 s", "inf"] {
        assert!(go_duration(bad).is_err(), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(tls_server_config|rate_limit|basic_auth_users|http_server_config)?[:{ \\n]{0,3}\\PC{0,60}") {
        let _ = parse(&text);
    }
}
