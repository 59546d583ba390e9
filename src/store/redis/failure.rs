//! What the server's and the client's errors mean to a caller.

use ::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{Error, Kind};

/// Why there is no answer.
pub(super) enum Failed {
    /// The server does not know the script by its hash (any more).
    UnknownScript,
    /// The connection broke.
    Lost {
        /// Nothing was sent.
        not_sent: bool,
    },
    /// The server is not the one to talk to any more. Nothing was changed.
    WrongServer(Error),
    /// The server said no. Nothing was changed.
    Refused(Error),
}

impl Failed {
    pub(super) fn new(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::NoScript) => Self::UnknownScript,
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::WrongServer(read_only()),
            ErrorKind::Io | ErrorKind::Parse => {
                Self::Lost { not_sent: error.is_connection_refusal() }
            }
            ErrorKind::ClusterConnectionNotFound => {
                Self::Refused(Error::unavailable("no node of the cluster can be reached"))
            }
            _ => Self::Refused(refused(error)),
        }
    }
}

/// What to say of a server that only copies another.
pub(super) fn read_only() -> Error {
    Error::unavailable("the server is a read-only replica: name the primary")
}

fn refused(error: &RedisError) -> Error {
    let detail = error.detail().unwrap_or_default();
    match error.code().unwrap_or_default() {
        "OOM" => Error::new(Kind::Full, "the server has reached its `maxmemory`"),
        "NOAUTH" => Error::new(
            Kind::Forbidden,
            "the server wants user and password: redis://user:password@…",
        ),
        "WRONGPASS" => Error::new(Kind::Forbidden, "the server refuses user and password"),
        "NOPERM" => Error::new(Kind::Forbidden, format!("the server's ACL forbids it: {detail}")),
        "WRONGTYPE" => {
            Error::new(Kind::Invalid, "a key of the store holds something else: another prefix?")
        }
        "MOVED" | "ASK" => Error::unavailable("the server has become part of a cluster"),
        // Generic errors may repeat the arguments.
        "ERR" | "" => Error::unavailable("the server answered with an error"),
        code => Error::unavailable(format!("the server answered {code} {detail}")),
    }
}

/// Why there is no connection. `address` is without user and password.
pub(super) fn connecting(error: &RedisError, address: &str) -> Error {
    match error.kind() {
        ErrorKind::AuthenticationFailed => {
            let message = format!("{address} refuses user and password");
            Error::new(Kind::Forbidden, message)
        }
        // The server's own word, known to the client or not.
        ErrorKind::Server(_) | ErrorKind::Extension => refused(error),
        ErrorKind::InvalidClientConfig => {
            Error::new(Kind::Invalid, format!("{address} cannot be used: {error}"))
        }
        _ => Error::unavailable(format!("{address} cannot be reached: {error}")),
    }
}
