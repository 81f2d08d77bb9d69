//! The sandbox's clock: waits are parked, and when everything is parked time jumps to the next of them.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use jiff::Timestamp;

use crate::clock::{Clock, Outside, after};
use crate::sim::store::{Speed, Store};

type Timers = BTreeMap<(Timestamp, u64), Waker>;

/// Time of one [`Store`].
#[derive(Debug)]
pub(super) struct SimClock {
    store: Arc<Store>,
    speed: Speed,
    /// The latest time this process has seen, in nanoseconds; another process may be ahead, never behind.
    seen: AtomicI64,
    timers: Mutex<Timers>,
    next: AtomicU64,
    drivers: AtomicUsize,
    outside: Arc<AtomicUsize>,
    /// Wakes the driver when the last outside call ends.
    waker: Arc<AtomicWaker>,
}

impl SimClock {
    pub(super) fn new(store: Arc<Store>, speed: Speed) -> Self {
        let now = store.now();
        Self {
            store,
            speed,
            seen: AtomicI64::new(nanos(now)),
            timers: Mutex::default(),
            next: AtomicU64::new(0),
            drivers: AtomicUsize::new(0),
            outside: Arc::default(),
            waker: Arc::default(),
        }
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the world to `to`, unless it is further already.
    fn jump(&self, to: Timestamp) {
        let now = self.store.advance(to);
        self.seen.fetch_max(nanos(now), Ordering::SeqCst);
    }

    /// Wakes every wait that is over.
    fn fire(&self) {
        let now = self.now();
        let due: Vec<Waker> = {
            let mut timers = self.timers();
            let later = timers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut *timers, later).into_values().collect()
        };
        due.into_iter().for_each(Waker::wake);
    }
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

/// One parked wait.
struct Sleep<'a> {
    clock: &'a SimClock,
    until: Timestamp,
    id: u64,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.until {
            return Poll::Ready(());
        }
        if self.clock.drivers.load(Ordering::SeqCst) == 0 {
            // Nobody drives: this wait is all there is.
            self.clock.jump(self.until);
            return Poll::Ready(());
        }
        self.clock.timers().insert((self.until, self.id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        self.clock.timers().remove(&(self.until, self.id));
    }
}

/// Notes that something in the driven work was woken, and wakes the driver.
#[derive(Default)]
struct Flag {
    woken: AtomicBool,
    outer: AtomicWaker,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.outer.wake();
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.seen.load(Ordering::SeqCst))).unwrap_or_default()
    }

    async fn sleep(&self, duration: Duration) {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        Sleep { clock: self, until: after(self.now(), duration), id }.await;
    }

    fn drive<'a>(&'a self, work: BoxFuture<'a, ()>) -> BoxFuture<'a, ()> {
        struct Driving<'a>(&'a SimClock);
        impl Drop for Driving<'_> {
            fn drop(&mut self) {
                self.0.drivers.fetch_sub(1, Ordering::SeqCst);
            }
        }
        // Tokio's primitives pretend to be pending once a task has used up its turn, and wake only after it has
        // yielded. Here that would look like "everything is parked", and time would jump.
        let mut work = Box::pin(tokio::task::unconstrained(work));
        Box::pin(async move {
            self.drivers.fetch_add(1, Ordering::SeqCst);
            let _driving = Driving(self);
            let flag = Arc::new(Flag::default());
            let waker = Waker::from(flag.clone());
            // The real wait until the next jump, when a person watches.
            let mut real: Option<(Timestamp, Pin<Box<tokio::time::Sleep>>)> = None;
            flag.woken.store(true, Ordering::SeqCst);
            poll_fn(|cx| {
                flag.outer.register(cx.waker());
                self.waker.register(cx.waker());
                loop {
                    if flag.woken.swap(false, Ordering::SeqCst) {
                        if work.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                            return Poll::Ready(());
                        }
                        continue;
                    }
                    if self.outside.load(Ordering::SeqCst) > 0 {
                        return Poll::Pending;
                    }
                    let Some(next) = self.timers().keys().next().map(|(at, _)| *at) else {
                        return Poll::Pending;
                    };
                    if let Speed::Times(times) = self.speed {
                        let left = Duration::try_from(next - self.now()).unwrap_or(Duration::ZERO);
                        if real.as_ref().is_none_or(|(at, _)| *at != next) {
                            #[allow(
                                clippy::disallowed_methods,
                                reason = "a person watches: this wait is real"
                            )]
                            let wait = tokio::time::sleep(left.div_f64(times.max(0.001)));
                            real = Some((next, Box::pin(wait)));
                        }
                        if let Some((_, wait)) = &mut real
                            && wait.as_mut().poll(cx).is_pending()
                        {
                            return Poll::Pending;
                        }
                        real = None;
                    }
                    self.jump(next);
                    self.fire();
                }
            })
            .await;
        })
    }

    fn outside(&self) -> Outside {
        self.outside.fetch_add(1, Ordering::SeqCst);
        let (count, waker) = (self.outside.clone(), self.waker.clone());
        Outside::new(move || {
            count.fetch_sub(1, Ordering::SeqCst);
            waker.wake();
        })
    }
}
