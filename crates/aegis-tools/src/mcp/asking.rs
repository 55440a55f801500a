//! To which call what a server says of its own accord belongs, and who is asked there.
//!
//! A server behind an address answers each call on a stream of its own, so that what it says is tied to that call. One
//! that is a program has one stream for all: what it says is tied to a call only while there is exactly one. What
//! cannot be tied is told to nobody: it might be about another caller's call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aegis_kernel::port::{Listener, LogEntry, LogLevel, Question, Unanswered};
use rmcp::model::RequestId;
use rmcp::service::InboundStreamOrigin;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A server that was told to give a call up may go on with it for this long, and ask.
const GIVEN_UP_LINGERS: Duration = Duration::from_secs(60);
/// A question can be faster than the news that its call was sent.
const SENT_TIMEOUT: Duration = Duration::from_secs(1);
/// While a caller is asked, the time of its call is looked at no more often than this.
const PAUSE_STEP: Duration = Duration::from_millis(100);

/// What is said belongs to no call, or to one of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be told which call this is about")]
pub(super) struct Untied;

/// The calls under way on one connection.
#[derive(Default)]
pub(super) struct Calls {
    under_way: Mutex<Vec<Arc<UnderWay>>>,
    given_up: Mutex<Option<Instant>>,
    sent: Notify,
}

/// A call under way.
#[derive(Default)]
pub(super) struct UnderWay {
    listener: Option<Arc<dyn Listener>>,
    request: Mutex<Option<RequestId>>,
    asking: Mutex<Asking>,
    over: CancellationToken,
}

/// How long a call's caller was asked so far.
#[derive(Default)]
struct Asking {
    questions: usize,
    since: Option<Instant>,
    total: Duration,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// A call begins.
    pub(super) fn enter(&self, listener: Option<Arc<dyn Listener>>) -> Entered<'_> {
        let call = Arc::new(UnderWay { listener, ..UnderWay::default() });
        locked(&self.under_way).push(Arc::clone(&call));
        Entered { calls: self, call, answered: false }
    }

    /// The call that a request belongs to, by the stream it came on.
    pub(super) async fn of(&self, origin: Option<&InboundStreamOrigin>) -> Result<Arc<UnderWay>, Untied> {
        let Some(InboundStreamOrigin::OutboundRequest(id)) = origin else { return self.sole() };
        let deadline = Instant::now() + SENT_TIMEOUT;
        loop {
            let sent = self.sent.notified();
            tokio::pin!(sent);
            sent.as_mut().enable();
            let calls = locked(&self.under_way).clone();
            if let Some(call) = calls.iter().find(|call| locked(&call.request).as_ref() == Some(id)) {
                return Ok(Arc::clone(call));
            }
            let unsent = calls.iter().any(|call| locked(&call.request).is_none());
            if !unsent || tokio::time::timeout_at(deadline, sent).await.is_err() {
                return Err(Untied);
            }
        }
    }

    /// The one call under way, if no other was given up lately.
    pub(super) fn sole(&self) -> Result<Arc<UnderWay>, Untied> {
        let lingers = locked(&self.given_up).is_some_and(|at| at.elapsed() < GIVEN_UP_LINGERS);
        match locked(&self.under_way).as_slice() {
            [call] if !lingers => Ok(Arc::clone(call)),
            _ => Err(Untied),
        }
    }
}

/// A call under way, until this is dropped.
pub(super) struct Entered<'a> {
    calls: &'a Calls,
    call: Arc<UnderWay>,
    answered: bool,
}

impl Entered<'_> {
    pub(super) fn call(&self) -> &Arc<UnderWay> {
        &self.call
    }
    /// The request it was sent as.
    pub(super) fn sent(&self, request: RequestId) {
        *locked(&self.call.request) = Some(request);
        self.calls.sent.notify_waiters();
    }
    /// The server is done with it.
    pub(super) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        // What it still asks is asked in vain.
        self.call.over.cancel();
        locked(&self.calls.under_way).retain(|call| !Arc::ptr_eq(call, &self.call));
        if !self.answered {
            *locked(&self.calls.given_up) = Some(Instant::now());
        }
    }
}

impl UnderWay {
    /// Who listens.
    pub(super) fn listener(&self) -> Option<&Arc<dyn Listener>> {
        self.listener.as_ref()
    }

    /// Asks whoever listens. The time of the call stands still meanwhile.
    pub(super) async fn ask(
        &self,
        listener: &Arc<dyn Listener>,
        question: Question,
    ) -> Result<Value, Unanswered> {
        let _standing = Standing::begin(self);
        tokio::select! {
            biased;
            () = self.over.cancelled() => Err(Unanswered::Refused("the call is over".to_owned())),
            answer = listener.asked(question) => answer,
        }
    }

    /// How long its caller was asked so far, and whether it still is.
    pub(super) fn asked_for(&self) -> (Duration, bool) {
        let asking = locked(&self.asking);
        let now = asking.since.map_or(Duration::ZERO, |since| since.elapsed());
        (asking.total + now, asking.since.is_some())
    }

    /// By how much a deadline is put off that was put off by `already` before; none if it holds.
    pub(super) fn put_off(&self, already: &mut Duration) -> Option<Duration> {
        let (asked, still) = self.asked_for();
        let more = asked.saturating_sub(*already);
        if more.is_zero() {
            return None;
        }
        *already = asked;
        Some(if still { more.max(PAUSE_STEP) } else { more })
    }

    /// Tells a line of the server's log.
    pub(super) fn log(&self, entry: LogEntry) {
        if let Some(listener) = &self.listener
            && listener.log_level().is_some_and(|least| entry.level >= least)
        {
            listener.logged(entry);
        }
    }

    /// The least level of the log that is wanted here.
    pub(super) fn log_level(&self) -> Option<LogLevel> {
        self.listener.as_ref()?.log_level()
    }
}

/// A call whose time stands still.
struct Standing<'a>(&'a UnderWay);

impl<'a> Standing<'a> {
    fn begin(call: &'a UnderWay) -> Self {
        let mut asking = locked(&call.asking);
        asking.questions += 1;
        asking.since.get_or_insert_with(Instant::now);
        drop(asking);
        Self(call)
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        let mut asking = locked(&self.0.asking);
        asking.questions = asking.questions.saturating_sub(1);
        if asking.questions == 0
            && let Some(since) = asking.since.take()
        {
            asking.total += since.elapsed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(id: i64) -> InboundStreamOrigin {
        InboundStreamOrigin::OutboundRequest(RequestId::Number(id))
    }

    #[tokio::test]
    async fn one_stream_for_all_ties_to_the_only_call() {
        let calls = Calls::default();
        assert!(calls.sole().is_err(), "none is under way");
        let mut first = calls.enter(None);
        assert!(Arc::ptr_eq(&calls.sole().unwrap(), first.call()));
        let mut second = calls.enter(None);
        assert!(calls.sole().is_err() && calls.of(None).await.is_err(), "it may be either's");
        second.answered();
        drop(second);
        assert!(calls.of(Some(&InboundStreamOrigin::Unassociated)).await.is_ok());
        first.answered();
        drop(first);
        assert!(calls.sole().is_err());
    }

    #[tokio::test]
    async fn a_call_given_up_may_still_ask_for_a_while() {
        let calls = Calls::default();
        drop(calls.enter(None));
        let _other = calls.enter(None);
        assert!(calls.sole().is_err());
        *locked(&calls.given_up) = Instant::now().checked_sub(GIVEN_UP_LINGERS);
        assert!(calls.sole().is_ok());
    }

    #[tokio::test]
    async fn a_stream_of_its_own_ties_to_its_call_among_many() {
        let calls = Calls::default();
        let (first, second) = (calls.enter(None), calls.enter(None));
        first.sent(RequestId::Number(1));
        let two = on(2);
        let (found, ()) = tokio::join!(calls.of(Some(&two)), async {
            tokio::task::yield_now().await;
            second.sent(RequestId::Number(2));
        });
        assert!(Arc::ptr_eq(&found.unwrap(), second.call()), "even if it is heard of first");
        assert!(Arc::ptr_eq(&calls.of(Some(&on(1))).await.unwrap(), first.call()));
        assert!(calls.of(Some(&on(3))).await.is_err());
    }

    #[tokio::test]
    async fn the_time_of_a_call_stands_still_while_its_caller_is_asked() {
        let call = UnderWay::default();
        let mut already = Duration::ZERO;
        assert_eq!(call.put_off(&mut already), None);
        let asked = Standing::begin(&call);
        tokio::time::sleep(PAUSE_STEP * 2).await;
        assert!(call.put_off(&mut already).unwrap() >= PAUSE_STEP * 2);
        assert_eq!(call.put_off(&mut already), Some(PAUSE_STEP), "never in smaller steps");
        drop(asked);
        call.put_off(&mut already);
        tokio::time::sleep(PAUSE_STEP).await;
        assert_eq!(call.put_off(&mut already), None, "the time runs on");
    }
}
