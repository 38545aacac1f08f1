//! The metrics of HTTP itself.
//!
//! Invariant: labels are a route's pattern, a method and a status, never a path. Each thread keeps its handles, so a request costs two look-ups and no
//! registration.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use roadstead_backend::telemetry::metrics::{HTTP_REQUEST_SECONDS, HTTP_REQUESTS_IN_FLIGHT, HTTP_REQUESTS_TOTAL};
use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

/// Where no route matched.
const NO_ROUTE: &str = "none";
type Series = HashMap<(&'static str, u16), (Counter, Histogram)>;

thread_local! {
    static ROUTES: RefCell<HashMap<String, Series>> = RefCell::default();
    static IN_FLIGHT: Gauge = gauge!(HTTP_REQUESTS_IN_FLIGHT);
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub struct InFlight(());

impl InFlight {
    pub fn begin() -> Self {
        IN_FLIGHT.with(|gauge| gauge.increment(1));
        Self(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT.with(|gauge| gauge.decrement(1));
    }
}

pub fn record(response: &ServiceResponse<BoxBody>, began: Instant) {
    let request = response.request();
    let route = request.match_pattern().unwrap_or_else(|| NO_ROUTE.to_owned());
    let method = word(request.method());
    let status = response.status().as_u16();
    ROUTES.with_borrow_mut(|routes| {
        let series = routes.entry(route.clone()).or_default();
        let (count, seconds) = series.entry((method, status)).or_insert_with(|| {
            let count = counter!(HTTP_REQUESTS_TOTAL, "method" => method, "route" => route.clone(), "status" => status.to_string());
            (count, histogram!(HTTP_REQUEST_SECONDS, "method" => method, "route" => route))
        });
        count.increment(1);
        seconds.record(began.elapsed());
    });
}

/// What else is sent is one series.
fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "OTHER",
    }
}
