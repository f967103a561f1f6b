//! Turns the raw file into settings, and keeps every fault it meets on the way.

use super::{
    auth::Users,
    file::{ClientAuth, RawHeaders, RawRate, RawTls, Text, Texts, Tls},
    limit::Rate,
    offer::{CURVES, Names, SUITES, VERSIONS},
};
use crate::config::{
    content::{Content, Source},
    file::Problem,
};
use axum::http::{HeaderName, HeaderValue, header};
use rustls::{CipherSuite, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};
use serde_saphyr::Spanned;
use std::{collections::BTreeMap, path::Path, time::Duration};

/// Turns raw values into settings and keeps what is wrong with them.
pub(super) struct Reader<'a> {
    directory: &'a Path,
    /// What was found wrong so far.
    pub(super) problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Paths are relative to this directory.
    pub(super) fn new(directory: &'a Path) -> Self {
        Self { directory, problems: Vec::new() }
    }

    fn refuse<T>(&mut self, key: impl Into<String>, at: &Spanned<T>, text: impl Into<String>) {
        self.problems.push(Problem { line: at.referenced.line(), key: key.into(), text: text.into() });
    }

    /// YAML 1.1's words, as the toolkit takes them.
    pub(super) fn flag(&mut self, key: &str, at: Option<&Spanned<String>>, default: bool) -> bool {
        let Some(at) = at else { return default };
        match at.value.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => true,
            "false" | "no" | "off" | "n" => false,
            other => {
                self.refuse(key, at, format!("{other:?} is neither true nor false"));
                default
            }
        }
    }

    pub(super) fn tls(&mut self, at: &Spanned<RawTls>, http2: bool) -> Option<Tls> {
        let raw = &at.value;
        let cert = self.pem(("cert", &raw.cert), ("cert_file", &raw.cert_file));
        let key = self.pem(("key", &raw.key), ("key_file", &raw.key_file));
        let client_ca = self.pem(("client_ca", &raw.client_ca), ("client_ca_file", &raw.client_ca_file));
        for (there, names) in [(cert.is_some(), "cert_file or cert"), (key.is_some(), "key_file or key")] {
            if !there {
                let text = format!(
                    "{names} is missing: TLS needs a certificate and its key; leave tls_server_config out to serve without TLS"
                );
                self.refuse("tls_server_config", at, text);
            }
        }
        let client_auth = self.client_auth(raw, client_ca.as_ref());
        let versions = self.versions(raw);
        let suites = self.suites(raw, &versions, http2);
        let curves = self.named("curve_preferences", &CURVES, &raw.curve_preferences).unwrap_or_default();
        let server_order = self.flag(
            "tls_server_config.prefer_server_cipher_suites",
            raw.prefer_server_cipher_suites.as_ref(),
            true,
        );
        let sans = self.sans(raw, client_auth);
        let (cert, key) = (cert?, key?);
        Some(Tls { cert, key, client_ca, client_auth, sans, versions, suites, curves, server_order, http2 })
    }

    /// The file comes before the text where both are there.
    fn pem(&self, inline: (&'static str, &Text), file: (&'static str, &Text)) -> Option<Content> {
        let there = |text: &Text| {
            text.as_ref().filter(|t| !t.value.is_empty()).map(|t| (t.referenced.line(), t.value.clone()))
        };
        let key = |name| format!("tls_server_config.{name}");
        if let Some((line, path)) = there(file.1) {
            return Some(Content { key: key(file.0), line, source: Source::File(self.directory.join(path)) });
        }
        there(inline.1).map(|(line, text)| Content { key: key(inline.0), line, source: Source::Inline(text) })
    }

    fn client_auth(&mut self, raw: &RawTls, client_ca: Option<&Content>) -> ClientAuth {
        let name = raw.client_auth_type.as_ref().filter(|name| !name.value.is_empty());
        let found = name.map(|name| (name, ClientAuth::NAMES.iter().find(|(known, _)| *known == name.value)));
        let client_auth = match found {
            None => ClientAuth::None,
            Some((_, Some((_, found)))) => *found,
            Some((at, None)) => {
                let names: Vec<_> = ClientAuth::NAMES[..5].iter().map(|(name, _)| *name).collect();
                let text = format!("{:?} is not one of {}", at.value, names.join(", "));
                self.refuse("tls_server_config.client_auth_type", at, text);
                // Not told twice.
                return ClientAuth::RequireAndVerify;
            }
        };
        if let Some(pem) = client_ca.filter(|_| client_auth == ClientAuth::None) {
            self.problems.push(pem.problem(
                "no client is asked for a certificate; write client_auth_type: RequireAndVerifyClientCert, or leave the authority out",
            ));
        }
        client_auth
    }

    fn sans(&mut self, raw: &RawTls, client_auth: ClientAuth) -> Vec<String> {
        let Some(list) = &raw.client_allowed_sans else { return Vec::new() };
        let key = "tls_server_config.client_allowed_sans";
        if list.value.is_empty() {
            self.refuse(
                key,
                list,
                "no name is listed, so that nobody could connect; leave the key out to allow any name",
            );
        } else if client_auth == ClientAuth::None {
            let text = "no client is asked for a certificate, so that no name would be looked at; write client_auth_type: RequireAndVerifyClientCert";
            self.refuse(key, list, text);
        }
        list.value.iter().map(|san| san.value.clone()).collect()
    }

    fn versions(&mut self, raw: &RawTls) -> Vec<&'static SupportedProtocolVersion> {
        let mut bound = |key: &str, at: &Text, default: &'static SupportedProtocolVersion| {
            let Some(at) = at.as_ref().filter(|at| !at.value.is_empty()) else { return Some(default) };
            let found = VERSIONS.find(&at.value);
            found.map_err(|text| self.refuse(format!("tls_server_config.{key}"), at, text)).ok()
        };
        let oldest = bound("min_version", &raw.min_version, &rustls::version::TLS12);
        let newest = bound("max_version", &raw.max_version, &rustls::version::TLS13);
        let (Some(oldest), Some(newest)) = (oldest, newest) else { return Vec::new() };
        let number = |version: &SupportedProtocolVersion| u16::from(version.version);
        if number(oldest) > number(newest)
            && let Some(at) = raw.max_version.as_ref().or(raw.min_version.as_ref())
        {
            let text = "is older than min_version: no version is left to speak";
            self.refuse("tls_server_config.max_version", at, text);
        }
        let spoken = |v: &&&SupportedProtocolVersion| (number(oldest)..=number(newest)).contains(&number(v));
        rustls::ALL_VERSIONS.iter().filter(spoken).copied().collect()
    }

    /// As in Go, the list is of those up to TLS 1.2: the suites of TLS 1.3 are always there.
    fn suites(
        &mut self,
        raw: &RawTls,
        versions: &[&'static SupportedProtocolVersion],
        http2: bool,
    ) -> Vec<SupportedCipherSuite> {
        let all = rustls::crypto::ring::ALL_CIPHER_SUITES;
        let listed = self.named("cipher_suites", &SUITES, &raw.cipher_suites);
        let Some(listed) = listed.filter(|listed| !listed.is_empty()) else { return all.to_vec() };
        // RFC 9113 section 9.2.2: without these a client may have none that HTTP/2 allows.
        let for_http2 = [
            CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ];
        let tls12 = versions.iter().any(|v| v.version == ProtocolVersion::TLSv1_2);
        if http2
            && tls12
            && !listed.iter().any(|suite| for_http2.contains(&suite.suite()))
            && let Some(at) = &raw.cipher_suites
        {
            let text = "HTTP/2 needs TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 or TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; add the one for your key, or write http_server_config: {http2: false}";
            self.refuse("tls_server_config.cipher_suites", at, text);
        }
        let only_tls12 = |suite: &SupportedCipherSuite| suite.tls13().is_none();
        let tls13 = all.iter().filter(|suite| !only_tls12(suite)).copied();
        tls13.chain(listed.into_iter().filter(only_tls12)).collect()
    }

    /// What the names of a list stand for; none where there is no list, or a name in it stands for nothing.
    fn named<T: Copy>(&mut self, key: &str, names: &Names<T>, list: &Texts) -> Option<Vec<T>> {
        let list = list.as_ref()?;
        let mut found = Vec::new();
        for at in &list.value {
            match names.find(&at.value) {
                Ok(one) => found.push(one),
                Err(text) => self.refuse(format!("tls_server_config.{key}"), at, text),
            }
        }
        (found.len() == list.value.len()).then_some(found)
    }

    /// A blank value sets no header.
    pub(super) fn headers(&mut self, raw: &RawHeaders) -> Vec<(HeaderName, HeaderValue)> {
        let any: &[&str] = &[];
        let mut out = Vec::new();
        for (name, key, at, allowed) in [
            (header::CONTENT_SECURITY_POLICY, "Content-Security-Policy", &raw.content_security_policy, any),
            (header::X_FRAME_OPTIONS, "X-Frame-Options", &raw.x_frame_options, &["deny", "sameorigin"][..]),
            (
                header::X_CONTENT_TYPE_OPTIONS,
                "X-Content-Type-Options",
                &raw.x_content_type_options,
                &["nosniff"][..],
            ),
            (header::X_XSS_PROTECTION, "X-XSS-Protection", &raw.x_xss_protection, any),
            (
                header::STRICT_TRANSPORT_SECURITY,
                "Strict-Transport-Security",
                &raw.strict_transport_security,
                any,
            ),
        ] {
            let Some(at) = at.as_ref().filter(|at| !at.value.is_empty()) else { continue };
            let key = format!("http_server_config.headers.{key}");
            if !allowed.is_empty() && !allowed.contains(&at.value.as_str()) {
                self.refuse(key, at, format!("{:?} is not {}", at.value, allowed.join(" or ")));
                continue;
            }
            match HeaderValue::from_str(&at.value) {
                Ok(value) => out.push((name, value)),
                Err(_) => {
                    self.refuse(key, at, "has characters that no header may have, such as a line break")
                }
            }
        }
        out
    }

    pub(super) fn users(&mut self, raw: BTreeMap<String, Spanned<String>>) -> Users {
        let mut users = Users::new();
        for (user, hash) in raw {
            let cost = hash.value.parse().map(|parts: bcrypt::HashParts| parts.get_cost());
            // The password itself may stand there by mistake: it is not repeated.
            let text = match cost {
                Ok(4..=31) => None,
                Ok(cost) => Some(format!("the hash has a cost of {cost}; 4 to 31 are possible, and 10 is usual")),
                Err(_) => Some(
                    "is no bcrypt hash; make one with `htpasswd -nBC 10 \"\"`, and write what comes behind the colon".to_owned(),
                ),
            };
            if let Some(text) = text {
                self.refuse(format!("basic_auth_users.{user}"), &hash, text);
            }
            users.insert(user, hash.value);
        }
        users
    }

    pub(super) fn rate(&mut self, at: &Spanned<RawRate>) -> Option<Rate> {
        let raw = &at.value;
        let interval = match raw.interval.as_ref().map(|at| (at, go_duration(&at.value))) {
            None => Duration::ZERO,
            Some((_, Ok(interval))) => interval,
            Some((at, Err(text))) => {
                self.refuse("rate_limit.interval", at, text);
                return None;
            }
        };
        if interval.is_zero() {
            return None;
        }
        let text = "let no request through ever; write how many may come at once, 1 or more";
        match raw.burst.as_ref().map(|at| (at, at.value.parse::<u32>())) {
            Some((_, Ok(burst @ 1..))) => return Some(Rate { interval, burst }),
            None => self.refuse(
                "rate_limit.burst",
                at,
                format!("is missing: an interval without it would {text}"),
            ),
            Some((at, Ok(_))) => self.refuse("rate_limit.burst", at, format!("0 would {text}")),
            Some((at, Err(_))) => {
                self.refuse(
                    "rate_limit.burst",
                    at,
                    format!("{:?} is no number of requests; write 1 or more", at.value),
                );
            }
        }
        None
    }
}

/// A duration as Go writes it: `1m30s`, `1.5h`, `100ms`, `0`.
pub(super) fn go_duration(text: &str) -> Result<Duration, String> {
    let refusal =
        || format!("{text:?} is not a duration; write for example 1s, 100ms or 1m30s, or 0 for no limit");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(refusal());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let scale = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(refusal()),
        };
        seconds += number.parse::<f64>().map_err(|_| refusal())? * scale;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| refusal())
}
