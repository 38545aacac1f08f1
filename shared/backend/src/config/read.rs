//! Reading: the file, then the environment over it; aliases, types, and every mistake kept for one report.

use super::variables::{VARIABLES, Variable, find};
use config::{Config, File, FileFormat};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// Every mistake of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} mistake(s):\n{}", .0.len(), .0.iter().map(|m| format!("  - {m}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

/// Values by the variables' own names, and the mistakes so far.
#[derive(Debug)]
pub struct Reader {
    values: BTreeMap<&'static str, String>,
    errors: Vec<String>,
}

impl Reader {
    /// Of this process's environment.
    pub fn from_environment() -> Self {
        Self::new(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Of the given environment, and of the file that it names.
    pub fn new(environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let mut reader = Self { values: BTreeMap::new(), errors: Vec::new() };
        let mut given =
            environment.get("ROADSTEAD_CONFIG").map_or_else(BTreeMap::new, |path| reader.file(Path::new(path)));
        for (name, value) in environment {
            match find(&name) {
                Some(variable) => {
                    // The environment wins over the file, also by another name of the same variable.
                    if !given.get(&name).is_some_and(|(_, from_environment)| *from_environment) {
                        for other in std::iter::once(&variable.name).chain(variable.aliases) {
                            if given.get(*other).is_some_and(|(_, from_environment)| !from_environment) {
                                given.remove(*other);
                            }
                        }
                    }
                    given.insert(name, (value, true));
                }
                None => reader.refuse_typo(&name),
            }
        }
        for variable in VARIABLES {
            reader.choose(variable, &given);
        }
        reader
    }

    fn file(&mut self, path: &Path) -> BTreeMap<String, (String, bool)> {
        let format = match path.extension().and_then(|e| e.to_str()) {
            Some("toml") => FileFormat::Toml,
            Some("json") => FileFormat::Json,
            _ => FileFormat::Yaml,
        };
        let read = Config::builder()
            .add_source(File::from(path.to_path_buf()).format(format))
            .build()
            .and_then(Config::try_deserialize::<BTreeMap<String, config::Value>>);
        let table = match read {
            Ok(table) => table,
            Err(error) => {
                self.errors.push(format!("ROADSTEAD_CONFIG ({}): {error}", path.display()));
                return BTreeMap::new();
            }
        };
        let mut given = BTreeMap::new();
        for (key, value) in table {
            let name = key.to_ascii_uppercase();
            match (find(&name), value.into_string()) {
                (Some(_), Ok(text)) => {
                    given.insert(name, (text, false));
                }
                (Some(_), Err(_)) => self.error(&name, "must be a plain value in the configuration file"),
                (None, _) => self.error(&name, format!("is not a known variable (in {})", path.display())),
            }
        }
        given
    }

    /// A variable of somebody else's is none of our business, unless its name is a slip away from one of ours.
    fn refuse_typo(&mut self, name: &str) {
        let near = VARIABLES.iter().flat_map(|v| std::iter::once(&v.name).chain(v.aliases)).find(|known| {
            known.len() >= 8 && known.len().abs_diff(name.len()) <= 1 && strsim::damerau_levenshtein(name, known) == 1
        });
        if let Some(known) = near {
            self.error(name, format!("is not a known variable; did you mean {known}?"));
        }
    }

    fn choose(&mut self, variable: &'static Variable, given: &BTreeMap<String, (String, bool)>) {
        let set: Vec<(&str, &str)> = std::iter::once(&variable.name)
            .chain(variable.aliases)
            .filter_map(|name| given.get(*name).map(|(value, _)| (*name, value.trim())))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        if let Some((first, others)) = set.split_first() {
            for other in others.iter().filter(|other| other.1 != first.1) {
                self.error(
                    other.0,
                    format!("and {} are one variable with two names, and have different values", first.0),
                );
            }
            self.values.insert(variable.name, first.1.to_owned());
        }
    }

    pub fn error(&mut self, name: &str, detail: impl Display) {
        let mistake = format!("{name} {detail}");
        if !self.errors.contains(&mistake) {
            self.errors.push(mistake);
        }
    }

    pub fn missing(&mut self, name: &str) {
        self.error(name, "is required");
    }

    /// As it was set; no default.
    pub fn optional(&self, name: &'static str) -> Option<String> {
        debug_assert!(find(name).is_some(), "{name} is in the list of variables");
        self.values.get(name).cloned()
    }

    /// As it was set, or the default.
    pub fn text(&self, name: &'static str) -> Option<String> {
        self.optional(name).or_else(|| find(name)?.default.map(ToOwned::to_owned))
    }

    pub fn required(&mut self, name: &'static str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.missing(name);
            String::new()
        })
    }

    pub fn parsed<T: FromStr>(&mut self, name: &'static str, what: &str) -> Option<T> {
        let text = self.text(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            self.error(name, format!("must be {what}, not `{text}`"));
        }
        value
    }

    pub fn number<T: FromStr + PartialOrd + Display + Copy>(
        &mut self,
        name: &'static str,
        min: T,
        max: T,
    ) -> Option<T> {
        let what = format!("a whole number from {min} to {max}");
        let number: T = self.parsed(name, &what)?;
        if number < min || number > max {
            self.error(name, format!("must be {what}, not {number}"));
            return None;
        }
        Some(number)
    }

    pub fn boolean(&mut self, name: &'static str) -> bool {
        match self.text(name).unwrap_or_default().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" | "" => false,
            other => {
                self.error(name, format!("must be `true` or `false`, not `{other}`"));
                false
            }
        }
    }

    /// `30s`, `5m`, `24h`, or plain seconds; more than zero.
    pub fn duration(&mut self, name: &'static str) -> Duration {
        let text = self.required(name);
        let seconds = if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}s") } else { text.clone() };
        match humantime::parse_duration(&seconds) {
            Ok(span) if !span.is_zero() && span <= Duration::from_secs(10 * 366 * 86_400) => span,
            _ => {
                self.error(
                    name,
                    format!("must be a duration above zero, as in `30s`, `5m`, `24h`, or plain seconds, not `{text}`"),
                );
                Duration::from_secs(1)
            }
        }
    }

    /// Without a trailing slash. The value is not shown in a mistake: it may hold a password.
    pub fn url(&mut self, name: &'static str, schemes: &[&str]) -> Option<String> {
        let text = self.text(name)?;
        let fits = text.split_once("://").is_some_and(|(scheme, rest)| {
            schemes.contains(&scheme) && !rest.is_empty() && !rest.chars().any(char::is_whitespace)
        });
        if !fits {
            self.error(name, format!("must be a URL that begins with {}://", schemes.join(":// or ")));
        }
        Some(text.trim_end_matches('/').to_owned())
    }

    /// The configuration, if it has no mistake.
    pub fn finish<T>(self, config: T) -> Result<T, ConfigErrors> {
        if self.errors.is_empty() { Ok(config) } else { Err(ConfigErrors(self.errors)) }
    }

    /// What was set, for the one line at start: secrets are withheld, passwords in URLs too.
    pub fn redacted(&self) -> BTreeMap<&'static str, String> {
        self.values
            .iter()
            .map(|(name, value)| {
                let hide = find(name).is_some_and(|v| v.secret);
                (*name, if hide { redact(value) } else { value.clone() })
            })
            .collect()
    }
}

/// Of a URL, what stands after its credentials and before its query; of anything else, nothing.
fn redact(value: &str) -> String {
    match value.split_once("://") {
        Some((scheme, rest)) => {
            let rest = rest.split('?').next().unwrap_or_default();
            let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
            format!("{scheme}://{place}")
        }
        None => "<redacted>".to_owned(),
    }
}

/// `SERVER_ADDR` is both `API_HOST` and `API_PORT`.
pub fn listener(reader: &mut Reader) -> (IpAddr, u16) {
    let host = reader.parsed("API_HOST", "an IP address").unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let port = reader.number("API_PORT", 0, u16::MAX).unwrap_or(8080);
    let Some(text) = reader.optional("SERVER_ADDR") else { return (host, port) };
    let full = if text.starts_with(':') { format!("{host}{text}") } else { text.clone() };
    let Ok(address) = full.parse::<SocketAddr>() else {
        reader.error("SERVER_ADDR", format!("must be `IP:PORT` or `:PORT`, not `{text}`"));
        return (host, port);
    };
    for (name, same) in
        [("API_HOST", address.ip() == host || text.starts_with(':')), ("API_PORT", address.port() == port)]
    {
        if reader.optional(name).is_some() && !same {
            reader.error(name, "and SERVER_ADDR are one variable with two names, and have different values");
        }
    }
    (address.ip(), address.port())
}

pub fn in_a_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

pub fn executor_beside_this_program() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join("roadstead-executor")))
        .unwrap_or_else(|| PathBuf::from("roadstead-executor"))
}

#[cfg(test)]
mod tests {
    use super::super::{ApiConfig, KubernetesConfig, LauncherConfig, WorkerConfig};
    use super::*;

    fn environment<'a>(extra: &[(&'a str, &'a str)]) -> Vec<(String, String)> {
        let base = [
            ("DATABASE_URL", "postgres://u:hush@db/x?sslmode=require"),
            ("S3_ENDPOINT", "http://s3:9000/"),
            ("META_BUCKET_NAME", "meta"),
            ("CONTENT_BUCKET_NAME", "content"),
            ("LAUNCHER", "process"),
        ];
        base.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn api(extra: &[(&str, &str)]) -> Result<ApiConfig, ConfigErrors> {
        let mut reader = Reader::new(environment(extra));
        let config = ApiConfig::read(&mut reader);
        reader.finish(config)
    }

    #[test]
    fn defaults_are_the_contracts() {
        let config = api(&[]).unwrap();
        assert_eq!((config.port, config.host.to_string().as_str()), (8080, "0.0.0.0"));
        assert_eq!(config.executions.timeout, Duration::from_secs(3600));
        assert_eq!((config.executions.max_retries, config.executions.max_concurrent_jobs), (3, 10));
        assert_eq!(config.api_url, "http://127.0.0.1:8080");
        assert_eq!(config.objects.public_endpoint, "http://s3:9000");
    }

    #[test]
    fn every_mistake_is_reported_together_and_no_secret_with_it() {
        let error = api(&[
            ("MAX_CONCURRENT_JOBS", "many"),
            ("JOB_TIMEOUT", "soon"),
            ("API_PORT", "99999"),
            ("METRICS_ENABLED", "perhaps"),
            ("DATABASE_URL", "mysql://u:hush@db/x"),
            ("REDIS_URL", "http://hush"),
        ])
        .unwrap_err()
        .to_string();
        for name in
            ["MAX_CONCURRENT_JOBS", "JOB_TIMEOUT_SECONDS", "API_PORT", "METRICS_ENABLED", "DATABASE_URL", "REDIS_URL"]
        {
            assert!(error.contains(name), "{name} in {error}");
        }
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn two_names_of_one_variable_may_agree_only() {
        assert!(api(&[("META_BUCKET", "meta")]).is_ok());
        let error = api(&[("META_BUCKET", "other")]).unwrap_err().to_string();
        assert!(error.contains("META_BUCKET and META_BUCKET_NAME"), "{error}");
        assert!(api(&[("SERVER_ADDR", "127.0.0.1:9"), ("API_PORT", "8")]).is_err());
        assert_eq!(api(&[("SERVER_ADDR", "127.0.0.1:9")]).unwrap().port, 9);
        assert_eq!(api(&[("SERVER_ADDR", ":9")]).unwrap().port, 9);
    }

    #[test]
    fn a_slip_in_a_name_is_refused_and_other_programs_variables_are_not() {
        let error = api(&[("MAX_CONCURENT_JOBS", "3")]).unwrap_err().to_string();
        assert!(error.contains("did you mean MAX_CONCURRENT_JOBS"), "{error}");
        assert!(api(&[("API_KEY", "x"), ("PATH", "/bin"), ("JOBS", "3")]).is_ok());
    }

    #[test]
    fn durations_take_units_or_seconds() {
        for (text, seconds) in [("90", 90), ("30s", 30), ("5m", 300), ("24h", 86_400)] {
            assert_eq!(api(&[("JOB_TIMEOUT_SECONDS", text)]).unwrap().executions.timeout, Duration::from_secs(seconds));
        }
        assert!(api(&[("JOB_TIMEOUT_SECONDS", "0")]).is_err());
    }

    #[test]
    fn dev_mode_wants_loopback() {
        assert!(api(&[("DEV_MODE", "true")]).is_err());
        assert!(api(&[("DEV_MODE", "true"), ("API_HOST", "127.0.0.1")]).is_ok());
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let file = std::env::temp_dir().join(format!("roadstead-config-{}.toml", std::process::id()));
        std::fs::write(&file, "max_concurrent_jobs = 7\njob_timeout = \"2m\"\n").unwrap();
        let path = file.to_string_lossy().into_owned();
        let config = api(&[("ROADSTEAD_CONFIG", &path), ("JOB_TIMEOUT_SECONDS", "5")]);
        std::fs::write(&file, "max_jobs = 7\n").unwrap();
        let unknown = api(&[("ROADSTEAD_CONFIG", &path)]);
        std::fs::remove_file(&file).unwrap();
        let config = config.unwrap();
        assert_eq!(config.executions.max_concurrent_jobs, 7);
        assert_eq!(config.executions.timeout, Duration::from_secs(5));
        assert!(unknown.unwrap_err().to_string().contains("MAX_JOBS"));
    }

    fn worker(extra: &[(&str, &str)]) -> Result<WorkerConfig, ConfigErrors> {
        let mut reader = Reader::new(environment(extra));
        let config = WorkerConfig::read(&mut reader);
        reader.finish(config)
    }

    fn kubernetes(extra: &[(&str, &str)]) -> Result<KubernetesConfig, ConfigErrors> {
        let all =
            [&[("LAUNCHER", "kubernetes"), ("API_URL", "http://api:8080"), ("EXECUTOR_IMAGE", "executor:1")], extra]
                .concat();
        worker(&all).map(|config| match config.launcher {
            LauncherConfig::Kubernetes(kubernetes) => *kubernetes,
            LauncherConfig::Process { .. } => panic!("not the launcher that was asked for"),
        })
    }

    #[test]
    fn the_kubernetes_launcher_says_all_that_it_misses() {
        let error = worker(&[("LAUNCHER", "kubernetes")]).unwrap_err().to_string();
        assert!(error.contains("API_URL") && error.contains("EXECUTOR_IMAGE"), "{error}");
        let error = worker(&[("KUBERNETES_ENABLED", "true")]).unwrap_err().to_string();
        assert!(error.contains("LAUNCHER is `process`, but KUBERNETES_ENABLED is true"), "{error}");
        assert!(api(&[("LAUNCHER", "kubernetes")]).unwrap().kubernetes.is_some());
        assert!(api(&[]).unwrap().kubernetes.is_none());
    }

    #[test]
    fn kata_is_a_runtime_class_and_a_contradiction_is_refused() {
        assert_eq!(kubernetes(&[("USE_KATA_CONTAINERS", "true")]).unwrap().runtime_class.as_deref(), Some("kata"));
        assert_eq!(
            kubernetes(&[("EXECUTOR_RUNTIME_CLASS", "gvisor")]).unwrap().runtime_class.as_deref(),
            Some("gvisor")
        );
        assert_eq!(kubernetes(&[]).unwrap().runtime_class, None);
        assert!(kubernetes(&[("USE_KATA_CONTAINERS", "true"), ("EXECUTOR_RUNTIME_CLASS", "gvisor")]).is_err());
    }

    #[test]
    fn what_kubernetes_would_refuse_is_refused_at_the_start() {
        for (name, value) in [
            ("KUBERNETES_NAMESPACE", "Sandbox"),
            ("KUBERNETES_NAMESPACE", "%s-%s"),
            ("NAMESPACE_POLICY", "maybe"),
            ("WATCH_NAMESPACE", "a,B"),
            ("EXECUTOR_IMAGE_PULL_POLICY", "Sometimes"),
            ("JOB_MEMORY", "much"),
            ("JOB_CPU", "5"),
        ] {
            let error = kubernetes(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
        let config = kubernetes(&[("K8S_NAMESPACE", "sandbox-%s"), ("WATCH_NAMESPACE", "a, b")]).unwrap();
        assert_eq!((config.namespace_template.as_str(), config.watch_namespaces.len()), ("sandbox-%s", 2));
    }

    #[test]
    fn what_is_printed_holds_no_secret() {
        let reader =
            Reader::new(environment(&[("S3_SECRET_ACCESS_KEY", "hush"), ("REDIS_URL", "redis://:hush@r:1/0")]));
        let shown = format!("{:?}", reader.redacted());
        assert!(
            !shown.contains("hush") && shown.contains("postgres://db/x") && shown.contains("redis://r:1/0"),
            "{shown}"
        );
    }
}
