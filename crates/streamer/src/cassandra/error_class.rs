//! Classifies the driver's errors by the action that they need. The only place that does so.

use std::fmt;

use cdrs_tokio::Error;
use cdrs_tokio::frame::message_error::ErrorType;

/// The class of a failed statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Send the statement again later.
    Retry {
        /// The label of the metric.
        label: &'static str,
        /// The server is overloaded: send fewer statements at once.
        overload: bool,
    },
    /// The session can't be trusted: send the whole micro-batch again on a new session.
    Reconnect {
        /// The label of the metric.
        label: &'static str,
        /// The driver's message.
        error: String,
    },
    /// The server rejects these values, or the table has changed.
    Invalid(String),
    /// Only the operator can fix it.
    Fatal(String),
}

impl ErrorClass {
    /// Classifies an error of the driver.
    pub fn classify(error: &Error) -> Self {
        match error {
            Error::Server { body, .. } => classify_server_error(&body.ty, &body.message),
            Error::Io(_) => reconnect("io", error),
            Error::Timeout(_) => reconnect("driver_timeout", error),
            // These include an empty query plan, a closed channel and a failed re-preparation.
            _ => reconnect("driver", error),
        }
    }

    /// The label of the metric.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Retry { label, .. } | Self::Reconnect { label, .. } => label,
            Self::Invalid(_) => "invalid",
            Self::Fatal(_) => "fatal",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry { label, .. } => f.write_str(label),
            Self::Reconnect { error, .. } | Self::Invalid(error) | Self::Fatal(error) => f.write_str(error),
        }
    }
}

/// Whether a node that refuses a role has not been able to decide: it can't read roles and permissions now, and responds with
/// the code of a wrong password or a missing permission.
pub fn is_undecided(message: &str) -> bool {
    message.contains("Unable to perform")
}

fn classify_server_error(ty: &ErrorType, message: &str) -> ErrorClass {
    let retry = |label, overload| ErrorClass::Retry { label, overload };
    match ty {
        ErrorType::WriteTimeout(_) => retry("write_timeout", true),
        ErrorType::ReadTimeout(_) => retry("read_timeout", true),
        ErrorType::Overloaded => retry("overloaded", true),
        ErrorType::Unavailable(_) => retry("unavailable", false),
        ErrorType::WriteFailure(_) => retry("write_failure", false),
        ErrorType::ReadFailure(_) => retry("read_failure", false),
        ErrorType::IsBootstrapping => retry("bootstrapping", false),
        ErrorType::Server => retry("server", false),
        ErrorType::Truncate => retry("truncate", false),
        ErrorType::Unprepared(_) => ErrorClass::Reconnect {
            label: "unprepared",
            error: "the statement must be prepared again".to_owned(),
        },
        ErrorType::Protocol => ErrorClass::Reconnect {
            label: "protocol",
            error: message.to_owned(),
        },
        ErrorType::Invalid => ErrorClass::Invalid(message.to_owned()),
        ErrorType::Unauthorized | ErrorType::Authentication if is_undecided(message) => {
            retry("authorization", false)
        }
        ErrorType::Unauthorized | ErrorType::Authentication => ErrorClass::Fatal(message.to_owned()),
        ErrorType::Syntax | ErrorType::Config | ErrorType::AlreadyExists(_) => {
            ErrorClass::Fatal(message.to_owned())
        }
        ErrorType::FunctionFailure(_) => ErrorClass::Invalid(message.to_owned()),
        // A future protocol may add codes. Unknown ones are retried and counted.
        _ => retry("unlisted", false),
    }
}

fn reconnect(label: &'static str, error: &Error) -> ErrorClass {
    ErrorClass::Reconnect {
        label,
        error: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use cdrs_tokio::frame::message_error::ErrorBody;

    use super::*;

    fn server(ty: ErrorType) -> ErrorClass {
        let body = ErrorBody {
            message: "words".to_owned(),
            ty,
        };
        ErrorClass::classify(&Error::Server {
            body,
            addr: SocketAddr::from(([127, 0, 0, 1], 9042)),
        })
    }

    #[test]
    fn overload_is_retried_with_fewer_statements_in_flight() {
        assert_eq!(
            server(ErrorType::Overloaded),
            ErrorClass::Retry {
                label: "overloaded",
                overload: true
            }
        );
        assert_eq!(
            server(ErrorType::IsBootstrapping),
            ErrorClass::Retry {
                label: "bootstrapping",
                overload: false
            }
        );
        assert_eq!(
            server(ErrorType::Server),
            ErrorClass::Retry {
                label: "server",
                overload: false
            }
        );
    }

    #[test]
    fn rejected_row_is_invalid_and_rejected_role_is_fatal() {
        assert_eq!(
            server(ErrorType::Invalid),
            ErrorClass::Invalid("words".to_owned())
        );
        assert_eq!(
            server(ErrorType::Unauthorized),
            ErrorClass::Fatal("words".to_owned())
        );
    }

    #[test]
    fn node_that_can_not_read_permissions_is_retried() {
        for (ty, message) in [
            (
                ErrorType::Unauthorized,
                "Unable to perform authorization of permissions: Cannot achieve consistency",
            ),
            (
                ErrorType::Authentication,
                "Unable to perform authentication: Cannot achieve consistency level",
            ),
        ] {
            let expected = ErrorClass::Retry {
                label: "authorization",
                overload: false,
            };
            assert_eq!(classify_server_error(&ty, message), expected);
        }
    }

    #[test]
    fn driver_errors_need_a_new_session() {
        for error in [
            Error::General("No nodes available in query plan!".to_owned()),
            Error::Io(std::io::ErrorKind::ConnectionReset.into()),
            Error::Timeout("x".to_owned()),
        ] {
            assert!(matches!(
                ErrorClass::classify(&error),
                ErrorClass::Reconnect { .. }
            ));
        }
    }
}
