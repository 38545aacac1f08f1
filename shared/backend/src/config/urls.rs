//! URLs: read by those who will use them, so that one which they can't use is known at the start; and what of one may be shown.
//!
//! Invariant: no mistake and nothing that is shown holds what may be a password.

use std::error::Error;
use tokio_postgres::config::Host;

/// Without a trailing slash.
pub fn http(text: &str) -> Result<String, String> {
    let is_http = text.starts_with("http://") || text.starts_with("https://");
    if !is_http || text.contains(char::is_whitespace) || reqwest::Url::parse(text).is_err() {
        return Err("must be a URL that begins with http:// or https://".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// As its client takes it.
pub fn postgres(text: &str) -> Result<String, String> {
    if !(text.starts_with("postgres://") || text.starts_with("postgresql://")) || text.contains(char::is_whitespace) {
        return Err("must be a URL that begins with postgres:// or postgresql://".to_owned());
    }
    let url = with_known_sslmode(text);
    let config: tokio_postgres::Config = match url.parse() {
        Ok(config) => config,
        Err(_) if place(&url).is_none() => return Err(UNCLEAR.to_owned()),
        Err(error) => {
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            let advice =
                if why.contains("`sslrootcert`") { "; SSL_CERT_FILE names further root certificates" } else { "" };
            return Err(format!("can't be used: {why}{advice}"));
        }
    };
    let hosts = config.get_hosts();
    if hosts.is_empty() && config.get_hostaddrs().is_empty() {
        return Err("names no host".to_owned());
    }
    if hosts.iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
        return Err(UNCLEAR.to_owned());
    }
    Ok(url)
}

const UNCLEAR: &str = "must hold its password percent-encoded: `%40` for `@`, `%3F` for `?`, `%23` for `#`";

/// libpq's modes in its client's words. TLS is never without a check of the certificate and the host's name here, so that the modes which ask for one
/// are `require`.
fn with_known_sslmode(url: &str) -> String {
    let Some((place, query)) = url.rsplit_once('?') else { return url.to_owned() };
    let options: Vec<&str> = query
        .split('&')
        .map(|option| match option {
            "sslmode=verify-ca" | "sslmode=verify-full" => "sslmode=require",
            "sslmode=allow" => "sslmode=prefer",
            other => other,
        })
        .collect();
    format!("{place}?{}", options.join("&"))
}

/// `HOST:PORT`, as `REDIS_ADDR` is in other tools, is a URL, too.
pub fn redis(text: &str) -> Result<String, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
    if url.contains(char::is_whitespace) || url.parse::<redis::ConnectionInfo>().is_err() {
        return Err("must be `HOST:PORT`, or a URL as in `redis://HOST:PORT/DATABASE`, `rediss://…` for TLS".to_owned());
    }
    Ok(url)
}

/// Scheme, place and path. User and password are left out, and so are query and fragment.
pub fn redacted(url: &str) -> String {
    match (url.split_once("://"), place(url)) {
        (Some((scheme, _)), Some(place)) => format!("{scheme}://{place}"),
        _ => "<redacted>".to_owned(),
    }
}

/// What stands between the last `@` and a query; nothing, when that `@` may be one of the query's, or the query the password's.
fn place(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
    if user.contains(['?', '#']) {
        return None;
    }
    rest.split(['?', '#']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shown_of_a_url_is_a_secret() {
        for (url, shown) in [
            ("postgres://u:hush@db/x?sslmode=require", "postgres://db/x"),
            ("postgres://u:hu@sh@db/x", "postgres://db/x"),
            ("postgres://u:hu/sh@db/x", "postgres://db/x"),
            ("postgres://u:hush?x@db/y", "<redacted>"),
            ("postgres://u:hush#x@db/y", "<redacted>"),
            ("unix:///run/redis?pass=hu@sh", "<redacted>"),
            ("redis://:hush@r:1/0", "redis://r:1/0"),
            ("https://s3/?token=hush#hush", "https://s3/"),
            ("u:hush@r:1", "<redacted>"),
        ] {
            assert_eq!(redacted(url), shown, "{url}");
        }
    }

    #[test]
    fn libpqs_modes_of_tls_are_known() {
        let url = |mode: &str| format!("postgres://u:p@db/x?application_name=a&sslmode={mode}&connect_timeout=3");
        for (mode, known) in [
            ("disable", "disable"),
            ("allow", "prefer"),
            ("prefer", "prefer"),
            ("require", "require"),
            ("verify-ca", "require"),
            ("verify-full", "require"),
        ] {
            assert_eq!(postgres(&url(mode)), Ok(url(known)), "{mode}");
        }
    }

    #[test]
    fn what_the_client_of_postgresql_can_not_use_is_refused_without_showing_it() {
        for (url, word) in [
            ("postgres://u:hush@db:none/x", "port"),
            ("postgres://u:hush@db/x?sslmode=maybe", "sslmode"),
            ("postgres://u:hush@db/x?sslrootcert=/ca.pem", "SSL_CERT_FILE"),
            ("postgres://u:hush@db/x?pool=3", "pool"),
            ("postgres:///x", "host"),
            ("postgres://u:hu@sh@db/x", "%40"),
            ("postgres://u:hu@sh?hush=1@db/x", "%40"),
            ("postgres://u:hush@db/x y", "postgres://"),
            ("mysql://u:hush@db/x", "postgres://"),
        ] {
            let mistake = postgres(url).unwrap_err();
            assert!(mistake.contains(word) && !mistake.contains("hush"), "{url}: {mistake}");
        }
        for good in
            ["postgresql://db", "postgres://u:hu?sh@db/x", "postgres://u:p@a:1,[::1]:2/x", "postgres:///x?host=/run"]
        {
            assert!(postgres(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_the_client_of_redis_can_not_use_is_refused() {
        assert_eq!(redis("redis:6379").as_deref(), Ok("redis://redis:6379"));
        for good in ["redis://:p@r:1/0", "rediss://r", "unix:///run/redis.sock", "127.0.0.1:6379"] {
            assert!(redis(good).is_ok(), "{good}");
        }
        for bad in [
            "redis://r:port",
            "r:port",
            "redis://r:99999",
            "redis://r /0",
            "r 1",
            "http://r",
            "redis://",
            "redis://r/x",
        ] {
            assert!(redis(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_that_names_no_host_or_port_is_refused() {
        assert_eq!(http("http://s3:9000/").as_deref(), Ok("http://s3:9000"));
        for bad in ["nowhere", "ftp://s3", "http://", "http://s3:port", "http://s3:99999", "http://s 3", "HTTP//s3"] {
            assert!(http(bad).is_err(), "{bad}");
        }
    }
}
