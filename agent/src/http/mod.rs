//! What the daemon answers over HTTP: reads only, except the reload.

pub mod listen;
pub mod negotiate;

use crate::{
    api::{
        AlertList, Check, ConnectionFilter, ConnectionList, EventFilter, EventList, ExplainFilter,
        FlowFilter, FlowList, Readiness, Refusal, ReuseFilter,
    },
    explain,
    reuse::Report,
    why,
};
use axum::{
    Json, Router,
    extract::{Query, RawQuery, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use negotiate::Format;
use serde_json::json;
use std::{future::IntoFuture as _, sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::{JoinSet, spawn_blocking},
};
use tracing::warn;

/// Answers that read kernel maps, at the same time; more are turned away, so that scrapers cannot pile up.
const MAX_REQUESTS: usize = 16;
/// The same for what an operator must reach while scrapers pile up: readiness, and the reload.
const MAX_URGENT: usize = 4;
/// How long an open request may hold up the end of the daemon.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What the answers are made of. Every call may block on kernel maps.
pub trait Backend: Send + Sync + 'static {
    /// All metrics as OpenMetrics text.
    fn metrics(&self) -> anyhow::Result<String>;
    /// What must hold for the agent to be ready, and whether it does.
    fn readiness(&self) -> Vec<Check>;
    /// The flows that a filter lets through.
    fn flows(&self, filter: &FlowFilter) -> Result<FlowList, Refusal>;
    /// The last events that a filter lets through.
    fn events(&self, filter: &EventFilter) -> Result<EventList, Refusal>;
    /// The connections that a filter lets through, open and ended.
    fn connections(&self, filter: &ConnectionFilter) -> Result<ConnectionList, Refusal>;
    /// What is to tell of five-tuples that come back.
    fn reuse(&self, filter: &ReuseFilter) -> Result<Report, Refusal>;
    /// The alerts that are not inactive.
    fn alerts(&self) -> AlertList;
    /// Read the configuration again; what was wrong with it otherwise.
    fn reload(&self) -> Result<(), String>;
}

struct Shared {
    backend: Arc<dyn Backend>,
    telemetry_path: String,
    permits: Semaphore,
    urgent: Semaphore,
}

impl Shared {
    /// Run a blocking answer, unless too many are running.
    async fn bounded<T: Send + 'static>(
        self: Arc<Self>,
        answer: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Response> {
        self.clone().within(&self.permits, answer).await
    }

    /// The same for an answer that does not wait behind the others.
    async fn urgently<T: Send + 'static>(
        self: Arc<Self>,
        answer: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Response> {
        self.clone().within(&self.urgent, answer).await
    }

    async fn within<T: Send + 'static>(
        self: Arc<Self>,
        permits: &Semaphore,
        answer: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let Ok(_permit) = permits.try_acquire() else {
            let text = "too many requests are being answered already; ask again later\n";
            return Err((StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response());
        };
        spawn_blocking(move || answer(&*self.backend)).await.map_err(|_| {
            (StatusCode::INTERNAL_SERVER_ERROR, "the answer failed; the agent's log says why\n")
                .into_response()
        })
    }
}

/// Serve until `shutdown` changes, then let open requests end.
pub async fn serve(
    listeners: Vec<TcpListener>,
    telemetry_path: String,
    backend: Arc<dyn Backend>,
    shutdown: watch::Receiver<bool>,
) {
    let router = router(telemetry_path, backend);
    let mut servers = JoinSet::new();
    for listener in listeners {
        let mut stop = shutdown.clone();
        let stopped = async move {
            // An error means that the sender is gone, which is the end as well.
            let _ = stop.wait_for(|stop| *stop).await;
        };
        servers.spawn(axum::serve(listener, router.clone()).with_graceful_shutdown(stopped).into_future());
    }
    let mut stop = shutdown;
    let _ = stop.wait_for(|stop| *stop).await;
    let all = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, all).await.is_err() {
        warn!("a client keeps its connection open; ending without it");
    }
}

fn router(telemetry_path: String, backend: Arc<dyn Backend>) -> Router {
    let shared = Arc::new(Shared {
        backend,
        telemetry_path: telemetry_path.clone(),
        permits: Semaphore::new(MAX_REQUESTS),
        urgent: Semaphore::new(MAX_URGENT),
    });
    Router::new()
        .route("/", get(landing))
        .route(&telemetry_path, get(metrics))
        .route("/-/healthy", get(async || "fivetuple is healthy.\n"))
        .route("/-/ready", get(ready))
        .route("/-/reload", post(reload))
        .route("/api/v1/flows", get(flows))
        .route("/api/v1/events", get(events))
        .route("/api/v1/connections", get(connections))
        .route("/api/v1/explain", get(explanation))
        .route("/api/v1/reuse", get(reuse))
        .route("/api/v1/alerts", get(alerts))
        .with_state(shared)
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let accept: Vec<&str> =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::negotiate(&accept.join(","));
    match shared.bounded(|backend| backend.metrics()).await {
        Ok(Ok(text)) => {
            ([(header::CONTENT_TYPE, format.content_type())], format.render(text)).into_response()
        }
        Ok(Err(e)) => (StatusCode::INTERNAL_SERVER_ERROR, why::text(&e) + "\n").into_response(),
        Err(response) => response,
    }
}

async fn ready(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Response {
    let checks = match shared.urgently(|backend| backend.readiness()).await {
        Ok(checks) => checks,
        Err(response) => return response,
    };
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose =
        query.is_some_and(|q| q.split('&').any(|p| p.split('=').next().is_some_and(|key| key == "verbose")));
    if verbose {
        return (status, Json(Readiness { ready, checks })).into_response();
    }
    let text = match checks.iter().find(|check| !check.ok) {
        None => "fivetuple is ready.\n".to_owned(),
        Some(check) => format!("fivetuple is not ready: {}: {}\n", check.name, check.detail),
    };
    (status, text).into_response()
}

async fn reload(State(shared): State<Arc<Shared>>) -> Response {
    match shared.urgently(|backend| backend.reload()).await {
        Ok(Ok(())) => "the configuration is read again\n".into_response(),
        Ok(Err(text)) => {
            let text = format!("the old configuration stays in force: {text}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
        }
        Err(response) => response,
    }
}

async fn flows(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<FlowFilter>, QueryRejection>,
) -> Response {
    listed(shared, filter, |backend, filter| backend.flows(filter)).await
}

async fn events(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<EventFilter>, QueryRejection>,
) -> Response {
    listed(shared, filter, |backend, filter| backend.events(filter)).await
}

async fn connections(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<ConnectionFilter>, QueryRejection>,
) -> Response {
    listed(shared, filter, |backend, filter| backend.connections(filter)).await
}

async fn explanation(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<ExplainFilter>, QueryRejection>,
) -> Response {
    listed(shared, filter, explain::of_backend).await
}

async fn reuse(
    State(shared): State<Arc<Shared>>,
    filter: Result<Query<ReuseFilter>, QueryRejection>,
) -> Response {
    listed(shared, filter, |backend, filter| backend.reuse(filter)).await
}

async fn alerts(State(shared): State<Arc<Shared>>) -> Response {
    match shared.bounded(|backend| backend.alerts()).await {
        Ok(list) => Json(list).into_response(),
        Err(response) => response,
    }
}

/// A list as JSON, or what was wrong with the filter.
async fn listed<F, L>(
    shared: Arc<Shared>,
    filter: Result<Query<F>, QueryRejection>,
    list: impl FnOnce(&dyn Backend, &F) -> Result<L, Refusal> + Send + 'static,
) -> Response
where
    F: Send + 'static,
    L: serde::Serialize + Send + 'static,
{
    let refuse = |status, text: String| (status, Json(json!({ "error": text }))).into_response();
    let filter = match filter {
        Ok(Query(filter)) => filter,
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    match shared.bounded(move |backend| list(backend, &filter)).await {
        Ok(Ok(list)) => Json(list).into_response(),
        Ok(Err(Refusal::Filter(text))) => refuse(StatusCode::BAD_REQUEST, text),
        Ok(Err(Refusal::Failed(e))) => refuse(StatusCode::INTERNAL_SERVER_ERROR, why::text(&e)),
        Err(response) => response,
    }
}

async fn landing(State(shared): State<Arc<Shared>>) -> Response {
    let page = include_str!("landing.html")
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{telemetry_path}", &shared.telemetry_path);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(page)).into_response()
}

#[cfg(test)]
mod tests;
