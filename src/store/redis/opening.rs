//! The first talk with a server: what it is, whether it keeps what it is told, and whose it is.

use std::collections::HashMap;

use ::redis::Value;
use tokio::time::Instant;

use super::failure;
use super::lane::{Target, Wire};
use super::layout::{self, Keys};
use super::link::{Kind, Link};
use super::view::{array, bytes};
use crate::error::{Error, Kind as ErrorKind, Result};

/// The schema this version writes, and the only one it reads. Records had another form in the one
/// before, which was never released.
const SCHEMA: u32 = 2;
/// The oldest server whose scripts may say that they free memory.
const OLDEST: u32 = 7;

/// What to do where there is no store yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Refuse,
    /// And refuse if there is one.
    MustCreate,
}

/// Connects, and finds or makes the store called `prefix`.
pub(super) async fn open(link: &Link, prefix: &str, missing: Missing) -> Result<Keys> {
    link.connect().await?;
    let until = link.until();
    let server = Server::of(link, until).await?;
    server.warn(&link.address());
    if server.is("redis_mode", "cluster") {
        link.use_cluster();
        link.connect().await?;
    }
    find(link, prefix, missing, until).await
}

/// What a server tells of itself.
pub(super) struct Server(HashMap<String, String>);

impl Server {
    pub(super) async fn of(link: &Link, until: Instant) -> Result<Self> {
        Self::read(link.ask(&::redis::cmd("INFO"), Kind::Read, until).await?.value)
    }

    /// Asks over a connection that was made just now.
    pub(super) async fn ask(wire: Wire, target: &Target) -> Result<Self> {
        let info = ::redis::cmd("INFO");
        let answer = tokio::time::timeout(target.wait, wire.send(&info)).await.map_err(|_| {
            Error::unavailable(format!("{} did not answer in {:?}", target.address(), target.wait))
        })?;
        Self::read(answer.map_err(|error| failure::connecting(&error, &target.address()))?)
    }

    fn read(answer: Value) -> Result<Self> {
        let text = match answer {
            Value::VerbatimString { text, .. } => text,
            value => String::from_utf8(bytes(Some(value))?.unwrap_or_default()).unwrap_or_default(),
        };
        let fields = text.lines().filter_map(|line| line.split_once(':'));
        Ok(Self(fields.map(|(name, value)| (name.into(), value.trim().into())).collect()))
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.0.get(name).is_some_and(|found| found == value)
    }

    /// Whether it only copies another server.
    pub(super) fn is_replica(&self) -> bool {
        self.is("role", "slave")
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.is_replica() && !self.is("redis_mode", "cluster") {
            return Err(failure::read_only());
        }
        // Valkey tells the version of Redis that it is compatible with here, too.
        let version = self.0.get("redis_version").map_or("", |version| version);
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < OLDEST) {
            let message = format!("the server is Redis {version}; {OLDEST}.0 or newer is needed");
            return Err(Error::new(ErrorKind::Version, message));
        }
        Ok(())
    }

    /// What may cost sessions one day.
    fn warn(&self, address: &str) {
        let policy = self.0.get("maxmemory_policy").map_or("", |policy| policy);
        if !matches!(policy, "" | "noeviction") {
            tracing::warn!(
                address,
                policy,
                "the server drops sessions when its memory is full: set `maxmemory-policy \
                 noeviction`"
            );
        }
        if self.is("aof_enabled", "0") {
            tracing::warn!(
                address,
                "the server does not log what it is told (`appendonly no`): a restart loses what \
                 came after its last snapshot, logouts too"
            );
        }
    }
}

async fn find(link: &Link, prefix: &str, missing: Missing, until: Instant) -> Result<Keys> {
    let meta = Keys::new(prefix, 1).meta();
    let found = read_meta(link, &meta, until).await?;
    match (missing, found.is_empty()) {
        (Missing::Refuse, true) => {
            let message = format!("{} has no sessions under the prefix {prefix}", link.address());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        (Missing::MustCreate, false) => {
            let message = format!("{} has sessions under the prefix {prefix}", link.address());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        _ => {}
    }
    let partitions = if link.is_cluster() { layout::CLUSTER_PARTITIONS } else { 1 };
    let first = [("schema", SCHEMA), ("min_reader", SCHEMA), ("partitions", partitions.into())];
    for (field, value) in first.into_iter().filter(|_| found.is_empty()) {
        // Of two that make it at a time, each field is made by one.
        let mut command = ::redis::cmd("HSETNX");
        command.arg(&meta).arg(field).arg(value);
        link.ask(&command, Kind::Write, until).await?;
    }
    let found = read_meta(link, &meta, until).await?;
    let field = |name| found.get(name).copied().unwrap_or_default();
    let min_reader = field("min_reader");
    if min_reader > SCHEMA {
        return Err(Error::new(
            ErrorKind::Version,
            format!(
                "the store needs a version that knows schema {min_reader} or newer; this one \
                 knows schema {SCHEMA}"
            ),
        ));
    }
    // A prefix that holds something else has no schema, and is told from one below.
    let schema = field("schema");
    if (1..SCHEMA).contains(&schema) {
        return Err(Error::new(
            ErrorKind::Version,
            format!(
                "the store has schema {schema}, and this version reads schema {SCHEMA}: \
                 `fastsession export` with the version that wrote it, then `fastsession import` \
                 with this one, under another prefix"
            ),
        ));
    }
    let partitions = u16::try_from(field("partitions")).unwrap_or(0);
    if !(1..=256).contains(&partitions) {
        let message = format!("what is kept at {meta} is no store of this crate");
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(Keys::new(prefix, partitions))
}

async fn read_meta(link: &Link, meta: &str, until: Instant) -> Result<HashMap<String, u32>> {
    let mut command = ::redis::cmd("HGETALL");
    command.arg(meta);
    let value = link.ask(&command, Kind::Read, until).await?.value;
    let items = match value {
        Value::Map(items) => items.into_iter().flat_map(|(key, value)| [key, value]).collect(),
        value => array(value)?,
    };
    let mut items = items.into_iter();
    let mut fields = HashMap::new();
    while let (Some(name), Some(value)) = (bytes(items.next())?, bytes(items.next())?) {
        let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
        fields.insert(text(name), text(value).parse().unwrap_or_default());
    }
    Ok(fields)
}
