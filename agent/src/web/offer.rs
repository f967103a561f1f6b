//! What a TLS handshake may choose from, by the names that the exporter toolkit's format has for it.
//!
//! The format has Go's names. What Go offers and rustls does not is known here, too: a file that asks for it is refused
//! with the reason, never served with less than it asks for.

use crate::config::nearest::nearest;
use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        SupportedKxGroup,
        ring::{cipher_suite as suite, kx_group},
    },
    version::{TLS12, TLS13},
};

/// Names of one kind.
pub struct Names<T: 'static> {
    /// What it is, in a sentence.
    what: &'static str,
    /// What can be had.
    had: &'static [(&'static str, T)],
    /// What Go has besides.
    refused: &'static [&'static str],
    /// Why that cannot be had.
    why: &'static str,
}

/// Versions of TLS, oldest first.
pub const VERSIONS: Names<&SupportedProtocolVersion> = Names {
    what: "TLS version",
    had: &[("TLS12", &TLS12), ("TLS13", &TLS13)],
    refused: &["TLS10", "TLS11"],
    why: "its protocol is broken (RFC 8996), and this program's TLS library (rustls) has none older than TLS 1.2",
};

/// Cipher suites.
pub const SUITES: Names<SupportedCipherSuite> = Names {
    what: "cipher suite",
    had: &[
        ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
        ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
        ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
        (
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ],
    refused: &[
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        "TLS_RSA_WITH_AES_128_CBC_SHA",
        "TLS_RSA_WITH_AES_256_CBC_SHA",
        "TLS_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_RSA_WITH_AES_256_GCM_SHA384",
    ],
    why: "this program's TLS library (rustls) has no suites with CBC or without forward secrecy",
};

/// Curves of the key exchange.
pub const CURVES: Names<&dyn SupportedKxGroup> = Names {
    what: "curve",
    had: &[
        ("CurveP256", kx_group::SECP256R1),
        ("CurveP384", kx_group::SECP384R1),
        ("X25519", kx_group::X25519),
    ],
    refused: &["CurveP521"],
    why: "this program's TLS library (rustls with ring) has no key exchange on it",
};

impl<T: Copy> Names<T> {
    /// What a name stands for; otherwise why it stands for nothing, and what to write.
    pub fn find(&self, name: &str) -> Result<T, String> {
        if let Some((_, found)) = self.had.iter().find(|(known, _)| *known == name) {
            return Ok(*found);
        }
        let names = || self.had.iter().map(|(known, _)| *known);
        let all = names().collect::<Vec<_>>().join(", ");
        if self.refused.contains(&name) {
            return Err(format!("{name} cannot be had: {}; write one of {all}", self.why));
        }
        let hint = nearest(name, names()).map_or(String::new(), |near| format!("; did you mean {near}?"));
        Err(format!("{name:?} is no {}{hint} (there are {all})", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::ring::{ALL_CIPHER_SUITES, ALL_KX_GROUPS};

    #[test]
    fn all_that_the_library_has_can_be_named() {
        assert_eq!(SUITES.had.len(), ALL_CIPHER_SUITES.len());
        assert_eq!(CURVES.had.len(), ALL_KX_GROUPS.len());
        for (name, suite) in SUITES.had {
            let named = format!("{:?}", suite.suite()).replace("TLS13_", "TLS_");
            assert_eq!(*name, named);
        }
    }

    #[test]
    fn what_cannot_be_had_is_told_from_what_is_no_name() {
        assert!(SUITES.find("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256").is_ok());
        let text = SUITES.find("TLS_RSA_WITH_AES_128_CBC_SHA").unwrap_err();
        assert!(text.contains("cannot be had: this program's TLS library (rustls)"), "{text}");
        let text = VERSIONS.find("TLS11").unwrap_err();
        assert!(text.contains("none older than TLS 1.2; write one of TLS12, TLS13"), "{text}");
        let text = CURVES.find("CurveP257").unwrap_err();
        assert!(text.contains("is no curve; did you mean CurveP256?"), "{text}");
        assert!(CURVES.find("CurveP521").unwrap_err().contains("cannot be had"));
    }
}
