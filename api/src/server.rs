//! The table of routes and the HTTP server.
//!
//! Invariants: every wait of the server for a client is bounded; told to stop, it takes no more connections, ends what streams, and lets the rest finish.

use crate::envelope::{envelop, no_such_route};
use crate::state::App;
use crate::{
    artifacts, attempts, cancel, capacity, docs, health, logs, metrics, openapi, query, result, retry, submit,
    workflows,
};
use actix_web::dev::Server;
use actix_web::middleware::from_fn;
use actix_web::{HttpResponse, HttpServer, web};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

const MAX_WORKERS: usize = 8;
/// For each worker.
const MAX_CONNECTIONS: usize = 10_000;
const BACKLOG: u32 = 2_048;
/// For a request's head to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For a client to take the end of its connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than load balancers keep theirs, so that they and not this server close an idle connection.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Every route of the API.
pub fn routes(cfg: &mut web::ServiceConfig) {
    let executions =
        web::resource("/v1/executions").route(query::reads().to(query::list)).route(web::post().to(submit::one));
    cfg.service(executions)
        .service(web::resource("/v1/executions/batch").route(web::post().to(submit::batch)))
        .configure(query::routes)
        .configure(cancel::routes)
        .configure(retry::routes)
        .configure(logs::routes)
        .configure(result::routes)
        .configure(artifacts::routes)
        .configure(workflows::routes)
        .configure(capacity::routes)
        .configure(attempts::routes)
        .configure(openapi::routes)
        .configure(docs::routes)
        .configure(health::routes);
}

/// What the metrics listener answers, or the one listener if there is no other.
pub fn metrics_routes(cfg: &mut web::ServiceConfig) {
    cfg.service(web::resource("/metrics").route(query::reads().to(scrape)));
}

async fn scrape(app: web::Data<App>) -> HttpResponse {
    match metrics::render(&app).await {
        Some(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text),
        None => HttpResponse::NotFound().finish(),
    }
}

/// Binds; the server serves once it is awaited, until the application is stopping.
pub fn bind(app: &web::Data<App>) -> io::Result<Server> {
    let config = &app.config;
    let own_metrics = config.metrics.port.is_none();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
    listen(app, ("API_PORT", config.port), workers, move |cfg| {
        routes(cfg);
        if own_metrics {
            metrics_routes(cfg);
        }
    })
}

/// The metrics' own listener, if they have one.
pub fn bind_metrics(app: &web::Data<App>) -> io::Result<Option<Server>> {
    let Some(port) = app.config.metrics.port.filter(|_| app.config.metrics.enabled) else { return Ok(None) };
    let serve = |cfg: &mut web::ServiceConfig| {
        cfg.configure(metrics_routes).configure(health::routes);
    };
    listen(app, ("METRICS_PORT", port), 1, serve).map(Some)
}

fn listen(
    app: &web::Data<App>,
    (variable, port): (&str, u16),
    workers: usize,
    routes: impl Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
) -> io::Result<Server> {
    let address = SocketAddr::new(app.config.host, port);
    let data = app.clone();
    let serve = move || {
        actix_web::App::new()
            .app_data(data.clone())
            .wrap(from_fn(envelop))
            .configure(routes.clone())
            .default_service(web::to(no_such_route))
    };
    let server = HttpServer::new(serve)
        .workers(workers)
        .backlog(BACKLOG)
        .max_connections(MAX_CONNECTIONS)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_TIMEOUT)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .tcp_nodelay(true)
        // A client that went away ends its stream at once.
        .h1_allow_half_closed(false)
        .shutdown_signal(app.stopping.clone().cancelled_owned())
        .shutdown_timeout(app.config.shutdown_timeout.as_secs().max(1))
        .bind(address)
        .map_err(|error| io::Error::new(error.kind(), format!("{variable}: can't listen on {address}: {error}")))?;
    Ok(server.run())
}
