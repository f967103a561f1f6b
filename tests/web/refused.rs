//! A web configuration that is wrong: said at the start, by every verb that reads it, with file, line and key.

use harness::Pair;
use harness::agent::{left_attached, run_to_end};

use crate::folder::{Folder, HASH};

#[test]
fn a_wrong_file_is_refused_at_the_start() {
    let world = Pair::new();
    let folder = Folder::new();
    let file = folder.path("web.yml").display().to_string();
    let argument = format!("--web.config.file={file}");
    let tls = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n";
    for (text, words) in [
        (format!("{tls}  cipher_suits: []\n"), ["line 4: cipher_suits", "did you mean cipher_suites?"]),
        (format!("{tls}  min_version: TLS10\n"), ["line 4: tls_server_config.min_version", "rustls"]),
        (
            format!("{tls}  client_ca_file: ca.pem\n"),
            ["line 4: tls_server_config.client_ca_file", "no client is asked"],
        ),
        (tls.replace("server.pem", "gone.pem"), ["line 2: tls_server_config.cert_file", "cannot read"]),
        (tls.replace("server.key", "ca.pem"), ["line 3: tls_server_config.key_file", "no private key"]),
        ("basic_auth_users:\n  a: secret\n".to_owned(), ["line 2: basic_auth_users.a", "no bcrypt hash"]),
        ("rate_limit: {interval: 1s}\n".to_owned(), ["line 1: rate_limit.burst", "is missing"]),
    ] {
        folder.write("web.yml", &text);
        for verb in [
            &["run", "--interface=eth0"][..],
            &["run", "--interface=eth0", "--config.check"],
            &["check", "--interface=eth0"],
        ] {
            let output = run_to_end(&world.left, &[verb, &[argument.as_str()]].concat());
            let said =
                [&output.stdout, &output.stderr].map(|b| String::from_utf8_lossy(b).into_owned()).concat();
            assert_eq!(output.status.code(), Some(1), "{verb:?} {text}\n{said}");
            for word in words.iter().chain([&file.as_str()]) {
                assert!(said.contains(word), "{word} is not in what was said:\n{said}");
            }
            assert!(!said.contains("panicked"), "{said}");
        }
    }
    assert_eq!(left_attached(&world.left), Vec::<String>::new());
    folder.write("web.yml", &format!("{tls}basic_auth_users:\n  a: {HASH}\n"));
    let output = run_to_end(&world.left, &["run", "--interface=eth0", "--config.check", &argument]);
    assert_eq!(output.status.code(), Some(0));
}
