//! Time comes in through a [`Clock`], so that the sandbox can jump over waits and one seed replays a run.

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::{BoxFuture, Either, select};
use jiff::Timestamp;

use crate::error::{Error, Result};

/// Where time comes from, and what waits sleep on.
///
/// Guarantees: `sleep` ends no earlier than asked; `now` never goes backwards within one process.
#[async_trait]
pub trait Clock: Send + Sync + Debug + 'static {
    /// The present.
    fn now(&self) -> Timestamp;

    /// Waits for `duration`.
    async fn sleep(&self, duration: Duration);

    /// Runs `work`, whose waits all sleep on this clock. A simulated clock jumps to the next timer when
    /// everything in `work` is parked; the system's clock just runs it.
    fn drive<'a>(&'a self, work: BoxFuture<'a, ()>) -> BoxFuture<'a, ()> {
        work
    }

    /// While the returned guard lives, something outside the simulated world is awaited (a person, a
    /// webhook): simulated time does not jump.
    fn outside(&self) -> Outside {
        Outside(None)
    }
}

/// Keeps simulated time from jumping; see [`Clock::outside`].
#[derive(Default)]
pub struct Outside(Option<Box<dyn FnOnce() + Send>>);

impl Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outside")
    }
}

impl Outside {
    /// A guard that calls `end` when it goes.
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place where time is read")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place where real time passes")]
    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Runs `work` for at most `limit` on `clock`.
///
/// # Errors
/// `Unavailable` when the time is over. The caller decides whether a mutating call is then in doubt.
pub async fn timeout<T>(
    clock: &dyn Clock,
    limit: Duration,
    work: impl Future<Output = T> + Send,
) -> Result<T> {
    let work = std::pin::pin!(work);
    match select(work, clock.sleep(limit)).await {
        Either::Left((value, _)) => Ok(value),
        Either::Right(((), _)) => {
            Err(Error::unavailable(format!("no answer within {}", crate::duration::Span(limit))))
        }
    }
}

/// `to - from` in seconds.
pub fn seconds_between(from: Timestamp, to: Timestamp) -> f64 {
    (to - from).as_secs_f64()
}

/// `at + duration`, staying within what a timestamp can hold.
pub fn after(at: Timestamp, duration: Duration) -> Timestamp {
    at.saturating_add(jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX))
        .unwrap_or(Timestamp::MAX)
}
