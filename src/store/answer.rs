//! An answer that may already be there.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::{Error, Kind, Result};

/// What a store's method returns: a future that costs no allocation if the answer is in memory.
///
/// ```
/// use fastsession::store::Answer;
/// # async fn demo() -> fastsession::Result<()> {
/// assert_eq!(Answer::ready(Ok(1)).await?, 1);
/// assert_eq!(Answer::pending(async { Ok(2) }).await?, 2);
/// # Ok(()) }
/// ```
#[must_use = "a future does nothing unless awaited"]
pub struct Answer<T>(Inner<T>);

enum Inner<T> {
    Ready(Option<Result<T>>),
    Pending(Pin<Box<dyn Future<Output = Result<T>> + Send>>),
}

impl<T> Answer<T> {
    /// An answer that is there.
    pub fn ready(answer: Result<T>) -> Self {
        Self(Inner::Ready(Some(answer)))
    }

    /// An answer to wait for.
    pub fn pending(answer: impl Future<Output = Result<T>> + Send + 'static) -> Self {
        Self(Inner::Pending(Box::pin(answer)))
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.0, Inner::Ready(_))
    }

    /// The answer if it is there, the future again if it is not.
    pub fn now(self) -> std::result::Result<Result<T>, Self> {
        match self.0 {
            Inner::Ready(Some(answer)) => Ok(answer),
            inner => Err(Self(inner)),
        }
    }
}

// The value is moved out, never pinned.
impl<T> Unpin for Answer<T> {}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        match &mut self.0 {
            Inner::Ready(answer) => Poll::Ready(answer.take().unwrap_or_else(|| {
                Err(Error::new(Kind::Unavailable, "an answer was asked for again"))
            })),
            Inner::Pending(future) => future.as_mut().poll(context),
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Answer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Ready(answer) => f.debug_tuple("Ready").field(answer).finish(),
            Inner::Pending(_) => f.write_str("Pending(..)"),
        }
    }
}
