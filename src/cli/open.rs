//! Finding and opening the database.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::exit::{self, Failure, Outcome};
use super::holders;
use crate::error::{Error, Result};
use crate::store::{RedbStore, RedbStoreBuilder, SessionStore};

const DEFAULT_PATH: &str = "./sessions.redb";
/// What opening a file or a commit may take though nobody is in the way: `--wait 0s` waits for no
/// other process, but must not fail for want of time.
const LEAST_WAIT: Duration = Duration::from_millis(200);

/// Bytes of pages kept by a command that reads once: no more than the processor's own cache holds,
/// since each page read takes the place of one that was.
const SMALL_CACHE: usize = 1 << 20;

/// Where the database is, and who says so.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Location {
    /// A path, or the URL of a server, which may hold a password: [`Location::shown`] is for
    /// people.
    pub(crate) path: PathBuf,
    origin: Origin,
    /// Whether a missing one is to be made.
    pub(crate) may_be_made: bool,
    /// Whether nothing is looked at twice, so that a small cache will do.
    pub(crate) is_read_once: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Flag,
    Environment,
    Default,
}

impl Location {
    /// The path of the flag, else of the environment, else the default.
    pub(crate) fn find(flag: Option<&Path>, environment: Option<OsString>) -> Self {
        let environment = environment.filter(|value| !value.is_empty());
        match (flag, environment) {
            (Some(path), _) => Self {
                path: path.into(),
                origin: Origin::Flag,
                may_be_made: false,
                is_read_once: false,
            },
            (None, Some(path)) => Self {
                path: path.into(),
                origin: Origin::Environment,
                may_be_made: false,
                is_read_once: false,
            },
            (None, None) => Self {
                path: DEFAULT_PATH.into(),
                origin: Origin::Default,
                may_be_made: false,
                is_read_once: false,
            },
        }
    }

    /// Why the database cannot be used.
    pub(crate) fn explain(&self, error: Error, program: &str) -> Failure {
        if error.is_not_found() {
            return self.missing(program);
        }
        let (is_corrupt, is_in_use) = (error.is_corrupt(), error.is_in_use());
        let mut failure = Failure::from(error);
        if is_corrupt && self.url().is_none() {
            failure = failure.next(
                "stop the application; `check --repair` saves what can be read and keeps the \
                 broken file, `restore` puts a backup in its place",
            );
        }
        if is_in_use && self.url().is_none() {
            let holders = holders::of(&self.path);
            failure.why = if holders.is_empty() { failure.why } else { Some(holders.join(", ")) };
        }
        let path = self.shown();
        if !failure.what.contains(&path) {
            failure.what = format!("{path} cannot be used: {}", failure.what);
        }
        failure
    }

    /// The path, or the URL without user and password.
    pub(crate) fn shown(&self) -> String {
        match self.url() {
            Some(url) => without_password(url),
            None => self.path.display().to_string(),
        }
    }

    /// The URL, if it is one.
    pub(crate) fn url(&self) -> Option<&str> {
        self.path.to_str().filter(|text| is_url(text))
    }

    fn missing(&self, program: &str) -> Failure {
        let why = match self.origin {
            Origin::Flag => "the path is that of --db",
            Origin::Environment => "the path is that of FASTSESSION_DB",
            Origin::Default => "it is the default path: neither --db nor FASTSESSION_DB is set",
        };
        Failure::new(exit::FAILED, format!("there is no database at {}", self.shown()))
            .because(why)
            .next(format!(
                "name the application's database with --db, or make one with `{program} init`"
            ))
    }
}

/// How the dispatcher gets its store: [`existing`], or a test's own.
pub(crate) type Opener<'a> = dyn Fn(&Location, Duration) -> Result<Arc<dyn SessionStore>> + 'a;

/// Opens the store with `opener`; says where the path of a missing one came from.
pub(crate) fn open(
    opener: &Opener<'_>,
    location: &Location,
    wait: Duration,
    program: &str,
) -> Outcome<Arc<dyn SessionStore>> {
    opener(location, wait).map_err(|error| location.explain(error, program))
}

/// Opens the database at `location`, waiting for its locks or its server at most `wait`.
pub(crate) fn existing(location: &Location, wait: Duration) -> Result<Arc<dyn SessionStore>> {
    if let Some(url) = location.url() {
        let missing = if location.may_be_made { Missing::Make } else { Missing::Refuse };
        return server(url, wait, missing);
    }
    Ok(Arc::new(builder(location, wait).open()?))
}

/// How the file at `location`, which must exist unless it may be made, is opened.
pub(crate) fn builder(location: &Location, wait: Duration) -> RedbStoreBuilder {
    let builder = RedbStore::builder(&location.path).wait(wait.max(LEAST_WAIT));
    let builder = builder.without_sweeping().without_migrating();
    let builder = if location.is_read_once { builder.cache_size(SMALL_CACHE) } else { builder };
    if location.may_be_made { builder } else { builder.must_exist() }
}

/// Makes a database at `location`, where there must be none.
pub(crate) fn create(location: &Location, wait: Duration) -> Result<Arc<dyn SessionStore>> {
    if let Some(url) = location.url() {
        return server(url, wait, Missing::MustMake);
    }
    let builder = RedbStore::builder(&location.path).create_new().without_sweeping();
    Ok(Arc::new(builder.open()?))
}

/// What to do where a server has no sessions yet.
#[derive(Clone, Copy)]
enum Missing {
    Refuse,
    Make,
    MustMake,
}

#[cfg(feature = "redis")]
fn server(url: &str, wait: Duration, missing: Missing) -> Result<Arc<dyn SessionStore>> {
    let builder = crate::store::RedisStore::builder(url).wait(wait.max(LEAST_WAIT));
    let builder = match missing {
        Missing::Refuse => builder.must_exist(),
        Missing::Make => builder,
        Missing::MustMake => builder.create_new(),
    };
    Ok(Arc::new(builder.without_sweeping().connect()?))
}

#[cfg(not(feature = "redis"))]
fn server(_: &str, _: Duration, _: Missing) -> Result<Arc<dyn SessionStore>> {
    let why = "it is a server's, and this program was built without the feature `redis`";
    Err(Error::new(crate::error::Kind::Invalid, why))
}

fn is_url(text: &str) -> bool {
    let schemes = ["redis", "rediss", "valkey", "valkeys", "redis+unix", "valkey+unix", "unix"];
    text.split_once("://").is_some_and(|(scheme, _)| schemes.contains(&scheme))
}

/// A URL without user and password, for messages.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    // A password may hold anything, and what follows it no `@`.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    // The URL of a socket has it in the query.
    let secret = |pair: &&str| !pair.starts_with("pass=") && !pair.starts_with("user=");
    let rest = match rest.split_once('?') {
        Some((path, query)) => {
            let query: Vec<_> = query.split('&').filter(secret).collect();
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{path}{mark}{}", query.join("&"))
        }
        None => rest.into(),
    };
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn missing(flag: Option<&str>, environment: Option<&str>) -> Failure {
        let location = Location::find(flag.map(Path::new), environment.map(Into::into));
        let opener = |_: &Location, _| Err(Error::new(Kind::NotFound, "no such file"));
        open(&opener, &location, Duration::ZERO, "fastsession").err().unwrap()
    }

    #[test]
    fn a_free_file_is_opened_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sessions.redb");
        let location = Location::find(Some(&path), None);
        create(&location, Duration::ZERO).unwrap();
        assert!(existing(&location, Duration::ZERO).is_ok());
    }

    #[test]
    fn a_failure_to_open_names_the_file() {
        let location = Location::find(Some(Path::new("a.redb")), None);
        for message in ["a.redb is empty", "it is another program's"] {
            let opener = |_: &Location, _| Err(Error::new(Kind::Invalid, message));
            let failure = open(&opener, &location, Duration::ZERO, "fastsession").err().unwrap();
            assert_eq!(failure.what.matches("a.redb").count(), 1, "{}", failure.what);
        }
    }

    #[test]
    fn a_missing_file_says_where_its_path_came_from() {
        let flag = missing(Some("a.redb"), Some("b.redb"));
        assert!(flag.what.contains("a.redb") && flag.why.unwrap().contains("--db"));
        let environment = missing(None, Some("b.redb"));
        assert!(environment.what.contains("b.redb"));
        assert!(environment.why.unwrap().ends_with("of FASTSESSION_DB"));
        for environment in [None, Some("")] {
            let default = missing(None, environment);
            assert!(default.what.contains("./sessions.redb"));
            assert!(default.why.unwrap().contains("default"));
            assert!(default.next.unwrap().contains("fastsession init"));
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let shown = [
            ("redis://:secret@db:6379/2", "redis://db:6379/2"),
            ("rediss://me:s@c/r?e@t@db?prefix=shop", "rediss://db?prefix=shop"),
            (
                "redis+unix:///run/redis.sock?user=me&pass=secret&db=1",
                "redis+unix:///run/redis.sock?db=1",
            ),
            ("redis://db", "redis://db"),
        ];
        for (url, expected) in shown {
            let location = Location::find(Some(Path::new(url)), None);
            assert_eq!(location.shown(), expected);
        }
        let failure = missing(None, Some("redis://:secret@db:6379"));
        assert!(failure.what.contains("redis://db:6379") && !failure.what.contains("secret"));
        let location = Location::find(Some(Path::new("redis.redb")), None);
        assert!(location.url().is_none(), "a path is no URL");
    }
}
