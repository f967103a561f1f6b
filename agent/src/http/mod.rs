//! What the daemon answers over HTTP: reads only, except the reload.

pub mod activation;
mod connection;
mod crowd;
mod guard;
mod gzip;
pub mod listen;
pub mod negotiate;

use crate::{
    api::{
        AlertList, Check, ConnectionFilter, ConnectionList, EventFilter, EventList, ExplainFilter,
        FlowFilter, FlowList, Readiness, Refusal, ReuseFilter,
    },
    explain,
    reuse::Report,
    web::Live,
    why,
};
use axum::{
    Json, Router,
    extract::{Query, RawQuery, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use connection::Server;
use guard::{Guard, guard};
use negotiate::Format;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::{JoinSet, spawn_blocking},
};
use tracing::warn;

/// Lists that are made at the same time; more are turned away, so that readers cannot pile up.
const MAX_LISTS: usize = 16;
/// The same for what an operator must reach while others pile up: readiness, and the reload.
const MAX_URGENT: usize = 4;
/// How long an open request may hold up the end of the daemon.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// What the answers are made of. Every call may block on kernel maps.
pub trait Backend: Send + Sync + 'static {
    /// All metrics as OpenMetrics text.
    fn metrics(&self) -> anyhow::Result<String>;
    /// All metrics as Prometheus's protobuf messages, each with its length before it.
    fn metrics_protobuf(&self) -> anyhow::Result<Vec<u8>>;
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
    scrapes: Arc<Semaphore>,
    lists: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
}

impl Shared {
    /// Make a scrape's answer, unless too many are being made.
    async fn scraped<T: Send + 'static>(
        self: Arc<Self>,
        answer: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let permits = self.scrapes.clone();
        self.within(permits, answer).await
    }

    /// The same for a list.
    async fn bounded<T: Send + 'static>(
        self: Arc<Self>,
        answer: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let permits = self.lists.clone();
        self.within(permits, answer).await
    }

    /// The same for an answer that does not wait behind the others.
    async fn urgently<T: Send + 'static>(
        self: Arc<Self>,
        answer: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let permits = self.urgent.clone();
        self.within(permits, answer).await
    }

    async fn within<T: Send + 'static>(
        self: Arc<Self>,
        permits: Arc<Semaphore>,
        answer: impl FnOnce(&dyn Backend) -> T + Send + 'static,
    ) -> Result<T, Response> {
        let Ok(permit) = permits.try_acquire_owned() else {
            let text = "too many requests are being answered already; ask again later\n";
            return Err((StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], text).into_response());
        };
        let work = move || {
            // Here, since a client that goes away ends its request, and not what is made for it.
            let _permit = permit;
            answer(&*self.backend)
        };
        spawn_blocking(work).await.map_err(|_| {
            (StatusCode::INTERNAL_SERVER_ERROR, "the answer failed; the agent's log says why\n")
                .into_response()
        })
    }
}

/// How is served.
pub struct Serving {
    /// Path of the metrics.
    pub telemetry_path: String,
    /// Scrapes that are answered at the same time; 0 for any number.
    pub max_requests: usize,
    /// The web configuration file, where there is one.
    pub web: Option<Arc<Live>>,
}

/// Serve until `shutdown` changes, then let open requests end.
pub async fn serve(
    listeners: Vec<TcpListener>,
    serving: Serving,
    backend: Arc<dyn Backend>,
    shutdown: watch::Receiver<bool>,
) {
    let web = serving.web.clone();
    let server = Server::new(router(serving, backend), web, shutdown.clone());
    let mut servers = JoinSet::new();
    for listener in listeners {
        servers.spawn(server.clone().run(listener));
    }
    let mut stop = shutdown;
    let _ = stop.wait_for(|stop| *stop).await;
    let all = async { while servers.join_next().await.is_some() {} };
    if tokio::time::timeout(SHUTDOWN_GRACE, all).await.is_err() {
        warn!("a client keeps its connection open; ending without it");
    }
}

fn router(serving: Serving, backend: Arc<dyn Backend>) -> Router {
    let Serving { telemetry_path, max_requests, web } = serving;
    let scrapes = if max_requests == 0 { Semaphore::MAX_PERMITS } else { max_requests };
    let shared = Arc::new(Shared {
        backend,
        telemetry_path: telemetry_path.clone(),
        scrapes: Arc::new(Semaphore::new(scrapes.min(Semaphore::MAX_PERMITS))),
        lists: Arc::new(Semaphore::new(MAX_LISTS)),
        urgent: Arc::new(Semaphore::new(MAX_URGENT)),
    });
    let router = Router::new()
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
        .with_state(shared);
    match web {
        None => router,
        Some(web) => router.layer(middleware::from_fn_with_state(Arc::new(Guard::new(web)), guard)),
    }
}

/// The value of a header that may be there several times.
fn listed_in(headers: &HeaderMap, name: &HeaderName) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let format = Format::negotiate(&listed_in(&headers, &header::ACCEPT));
    let zipped = gzip::is_asked_for(&listed_in(&headers, &header::ACCEPT_ENCODING));
    let made = shared.scraped(move |backend| {
        let bytes = match format {
            Format::Protobuf => backend.metrics_protobuf()?,
            Format::OpenMetrics => backend.metrics()?.into_bytes(),
            Format::Text => negotiate::to_text(&backend.metrics()?).into_bytes(),
        };
        Ok(if zipped { gzip::compress(&bytes) } else { bytes })
    });
    match made.await {
        Ok(Ok(bytes)) => {
            let mut response = ([(header::CONTENT_TYPE, format.content_type())], bytes).into_response();
            if zipped {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Ok(Err(e)) => {
            let e: anyhow::Error = e;
            (StatusCode::INTERNAL_SERVER_ERROR, why::text(&e) + "\n").into_response()
        }
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
