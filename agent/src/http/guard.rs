//! What a request passes before it is answered: the web configuration's rate limit and passwords; and its headers.

use crate::web::{
    Live,
    auth::Gate,
    limit::{Bucket, Rate},
};
use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// The web configuration, and what has to be remembered for it.
pub struct Guard {
    web: Arc<Live>,
    gate: Gate,
    bucket: Mutex<Option<Bucket>>,
}

impl Guard {
    /// Guards by this configuration.
    pub fn new(web: Arc<Live>) -> Self {
        Self { web, gate: Gate::default(), bucket: Mutex::new(None) }
    }

    /// Whether the limit has room for another request; with another limit a new count begins.
    fn has_room(&self, rate: Option<Rate>) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rate) = rate else {
            *bucket = None;
            return true;
        };
        let now = Instant::now();
        if bucket.as_ref().is_some_and(|bucket| bucket.rate() != rate) {
            *bucket = None;
        }
        bucket.get_or_insert_with(|| Bucket::new(rate, now)).take(now)
    }
}

/// In the toolkit's order: a file that is wrong, the limit, headers, passwords.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let Ok(settings) = guard.web.settings() else {
        let text = "the web configuration is wrong; the agent's log says how\n";
        return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
    };
    if !guard.has_room(settings.rate) {
        return (StatusCode::TOO_MANY_REQUESTS, "too many requests; ask again later\n").into_response();
    }
    let authorization = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes().to_vec());
    let mut response =
        if settings.users.is_empty() || guard.gate.lets_in(authorization.as_deref(), &settings.users).await {
            next.run(request).await
        } else {
            let asked = [(header::WWW_AUTHENTICATE, "Basic realm=\"fivetuple\", charset=\"UTF-8\"")];
            (StatusCode::UNAUTHORIZED, asked, "name a user of basic_auth_users, and the password\n")
                .into_response()
        };
    for (name, value) in &settings.headers {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    response
}
