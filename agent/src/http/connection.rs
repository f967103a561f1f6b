//! Connections, from the first byte to the last: TLS, HTTP/1.1 or HTTP/2, and how long each may take over what.

use super::crowd::{Crowd, Member, Place};
use crate::web::Live;
use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
use std::{io, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::warn;

/// Connections that are open at once.
const ROOM: usize = 512;
/// For a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a request's head, and between two requests: more than the usual 15 s and 30 s between scrapes, which then keep
/// their connection.
const HEAD: Duration = Duration::from_secs(40);
/// For a client that takes nothing of an answer.
const STUCK: Duration = Duration::from_secs(30);
/// For the answer to a ping of an HTTP/2 connection that is silent.
const PING: Duration = Duration::from_secs(20);
/// Requests of one HTTP/2 connection at once: each may hold a whole answer in memory.
const STREAMS: u32 = 8;
/// Pause where the system has no descriptor for another connection.
const NO_DESCRIPTORS: Duration = Duration::from_secs(1);
/// A refused handshake is told at most once in this time: a scanner must not fill the log.
const TELL: Duration = Duration::from_secs(10);

/// What every connection needs.
#[derive(Clone)]
pub struct Server {
    router: Router,
    web: Option<Arc<Live>>,
    crowd: Crowd,
    shutdown: watch::Receiver<bool>,
}

impl Server {
    /// Serves a router until `shutdown` changes.
    pub fn new(router: Router, web: Option<Arc<Live>>, shutdown: watch::Receiver<bool>) -> Self {
        Self { router, web, crowd: Crowd::new(ROOM), shutdown }
    }

    /// Takes connections until the end, and then lets those that are open end.
    pub async fn run(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        let mut told = None;
        loop {
            tokio::select! {
                () = self.stopped() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        if let Some(place) = self.crowd.enter() {
                            connections.spawn(self.clone().connection(stream, place));
                        }
                    }
                    Err(e) => refused(&e).await,
                },
                Some(ended) = connections.join_next() => {
                    if let Ok(Err(text)) = ended {
                        tell(&mut told, &text);
                    }
                }
            }
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// One connection to its end; why its handshake failed.
    async fn connection(self, stream: TcpStream, place: Place) -> Result<(), String> {
        let peer = stream.peer_addr().map_or_else(|_| "a client".to_owned(), |peer| peer.to_string());
        let _ = stream.set_nodelay(true);
        // Also while the client's window is closed (tcp(7)): such a one takes nothing.
        let _ = setsockopt(&stream, TcpUserTimeout, &(STUCK.as_millis() as u32));
        let member = place.member();
        let served = async {
            let Some(web) = &self.web else { return self.http1(stream, member).await };
            match web.tls() {
                Ok(None) => self.http1(stream, member).await,
                // Said in the log already.
                Err(_) => Ok(()),
                Ok(Some(config)) => {
                    let handshake = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
                    let stream = match handshake {
                        Ok(Ok(stream)) => stream,
                        Ok(Err(e)) if is_silent(&e) => return Ok(()),
                        Ok(Err(e)) => return Err(format!("{peer}: {}", reason(&e))),
                        Err(_) => return Err(format!("{peer}: took longer than {} s", HANDSHAKE.as_secs())),
                    };
                    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                        self.http2(stream, member).await
                    } else {
                        self.http1(stream, member).await
                    }
                }
            }
        };
        tokio::select! {
            served = served => served,
            () = place.needed() => Ok(()),
        }
    }

    async fn http1<S>(&self, stream: S, member: Arc<Member>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(move |request| answer(self.router.clone(), request, member.clone()));
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
        self.to_its_end(builder.serve_connection(TokioIo::new(stream), service)).await
    }

    async fn http2<S>(&self, stream: S, member: Arc<Member>) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let service = service_fn(move |request| answer(router.clone(), request, member.clone()));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(HEAD)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(STREAMS);
        self.to_its_end(builder.serve_connection(TokioIo::new(stream), service)).await
    }

    /// How a connection ends is the client's affair, and no failure.
    async fn to_its_end<C: GracefulConnection>(&self, connection: C) -> Result<(), String> {
        let mut connection = pin!(connection);
        tokio::select! {
            _ = &mut connection => return Ok(()),
            () = self.stopped() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
        Ok(())
    }

    async fn stopped(&self) {
        // An error means that the sender is gone, which is the end as well.
        let _ = self.shutdown.clone().wait_for(|stop| *stop).await;
    }
}

/// The answer; the connection counts as busy until it is there.
async fn answer(
    router: Router,
    request: Request<Incoming>,
    member: Arc<Member>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let _busy = member.answering();
    router.oneshot(request.map(Body::new)).await
}

/// What says nothing of a client's certificate or ours: it only looked whether somebody listens.
fn is_silent(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}

/// Why a handshake failed. Our own reasons are wrapped, and would be shown as a programmer sees them.
fn reason(error: &io::Error) -> String {
    use rustls::{CertificateError::Other, Error::InvalidCertificate};
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(InvalidCertificate(Other(own))) => own.0.to_string(),
        _ => error.to_string(),
    }
}

fn tell(told: &mut Option<Instant>, text: &str) {
    if told.is_none_or(|at: Instant| at.elapsed() >= TELL) {
        *told = Some(Instant::now());
        warn!(why = text, "a TLS handshake failed");
    }
}

/// A connection that cannot be taken is the client's misfortune, or a lack of descriptors, which takes a while.
async fn refused(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        warn!(error = %error, "cannot take a connection");
        // tidy: allow sleep: no event tells of a descriptor that has become free
        tokio::time::sleep(NO_DESCRIPTORS).await;
    }
}
