//! `/livez`: the process serves. `/readyz`: it can do its work.
//!
//! Invariant: only PostgreSQL decides readiness. Redis and the object store are told of, but an API without them still accepts and answers, so taking it out
//! of service would make their outage everybody's.

use crate::query::reads;
use crate::state::App;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use std::future::Future;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    postgres: &'static str,
    redis: &'static str,
    s3: &'static str,
}

pub fn routes(cfg: &mut web::ServiceConfig) {
    for (path, route) in [("/livez", reads().to(live)), ("/readyz", reads().to(ready))] {
        cfg.service(web::resource(path).route(route));
    }
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

async fn ready(app: web::Data<App>) -> HttpResponse {
    let (postgres, redis, s3) =
        tokio::join!(answers(app.database.ping()), answers(app.dispatch.ping()), answers(app.objects.ping()));
    let ready = postgres && app.is_migrated() && !app.stopping.is_cancelled();
    let readiness = Readiness {
        ready,
        postgres: match (postgres, app.is_migrated()) {
            (true, true) => "ok",
            (true, false) => "not migrated",
            (false, _) => "unavailable",
        },
        redis: word(redis),
        s3: word(s3),
    };
    if ready { HttpResponse::Ok().json(readiness) } else { HttpResponse::ServiceUnavailable().json(readiness) }
}

const fn word(answers: bool) -> &'static str {
    if answers { "ok" } else { "unavailable" }
}

async fn answers<E>(ping: impl Future<Output = Result<(), E>>) -> bool {
    matches!(tokio::time::timeout(PATIENCE, ping).await, Ok(Ok(())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::{Method, StatusCode};
    use actix_web::test::{TestRequest, call_service, init_service};

    #[actix_web::test]
    async fn probes_may_ask_for_the_head_alone() {
        let service = init_service(actix_web::App::new().configure(routes)).await;
        for path in ["/livez", "/readyz"] {
            let asked = |method| call_service(&service, TestRequest::with_uri(path).method(method).to_request());
            assert_eq!(asked(Method::HEAD).await.status(), asked(Method::GET).await.status(), "{path}");
            assert_eq!(asked(Method::POST).await.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}
