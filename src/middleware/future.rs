//! The response, once the session is done with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum_core::response::{IntoResponse, Response};
use pin_project_lite::pin_project;

use super::headers::ClosingRequest;
use crate::session::{Closed, Closing, Finished, Inner};

pin_project! {
    /// The response future of [`SessionService`](super::SessionService).
    ///
    /// Finishing is boxed only if there is something to wait for.
    pub struct ResponseFuture<F> {
        #[pin]
        handler: F,
        phase: Phase,
    }
}

enum Phase {
    /// The layer stands aside.
    Aside,
    Handling {
        session: Arc<Inner>,
        request: ClosingRequest,
    },
    Finishing {
        finish: Finish,
        /// Taken when it is complete.
        response: Option<Response>,
        session: Arc<Inner>,
        request: ClosingRequest,
    },
}

type Finish = Pin<Box<dyn Future<Output = Closing> + Send>>;

impl<F> ResponseFuture<F> {
    pub(super) fn aside(handler: F) -> Self {
        Self { handler, phase: Phase::Aside }
    }

    pub(super) fn new(handler: F, session: Arc<Inner>, request: ClosingRequest) -> Self {
        Self { handler, phase: Phase::Handling { session, request } }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    T: IntoResponse,
{
    type Output = Result<Response, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.phase {
                Phase::Aside => {
                    return this.handler.poll(context).map_ok(IntoResponse::into_response);
                }
                Phase::Handling { session, request } => {
                    let response = ready!(this.handler.as_mut().poll(context))?.into_response();
                    let closed = Closed {
                        failed: response.status().is_server_error(),
                        is_activity: request.is_activity,
                    };
                    let finish: Finish = match Inner::finish_now(session, closed) {
                        Finished::Closed(closing) => {
                            return Poll::Ready(Ok(request.dress(
                                session.shared(),
                                response,
                                closing,
                            )));
                        }
                        Finished::Asked(asked) => {
                            Box::pin(Arc::clone(session).finish_asked(asked, closed))
                        }
                        Finished::NotNow => Box::pin(Arc::clone(session).finish(closed)),
                    };
                    let (session, request) = (Arc::clone(session), request.clone());
                    *this.phase =
                        Phase::Finishing { finish, response: Some(response), session, request };
                }
                Phase::Finishing { finish, response, session, request } => {
                    let closing = ready!(finish.as_mut().poll(context));
                    let response = response.take().unwrap_or_default();
                    return Poll::Ready(Ok(request.dress(session.shared(), response, closing)));
                }
            }
        }
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
