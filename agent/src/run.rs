//! The life of the daemon: start, serve, reload, end.

use crate::{
    cli::RunArgs,
    config::{Settings, Web},
    http, log,
    monitor::Monitor,
    notify,
    preflight::running,
    rights, sys,
    web::Live,
    why,
};
use anyhow::{Context as _, Result};
use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::spawn_blocking,
};
use tracing::{error, info, warn};

/// `fivetuple run`: until SIGTERM or SIGINT; false where the agent could not do its work.
pub fn main(args: &RunArgs) -> Result<bool> {
    let settings = Settings::resolve(args)?;
    let live = settings.web.config_file.as_deref().map(Live::open).transpose()?.map(Arc::new);
    if args.config_check {
        let watch = &settings.watch;
        println!(
            "the configuration is valid: points: {}, services: {}",
            watch.interfaces.len(),
            watch.services.len()
        );
        return Ok(true);
    }
    log::init(&args.log);
    sys::give_memory_back();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async { run(settings, live, asked_to_end()?).await });
    // Loading the programs cannot be broken off, and need not be waited for: they go with the process.
    runtime.shutdown_background();
    // From here on the log is where an operator looks.
    if let Err(e) = &done {
        error!("{}", why::text(e));
    }
    Ok(done.is_ok())
}

/// Watch and serve until `shutdown`; every program is off its interface when this returns, unless it is to stay.
pub async fn run(
    settings: Settings,
    live: Option<Arc<Live>>,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    // Before anything is attached: a port in use is the likeliest mistake.
    let listeners = listeners(&settings.web).await?;
    info!(version = env!("CARGO_PKG_VERSION"), "starting");
    // After that: a port may be one that not everybody may listen at.
    rights::rest(running());
    notify::status("loading the programs");
    // From here on: loading takes seconds, and a signal nobody listens for ends the process.
    let mut reloads = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    tokio::pin!(shutdown);
    let Settings { watch, source, pin, .. } = settings;
    let loading = spawn_blocking(move || rights::raised(|| Monitor::load(watch, source, pin)));
    let monitor = tokio::select! {
        loaded = loading => Arc::new(loaded.context("loading the programs failed")??),
        () = &mut shutdown => {
            info!("ending before anything was attached");
            notify::stopping();
            return Ok(());
        }
    };
    rights::raised(|| monitor.attach())?;
    let stop = Arc::new(AtomicBool::new(false));
    let (at_work, mut idle) = oneshot::channel::<()>();
    let keeper = {
        let (monitor, stop) = (monitor.clone(), stop.clone());
        std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            // Dropped when this ends, also by a panic.
            let _at_work = at_work;
            let mut watchdog = notify::Watchdog::asked_for();
            monitor.keep(&stop, || watchdog.beat());
        })?
    };
    let judge = {
        let (monitor, stop) = (monitor.clone(), stop.clone());
        std::thread::Builder::new().name("alerts".to_owned()).spawn(move || monitor.judge(&stop))?
    };
    announce(&listeners, &settings.web, live.as_deref());
    let (end, ended) = watch::channel(false);
    let Web { telemetry_path, max_requests, .. } = settings.web;
    let serving = http::Serving { telemetry_path, max_requests, web: live };
    let server = tokio::spawn(http::serve(listeners, serving, monitor.clone(), ended));
    notify::ready(&monitor.status());
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = &mut idle => break,
            _ = reloads.recv() => {
                let monitor = monitor.clone();
                // What is wrong is in the log.
                let _ = spawn_blocking(move || monitor.reload()).await;
            }
        }
    }
    info!("ending");
    notify::stopping();
    stop.store(true, Ordering::Relaxed);
    keeper.thread().unpark();
    judge.thread().unpark();
    let kept = keeper.join();
    if judge.join().is_err() {
        error!("the thread that judges the alerts failed; the lines above say why");
    }
    let _ = end.send(true);
    server.await.context("the HTTP server failed")?;
    kept.map_err(|_| {
        anyhow::anyhow!("the thread that reads the kernel's tables failed; the lines above say why")
    })
}

/// SIGTERM or SIGINT.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// On the addresses that were asked for, or on the sockets that systemd passes.
async fn listeners(web: &Web) -> Result<Vec<TcpListener>> {
    if web.listen.is_empty() {
        return http::activation::listeners();
    }
    let mut listeners = Vec::new();
    for address in &web.listen {
        listeners.push(address.bind().await?);
    }
    Ok(listeners)
}

fn announce(listeners: &[TcpListener], web: &Web, live: Option<&Live>) {
    let access = live.map(Live::access).unwrap_or_default();
    if access.publicly {
        warn!(
            "a client is let in by the certificate of any authority that this host trusts; name your own with client_ca_file"
        );
    }
    for address in listeners.iter().filter_map(|l| l.local_addr().ok()) {
        info!(%address, telemetry_path = web.telemetry_path, tls = access.tls, "serving");
        if address.ip().is_loopback() {
            continue;
        }
        if !access.guarded {
            warn!(%address, "anyone who reaches this address can read the flow list: it names peers' addresses; keep it behind a firewall, or ask for passwords or certificates with --web.config.file");
        } else if !access.tls {
            warn!(%address, "passwords come over the network in clear; add tls_server_config to the web configuration");
        }
    }
}
