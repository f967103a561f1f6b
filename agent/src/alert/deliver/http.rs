//! A POST of JSON, and what its answer means.

use super::Failure;
use std::{error::Error as _, time::Duration};
use ureq::{Agent, http::StatusCode};

/// Posts to one address.
#[derive(Debug)]
pub struct Post {
    agent: Agent,
    url: String,
}

impl Post {
    /// Whoever does not answer within `timeout` has not taken it.
    pub fn new(url: &str, timeout: Duration) -> Self {
        let agent = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .proxy(None)
            .user_agent(concat!("fivetuple/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.into(), url: url.to_owned() }
    }

    /// Sends a body.
    pub fn send(&self, body: &[u8]) -> Result<(), Failure> {
        let sent = self.agent.post(&self.url).content_type("application/json").send(body);
        let mut answer = sent.map_err(|e| {
            let cause = e.source().map_or(String::new(), |cause| format!(": {cause}"));
            Failure::Later(format!("{e}{cause}"), None)
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let said = answer.body_mut().with_config().limit(1_000).read_to_string().unwrap_or_default();
        let text = format!("{} answered {status}: {}", self.url, said.trim());
        Err(if is_final(status) {
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
