//! Tests of the form: what is taken, and how each fault is told.

use super::settings::{Settings, parse};
use rcgen::{CertificateParams, KeyPair};
use std::{fs, path::Path};

/// A folder with two certificates, their keys, and a password.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    for name in ["a", "b"] {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![format!("{name}.example")]).unwrap().self_signed(&key).unwrap();
        write(&format!("{name}.pem"), &certificate.pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    write("password", "secret\n");
    folder
}

fn told(text: &str, directory: &Path) -> Vec<String> {
    parse(text, directory).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn all_that_is_right_is_taken() {
    let folder = folder();
    let read =
        |text: &str| parse(text, folder.path()).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
    assert_eq!(read(""), Settings::default());
    let all = read(
        "tls_config: {ca_file: b.pem, cert_file: a.pem, key_file: a.key, server_name: gw.example, insecure_skip_verify: true}\nbasic_auth: {username: me, password_file: password}",
    );
    assert_eq!(all.paths().count(), 4);
    assert_eq!((all.server_name.as_deref(), all.insecure_skip_verify), (Some("gw.example"), true));
    let header = |text: &str| super::authorization(&read(text)).unwrap().unwrap();
    // RFC 7617 section 2 has this pair.
    assert_eq!(
        header("basic_auth: {username: Aladdin, password: open sesame}"),
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    assert_eq!(
        header("basic_auth: {username: me, password_file: password}"),
        header("basic_auth: {username: me, password: secret}"),
        "the line break at a file's end is none of the password"
    );
    let shown = format!("{:?}", read("basic_auth: {username: me, password: very secret}"));
    assert!(!shown.contains("very secret"), "{shown}");
}

#[test]
fn each_fault_has_its_key_and_line() {
    let folder = folder();
    for (text, expected) in [
        ("tls_config:\n  ca: [a]", "line 2: ca: "),
        ("tls_config: {cafile: a}", "line 1: cafile: unknown key; did you mean ca_file?"),
        ("\ntls_config:\n  ca_file: none.pem", "line 3: tls_config.ca_file: cannot read "),
        ("tls_config: {ca_file: a.key}", "line 1: tls_config.ca_file: holds no certificate in PEM"),
        (
            "tls_config: {cert_file: a.pem}",
            "line 1: tls_config.cert_file: its key is missing; write key_file",
        ),
        ("tls_config: {key_file: a.key}", "line 1: tls_config.key_file: its certificate is missing"),
        (
            "tls_config: {cert_file: a.pem, key_file: a.pem}",
            "line 1: tls_config.key_file: holds no private key in PEM",
        ),
        (
            "tls_config: {cert_file: a.pem, key_file: b.key}",
            "line 1: tls_config.key_file: the key cannot be used with the certificate",
        ),
        ("tls_config: {ca: x, ca_file: a.pem}", "line 1: tls_config.ca_file: ca is here, too; keep one"),
        ("tls_config: {server_name: 'a b'}", "line 1: tls_config.server_name: \"a b\" is neither a name"),
        ("basic_auth: {password: x}", "line 1: basic_auth.username: this key is missing"),
        ("basic_auth: {username: 'a:b', password: x}", "line 1: basic_auth.username: a name with a colon"),
        (
            "basic_auth: {username: a}",
            "line 1: basic_auth.password_file: this key is missing; or write password",
        ),
        (
            "basic_auth:\n  username: a\n  password_file: none",
            "line 3: basic_auth.password_file: cannot read ",
        ),
    ] {
        let told = told(text, folder.path());
        assert!(told.len() == 1 && told[0].starts_with(expected), "{text}: {told:?}");
    }
}
