//! Reading: the file, then the environment over it; aliases, and every mistake kept for one report.
//!
//! Invariant: what is wrong is refused whoever uses it, so that a set of variables that is good for one program is good for all. A value that is wrong is
//! left out when it is reported, and leads to no further mistake.

use super::environment::{Environment, read_roots};
use super::syntax;
use super::variables::{VARIABLES, Variable, find};
use super::{Summary, file};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// From this many letters on, a name that is one letter away from another is more likely a slip than a name of its own.
const TELLING_LETTERS: usize = 8;

/// Every mistake of a configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration has {} mistake(s):{}{}", .mistakes.len(), listed(.mistakes), perhaps(.slips))]
pub struct ConfigErrors {
    mistakes: Vec<String>,
    /// No mistakes by themselves, but the reason of one maybe.
    slips: Vec<Slip>,
}

fn listed(items: &[impl Display]) -> String {
    items.iter().fold(String::new(), |list, item| list + "\n  - " + &item.to_string())
}

fn perhaps(slips: &[Slip]) -> String {
    if slips.is_empty() { String::new() } else { format!("\nand perhaps:{}", listed(slips)) }
}

/// What one place says: values that are not empty, by any name of a variable's.
type Source = BTreeMap<&'static str, String>;

/// Values by the variables' own names, and the mistakes so far.
pub struct Reader {
    pub(super) environment: Environment,
    values: Source,
    /// What the program has asked for.
    asked: BTreeSet<&'static str>,
    errors: Vec<String>,
}

impl Reader {
    /// Of this process's environment.
    pub fn from_environment() -> Self {
        Self::of(Environment::of_this_process())
    }

    /// Of the given environment, and of the file that it names.
    pub fn new<N: Into<OsString>, V: Into<OsString>>(environment: impl IntoIterator<Item = (N, V)>) -> Self {
        Self::of(environment.into_iter().collect())
    }

    fn of(environment: Environment) -> Self {
        let mut reader = Self { environment, values: Source::new(), asked: BTreeSet::new(), errors: Vec::new() };
        let sources = [reader.variables(), reader.file()];
        for variable in VARIABLES {
            reader.choose(variable, &sources);
        }
        if let Some(file) = reader.environment.extra_roots_file()
            && let Err(why) = read_roots(&file)
        {
            reader.error("SSL_CERT_FILE", format!("({}) can't be used: {why}", file.display()));
        }
        reader
    }

    fn variables(&mut self) -> Source {
        let mut source = Source::new();
        for name in names() {
            let Some(value) = self.environment.get(name).map(|value| value.to_str().map(str::to_owned)) else {
                continue;
            };
            match value {
                Some(value) => put(&mut source, name, &value),
                None => self.error(name, "is not UTF-8"),
            }
        }
        source
    }

    fn file(&mut self) -> Source {
        let mut source = Source::new();
        let Some(path) = self.environment.get("ROADSTEAD_CONFIG").map(PathBuf::from) else { return source };
        let table = file::read(&path).unwrap_or_else(|why| {
            self.error("ROADSTEAD_CONFIG", format!("({}) can't be used: {why}", path.display()));
            BTreeMap::new()
        });
        for (name, value) in table {
            match (names().find(|known| *known == name), value) {
                (Some(known), Some(value)) => put(&mut source, known, &value),
                (Some(known), None) => self.error(known, "must be a plain value in the configuration file"),
                (None, _) => {
                    let nearest = names().min_by_key(|known| strsim::damerau_levenshtein(&name, known)).unwrap_or("");
                    self.error(&name, format!("is not a known variable (in {}); is it {nearest}?", path.display()));
                }
            }
        }
        source
    }

    /// The first source that knows a variable, by whichever name, decides.
    fn choose(&mut self, variable: &'static Variable, sources: &[Source]) {
        let set = sources.iter().map(|source| set(variable, source)).find(|set| !set.is_empty()).unwrap_or_default();
        let Some(((name, value), others)) = set.split_first() else { return };
        for (other, _) in others.iter().filter(|other| !variable.kind.agree(value, &other.1)) {
            self.error(other, format!("and {name} are one variable with two names, and have different values"));
        }
        match variable.kind.check(value) {
            Ok(()) => drop(self.values.insert(variable.name, value.clone())),
            Err(mistake) => self.error(variable.name, mistake),
        }
    }

    pub fn error(&mut self, name: &str, detail: impl Display) {
        self.mistake(format!("{name} {detail}"));
    }

    /// One that begins with the variable's name by itself.
    pub fn mistake(&mut self, mistake: String) {
        if !self.errors.contains(&mistake) {
            self.errors.push(mistake);
        }
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// As it was set, or the default.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        debug_assert!(find(name).is_some(), "{name} is in the list of variables");
        self.asked.insert(name);
        self.values.get(name).cloned().or_else(|| find(name)?.default.map(ToOwned::to_owned))
    }

    pub fn required(&mut self, name: &'static str) -> String {
        self.text(name).unwrap_or_else(|| {
            self.missing(name, "is required");
            String::new()
        })
    }

    /// What is wrong is reported as such, and not as missing.
    pub fn missing(&mut self, name: &str, why: &str) {
        let is_reported = |mistake: &String| mistake.strip_prefix(name).is_some_and(|rest| rest.starts_with(' '));
        if !self.errors.iter().any(is_reported) {
            self.error(name, why);
        }
    }

    /// By one of the functions of [`syntax`], which has accepted the value before.
    pub fn parsed<T>(&mut self, name: &'static str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        parse(&self.text(name)?).ok()
    }

    pub fn switch(&mut self, name: &'static str) -> bool {
        self.parsed(name, syntax::switch).unwrap_or_default()
    }

    pub fn number<T: TryFrom<u64>>(&mut self, name: &'static str) -> Option<T> {
        self.parsed(name, syntax::number)?.try_into().ok()
    }

    pub fn duration(&mut self, name: &'static str) -> Duration {
        self.parsed(name, syntax::duration).unwrap_or_default()
    }

    pub fn host(&mut self, name: &'static str) -> IpAddr {
        self.parsed(name, syntax::host).unwrap_or(IpAddr::from([0, 0, 0, 0]))
    }

    /// The configuration, if it has no mistake.
    pub fn finish<T>(self, config: T) -> Result<T, ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(config);
        }
        Err(ConfigErrors { slips: slips(&self.environment), mistakes: self.errors })
    }

    /// Of what the program has asked for, what holds.
    pub fn summary(&self) -> Summary {
        let shown = |name: &&'static str| {
            let variable = find(name)?;
            let value = self.values.get(name).map(String::as_str).or(variable.default)?;
            Some((*name, variable.kind.shown(value)))
        };
        Summary { values: self.asked.iter().filter_map(shown).collect(), slips: slips(&self.environment) }
    }
}

fn put(source: &mut Source, name: &'static str, value: &str) {
    let value = value.trim();
    if !value.is_empty() {
        source.insert(name, value.to_owned());
    }
}

/// A variable's values by its names.
fn set(variable: &Variable, source: &Source) -> Vec<(&'static str, String)> {
    let own = variable.names().filter_map(|name| Some((name, source.get(name)?.clone())));
    own.chain(half_of_server_addr(variable, source).map(|half| ("SERVER_ADDR", half))).collect()
}

/// It is another name of two variables at once.
fn half_of_server_addr(variable: &Variable, source: &Source) -> Option<String> {
    let (host, port) = syntax::listener(source.get("SERVER_ADDR")?).ok()?;
    match variable.name {
        "API_HOST" => host.map(|host| host.to_string()),
        "API_PORT" => Some(port.to_string()),
        _ => None,
    }
}

fn names() -> impl Iterator<Item = &'static str> {
    VARIABLES.iter().flat_map(Variable::names)
}

/// A name in the environment that is nearly one of ours. It may be another program's, so it is told and not refused.
#[derive(Clone, Debug)]
pub struct Slip {
    pub name: String,
    meant: &'static str,
}

impl Display for Slip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not a known variable; did you mean {}?", self.name, self.meant)
    }
}

fn slips(environment: &Environment) -> Vec<Slip> {
    let near = |name: &&str| {
        names().find(|known| {
            known.len() >= TELLING_LETTERS
                && known.len().abs_diff(name.len()) <= 1
                && strsim::damerau_levenshtein(name, known) == 1
        })
    };
    let unknown = environment.names().filter(|name| find(name).is_none());
    unknown.filter_map(|name| Some(Slip { name: name.to_owned(), meant: near(&name)? })).collect()
}
