//! Errors as responses.

use axum_core::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use crate::error::{Error, Kind};

/// 503 with `Retry-After` if the store failed, 409 if the session changed or ended under the
/// request, 413 if something is too large, 404 if it does not exist, else 500.
///
/// The body says no more than that. The error itself goes into the response's extensions, where
/// the layer's [`on_error`](crate::SessionLayer::on_error) finds it.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, text) = describe(&self);
        let mut response = (status, text).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status.is_server_error() {
            tracing::error!(error = %self, "session error");
        }
        response.extensions_mut().insert(self);
        response
    }
}

fn describe(error: &Error) -> (StatusCode, &'static str) {
    match error.kind() {
        _ if error.is_store_failure() => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The service is temporarily unavailable. Please try again.\n",
        ),
        Kind::Conflict | Kind::Gone | Kind::Superseded => (
            StatusCode::CONFLICT,
            "Your session changed while the request was running. Please try again.\n",
        ),
        Kind::TooManySessions => (StatusCode::CONFLICT, "You are signed in on too many devices.\n"),
        Kind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "That is more than can be kept.\n"),
        Kind::NotFound => (StatusCode::NOT_FOUND, "There is no such session.\n"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong.\n"),
    }
}
