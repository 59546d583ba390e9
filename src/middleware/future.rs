//! The response, once the session is done with.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum_core::response::{IntoResponse, Response};
use pin_project_lite::pin_project;

use super::headers::ClosingRequest;
use crate::session::{Closed, Finished, Inner};

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
    /// Here is nothing but a pointer: axum moves this future into a box for each request.
    Finishing(Pin<Box<dyn Future<Output = Response> + Send>>),
}

impl<F> ResponseFuture<F> {
    #[inline]
    pub(super) fn aside(handler: F) -> Self {
        Self { handler, phase: Phase::Aside }
    }

    #[inline]
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
        if let Phase::Finishing(finishing) = this.phase {
            return finishing.as_mut().poll(context).map(Ok);
        }
        let mut response = ready!(this.handler.as_mut().poll(context))?.into_response();
        let Phase::Handling { session, request } = this.phase else {
            return Poll::Ready(Ok(response));
        };
        let closed = Closed {
            failed: response.status().is_server_error(),
            is_activity: request.is_activity,
        };
        let waiting = match Inner::finish_now(session, closed) {
            Finished::Closed(closing) => {
                request.dress(session.shared(), &mut response, closing);
                return Poll::Ready(Ok(response));
            }
            Finished::Asked(asked) => Some(asked),
            Finished::NotNow => None,
        };
        let (session, request) = (Arc::clone(session), request.clone());
        let mut finishing = Box::pin(async move {
            let closing = match waiting {
                Some(asked) => Arc::clone(&session).finish_asked(asked, closed).await,
                None => Box::pin(Arc::clone(&session).finish(closed)).await,
            };
            request.dress(session.shared(), &mut response, closing);
            response
        });
        let polled = finishing.as_mut().poll(context).map(Ok);
        *this.phase = Phase::Finishing(finishing);
        polled
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
