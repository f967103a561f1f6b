//! A POST of JSON, and what its answer means.

use super::{Failure, SinkSettings};
use crate::client::{Client, remedy};
use std::time::Duration;
use ureq::http::StatusCode;

/// Posts to one address.
#[derive(Debug)]
pub struct Post {
    client: Client,
    url: String,
}

impl Post {
    /// To a receiver, at a path below its address. Whoever does not answer within its timeout has not taken it.
    pub fn new(to: &SinkSettings, path: &str) -> Self {
        let url =
            if path.is_empty() { to.url.clone() } else { format!("{}{path}", to.url.trim_end_matches('/')) };
        Self { client: Client::new(to.http.clone(), to.timeout), url }
    }

    /// Sends a body.
    pub fn send(&self, body: &[u8]) -> Result<(), Failure> {
        let mut answer = self.client.post(&self.url, body).map_err(|why| Failure::Later(why, None))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let said = answer.body_mut().with_config().limit(1_000).read_to_string().unwrap_or_default();
        let remedy = remedy::of_answer(status, &said)
            .map_or(String::new(), |remedy| format!("; {remedy} (http_config)"));
        let text = format!("{} answered {status}: {}{remedy}", self.url, said.trim());
        Err(if is_final(status) && !remedy::is_about_certificate(status, &said) {
            Failure::Never(text)
        } else {
            Failure::Later(text, after.map(Duration::from_secs))
        })
    }
}

/// Whether the alert itself is at fault. Everything else may be put right without it: credentials, the path, the load.
fn is_final(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY
    )
}
