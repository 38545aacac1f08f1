//! The metrics of HTTP itself.
//!
//! Invariant: labels are a route's pattern, a method and a status, never a path. Each thread keeps its handles, so a request costs two look-ups and no
//! registration.

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use bytes::Bytes;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use roadstead_backend::telemetry::metrics::{HTTP_REQUEST_SECONDS, HTTP_REQUESTS_IN_FLIGHT, HTTP_REQUESTS_TOTAL};
use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

/// Where no route matched.
const NO_ROUTE: &str = "none";
/// A part that goes on to the end.
const REST: &str = ":.*}";
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

    /// Until the answer was given. One that is there as a whole was.
    pub fn until_the_end(self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        response.map_body(|_, body| match body.size() {
            BodySize::None => body,
            _ => match body.try_into_bytes() {
                Ok(bytes) => BoxBody::new(bytes),
                Err(body) => BoxBody::new(Streaming { body, _in_flight: self }),
            },
        })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT.with(|gauge| gauge.decrement(1));
    }
}

/// An answer that arrives bit by bit, and is being given until its end.
struct Streaming {
    body: BoxBody,
    _in_flight: InFlight,
}

impl MessageBody for Streaming {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(context)
    }
}

pub fn record(response: &ServiceResponse<BoxBody>, began: Instant) {
    let request = response.request();
    let route = request.match_pattern().unwrap_or_else(|| NO_ROUTE.to_owned());
    // As it is documented: without what the router is told of a part.
    let route = if route.contains(REST) { route.replace(REST, "}") } else { route };
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

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::StatusCode;
    use actix_web::test::TestRequest;
    use actix_web::{HttpResponse, body};
    use futures_util::stream;
    use metrics::{Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Every gauge is this one.
    #[derive(Default)]
    struct OneGauge(Arc<AtomicU64>);

    impl Recorder for OneGauge {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }
        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::from_arc(Arc::clone(&self.0))
        }
        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    #[test]
    fn a_streaming_answer_is_in_flight_until_its_end() {
        let recorder = OneGauge::default();
        let now = || f64::from_bits(recorder.0.load(Ordering::Relaxed)) as u64;
        let answered = |response: HttpResponse| {
            let in_flight = with_local_recorder(&recorder, InFlight::begin);
            in_flight.until_the_end(TestRequest::get().to_srv_response(response))
        };
        let nothing = answered(HttpResponse::with_body(StatusCode::NO_CONTENT, BoxBody::new(body::None::new())));
        assert_eq!((nothing.response().body().size(), now()), (BodySize::None, 0));
        let whole = answered(HttpResponse::Ok().body("whole"));
        assert_eq!((whole.response().body().size(), now()), (BodySize::Sized(5), 0));
        let streaming = answered(HttpResponse::Ok().streaming(stream::pending::<Result<Bytes, actix_web::Error>>()));
        assert_eq!((streaming.response().body().size(), now()), (BodySize::Stream, 1));
        drop(streaming);
        assert_eq!(now(), 0);
    }
}
