//! The file as it is written: its keys, their lines, and what is wrong with them.
//!
//! The format is the exporter toolkit's. This reads all of it, and is stricter in a few places, where the toolkit would
//! serve something else than what is written: docs/web.md lists them.

use super::{auth::Users, limit::Rate, reader::Reader};
use crate::config::{
    content::Content,
    file::{Problem, shaped},
};
use axum::http::{HeaderName, HeaderValue};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, crypto::SupportedKxGroup};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, path::Path};

/// What a valid file says.
#[derive(Debug, Default)]
pub struct Web {
    /// TLS, where it is wanted.
    pub tls: Option<Tls>,
    /// Headers of every answer.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may ask; empty where anyone may.
    pub users: Users,
    /// How often may be asked.
    pub rate: Option<Rate>,
}

/// How TLS is spoken.
#[derive(Debug)]
pub struct Tls {
    /// The server's certificate, and those between it and its authority.
    pub cert: Content,
    /// The certificate's key.
    pub key: Content,
    /// Authorities of clients' certificates; without it the host's own.
    pub client_ca: Option<Content>,
    /// What is asked of clients.
    pub client_auth: ClientAuth,
    /// Names of which a client's certificate must have one; empty for any.
    pub sans: Vec<String>,
    /// Versions that are spoken.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Cipher suites, best first.
    pub suites: Vec<SupportedCipherSuite>,
    /// Curves of the key exchange, best first; empty for the library's choice.
    pub curves: Vec<&'static dyn SupportedKxGroup>,
    /// Whether the order of the suites decides, and not the client's.
    pub server_order: bool,
    /// Whether HTTP/2 is offered.
    pub http2: bool,
}

/// What is asked of clients, as Go names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate, which need not be shown and is not verified.
    Request,
    /// A certificate, which is not verified.
    RequireAny,
    /// A certificate that need not be shown, but must be valid where it is.
    VerifyIfGiven,
    /// A valid certificate.
    RequireAndVerify,
}

impl ClientAuth {
    /// Names of the format; the last is an older one for `RequireAnyClientCert`.
    pub(super) const NAMES: [(&'static str, Self); 6] = [
        ("NoClientCert", Self::None),
        ("RequestClientCert", Self::Request),
        ("RequireAnyClientCert", Self::RequireAny),
        ("VerifyClientCertIfGiven", Self::VerifyIfGiven),
        ("RequireAndVerifyClientCert", Self::RequireAndVerify),
        ("RequireClientCert", Self::RequireAny),
    ];

    /// Whether a certificate is verified against authorities.
    pub fn verifies(self) -> bool {
        matches!(self, Self::VerifyIfGiven | Self::RequireAndVerify)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWeb {
    tls_server_config: Option<Spanned<RawTls>>,
    http_server_config: Option<RawHttp>,
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    rate_limit: Option<Spanned<RawRate>>,
}

pub(super) type Text = Option<Spanned<String>>;
pub(super) type Texts = Option<Spanned<Vec<Spanned<String>>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTls {
    pub(super) cert: Text,
    pub(super) key: Text,
    pub(super) client_ca: Text,
    pub(super) cert_file: Text,
    pub(super) key_file: Text,
    pub(super) client_ca_file: Text,
    pub(super) client_auth_type: Text,
    pub(super) client_allowed_sans: Texts,
    pub(super) min_version: Text,
    pub(super) max_version: Text,
    pub(super) cipher_suites: Texts,
    pub(super) curve_preferences: Texts,
    pub(super) prefer_server_cipher_suites: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp {
    pub(super) http2: Text,
    pub(super) headers: Option<RawHeaders>,
}

/// No others: the family's programs agree on what may be added.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHeaders {
    #[serde(rename = "Content-Security-Policy")]
    pub(super) content_security_policy: Text,
    #[serde(rename = "X-Frame-Options")]
    pub(super) x_frame_options: Text,
    #[serde(rename = "X-Content-Type-Options")]
    pub(super) x_content_type_options: Text,
    #[serde(rename = "X-XSS-Protection")]
    pub(super) x_xss_protection: Text,
    #[serde(rename = "Strict-Transport-Security")]
    pub(super) strict_transport_security: Text,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRate {
    pub(super) interval: Text,
    pub(super) burst: Text,
}

/// Read a whole file; paths in it are relative to `directory`.
pub fn parse(text: &str, directory: &Path) -> Result<Web, Vec<Problem>> {
    let raw: RawWeb = shaped(text).map_err(|problem| vec![problem])?;
    let mut reader = Reader::new(directory);
    let http = raw.http_server_config.unwrap_or_default();
    let http2 = reader.flag("http_server_config.http2", http.http2.as_ref(), true);
    let web = Web {
        tls: raw.tls_server_config.as_ref().and_then(|tls| reader.tls(tls, http2)),
        headers: reader.headers(&http.headers.unwrap_or_default()),
        users: reader.users(raw.basic_auth_users.unwrap_or_default()),
        rate: raw.rate_limit.as_ref().and_then(|rate| reader.rate(rate)),
    };
    if reader.problems.is_empty() {
        return Ok(web);
    }
    reader.problems.sort_by_key(|problem| problem.line);
    Err(reader.problems)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
