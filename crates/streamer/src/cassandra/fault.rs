//! What each error of the driver leads to. The one place where errors are sorted.

use cdrs_tokio::Error;
use cdrs_tokio::frame::message_error::ErrorType;

/// A failed statement, by what is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Send it again later.
    Retry {
        /// The metric's label.
        kind: &'static str,
        /// The server has too much to do: fewer in flight.
        overload: bool,
    },
    /// The connection is in doubt: send it again on a new session, with everything of its batch.
    Reconnect {
        /// The metric's label.
        kind: &'static str,
        /// The driver's words.
        error: String,
    },
    /// The server refuses these very values, or the table is not what it was.
    Invalid(String),
    /// Only the operator can mend it.
    Fatal(String),
}

impl Fault {
    /// Sorts an error of the driver.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Server { body, .. } => of_server(&body.ty, &body.message),
            Error::Io(_) => reconnect("io", error),
            Error::Timeout(_) => reconnect("driver_timeout", error),
            // Among these: no node in the query plan, a closed channel, a failed re-preparation.
            _ => reconnect("driver", error),
        }
    }

    /// The metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Retry { kind, .. } | Self::Reconnect { kind, .. } => kind,
            Self::Invalid(_) => "invalid",
            Self::Fatal(_) => "fatal",
        }
    }
}

fn of_server(kind: &ErrorType, message: &str) -> Fault {
    let retry = |kind, overload| Fault::Retry { kind, overload };
    match kind {
        ErrorType::WriteTimeout(_) => retry("write_timeout", true),
        ErrorType::ReadTimeout(_) => retry("read_timeout", true),
        ErrorType::Overloaded => retry("overloaded", true),
        ErrorType::Unavailable(_) => retry("unavailable", false),
        ErrorType::WriteFailure(_) => retry("write_failure", false),
        ErrorType::ReadFailure(_) => retry("read_failure", false),
        ErrorType::IsBootstrapping => retry("bootstrapping", false),
        ErrorType::Server => retry("server", false),
        ErrorType::Truncate => retry("truncate", false),
        ErrorType::Unprepared(_) => Fault::Reconnect {
            kind: "unprepared",
            error: "the statement had to be prepared again".to_owned(),
        },
        ErrorType::Protocol => Fault::Reconnect {
            kind: "protocol",
            error: message.to_owned(),
        },
        ErrorType::Invalid => Fault::Invalid(message.to_owned()),
        ErrorType::Unauthorized | ErrorType::Authentication => Fault::Fatal(message.to_owned()),
        ErrorType::Syntax | ErrorType::Config | ErrorType::AlreadyExists(_) => {
            Fault::Fatal(message.to_owned())
        }
        ErrorType::FunctionFailure(_) => Fault::Invalid(message.to_owned()),
        // The protocol may grow; what is not known is tried again, counted and visible.
        _ => retry("unlisted", false),
    }
}

fn reconnect(kind: &'static str, error: &Error) -> Fault {
    Fault::Reconnect {
        kind,
        error: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use cdrs_tokio::frame::message_error::ErrorBody;

    use super::*;

    fn server(ty: ErrorType) -> Fault {
        let body = ErrorBody {
            message: "words".to_owned(),
            ty,
        };
        Fault::of(&Error::Server {
            body,
            addr: SocketAddr::from(([127, 0, 0, 1], 9042)),
        })
    }

    #[test]
    fn overload_is_retried_with_fewer_in_flight() {
        assert_eq!(
            server(ErrorType::Overloaded),
            Fault::Retry {
                kind: "overloaded",
                overload: true
            }
        );
        assert_eq!(
            server(ErrorType::IsBootstrapping),
            Fault::Retry {
                kind: "bootstrapping",
                overload: false
            }
        );
        assert_eq!(
            server(ErrorType::Server),
            Fault::Retry {
                kind: "server",
                overload: false
            }
        );
    }

    #[test]
    fn a_refused_row_is_told_from_a_refused_role() {
        assert_eq!(server(ErrorType::Invalid), Fault::Invalid("words".to_owned()));
        assert_eq!(server(ErrorType::Unauthorized), Fault::Fatal("words".to_owned()));
    }

    #[test]
    fn what_the_driver_says_of_itself_costs_the_session() {
        for error in [
            Error::General("No nodes available in query plan!".to_owned()),
            Error::Io(std::io::ErrorKind::ConnectionReset.into()),
            Error::Timeout("x".to_owned()),
        ] {
            assert!(matches!(Fault::of(&error), Fault::Reconnect { .. }));
        }
    }
}
