//! `Idempotency-Key`: a POST that starts something and is sent again answers what it answered the first time.
//!
//! A key is reserved in the journal before the work and its answer is stored after it, so neither a crash between the
//! two nor a second request at the same moment can start anything twice.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, Weak};

use aegis_api::Problem;
use aegis_core::{Diagnosis, ErrorCode, Sha256, Tenant};
use aegis_kernel::Caller;
use aegis_kernel::port::JournalError;
use http::HeaderMap;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::answer::Refused;
use crate::app::App;

/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 255;
/// How often one key may be tried anew after answers that say "later".
const ATTEMPTS_MAX: u32 = 16;
/// Keys whose requests are under way at once; requests with further ones are refused.
const KEYS_UNDER_WAY_MAX: usize = 4_096;
/// Requests of one key that are under way or wait for each other; further ones are refused.
const REQUESTS_BY_KEY_MAX: usize = 8;

/// Lets requests of one key go one after another.
///
/// Each key has a turn of its own: nobody waits for another's key, least of all another tenant's.
#[derive(Default)]
pub(crate) struct Turns(std::sync::Mutex<ByKey>);

/// A key of a tenant, and its turn while anybody holds it or waits.
type ByKey = HashMap<(Tenant, String), Weak<Mutex<()>>>;

impl Turns {
    fn of(&self, tenant: &Tenant, key: &str) -> Result<Arc<Mutex<()>>, Diagnosis> {
        let crowded = |what: &str| {
            Diagnosis::new(ErrorCode::Overloaded, what).hint("wait for what is under way, then send it again")
        };
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let name = (tenant.clone(), key.to_owned());
        if let Some(turn) = turns.get(&name).and_then(Weak::upgrade) {
            if Arc::strong_count(&turn) > REQUESTS_BY_KEY_MAX {
                return Err(crowded("too many requests of this `Idempotency-Key` wait for each other"));
            }
            return Ok(turn);
        }
        if turns.len() >= KEYS_UNDER_WAY_MAX {
            return Err(crowded("too many requests with an `Idempotency-Key` are under way"));
        }
        let turn = Arc::default();
        turns.insert(name, Arc::downgrade(&turn));
        Ok(turn)
    }
}

/// An answer as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    status: u16,
    body: Value,
}

/// Does `work` once for the key in `headers`, and gives what it gave then; without a key, does it. What refuses with a
/// status that says "later", or fails, has begun nothing: it is tried anew.
pub(crate) async fn once<T, F>(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    request: Sha256,
    work: F,
) -> Result<T, Refused>
where
    T: Serialize + DeserializeOwned,
    F: Future<Output = Result<T, Refused>>,
{
    let Some(key) = headers.get(aegis_api::header::IDEMPOTENCY_KEY) else { return work.await };
    let key =
        key.to_str().ok().filter(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX).ok_or_else(|| {
            Diagnosis::new(ErrorCode::InvalidInput, "`Idempotency-Key` is not 1 to 255 characters")
        })?;
    let turn = app.turns.of(&caller.tenant, key)?;
    let _turn = turn.lock().await;
    let attempt = match first_free(app, caller, key, request).await? {
        Slot::Answered(answer) => return replay(answer),
        Slot::Free(attempt) => attempt,
    };
    let done = work.await;
    let remembered = match &done {
        Ok(value) => Remembered { status: 201, body: to_value(value)? },
        Err(Refused(problem)) => Remembered { status: problem.status, body: to_value(problem)? },
    };
    store(
        app,
        caller,
        &answer_name(key, attempt),
        request,
        &serde_json::to_string(&remembered).unwrap_or_default(),
    )
    .await?;
    done
}

enum Slot {
    Free(u32),
    Answered(Remembered),
}

async fn first_free(app: &App, caller: &Caller, key: &str, request: Sha256) -> Result<Slot, Refused> {
    for attempt in 0..ATTEMPTS_MAX {
        let Some((former, _)) = store(app, caller, &reserve_name(key, attempt), request, "reserved").await?
        else {
            return Ok(Slot::Free(attempt));
        };
        if former != request {
            return Err(Diagnosis::new(ErrorCode::Conflict, format!("`{key}` was used for another request"))
                .hint("choose a new `Idempotency-Key` for each thing to start")
                .into());
        }
        let answer = store(app, caller, &answer_name(key, attempt), request, "").await?;
        match answer.and_then(|(_, text)| serde_json::from_str::<Remembered>(&text).ok()) {
            Some(answer) if matches!(answer.status, 429 | 500..) => {}
            Some(answer) => return Ok(Slot::Answered(answer)),
            None => {
                return Err(Diagnosis::new(
                    ErrorCode::Conflict,
                    format!("what came of the first request with the key `{key}` is not known: the daemon stopped during it"),
                )
                .hint("look with `aegis task list` whether it was started, then use a new key")
                .into());
            }
        }
    }
    Err(Diagnosis::new(ErrorCode::Overloaded, format!("`{key}` was tried too often"))
        .hint("use a new key")
        .into())
}

fn reserve_name(key: &str, attempt: u32) -> String {
    format!("reserve/{attempt}/{key}")
}

fn answer_name(key: &str, attempt: u32) -> String {
    format!("answer/{attempt}/{key}")
}

async fn store(
    app: &App,
    caller: &Caller,
    name: &str,
    request: Sha256,
    answer: &str,
) -> Result<Option<(Sha256, String)>, JournalError> {
    app.journal().idempotent(&caller.tenant, name, request, answer, app.clock.now()).await
}

fn to_value(value: &impl Serialize) -> Result<Value, Refused> {
    serde_json::to_value(value).map_err(|error| Diagnosis::internal(error.to_string()).into())
}

fn replay<T: DeserializeOwned>(answer: Remembered) -> Result<T, Refused> {
    let unread = |error| Diagnosis::internal(format!("a remembered answer does not decode: {error}"));
    if answer.status < 300 {
        return Ok(serde_json::from_value(answer.body).map_err(unread)?);
    }
    Err(Refused(Box::new(serde_json::from_value::<Problem>(answer.body).map_err(unread)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_of_each_tenant_has_a_turn_of_its_own_and_only_so_many_wait() {
        let turns = Turns::default();
        let (one, other) = (Tenant::default_tenant(), "other".parse::<Tenant>().unwrap());
        let held: Vec<_> = (0..REQUESTS_BY_KEY_MAX).map(|_| turns.of(&one, "a").unwrap()).collect();
        assert!(held.iter().all(|turn| Arc::ptr_eq(turn, &held[0])));
        assert_eq!(turns.of(&one, "a").unwrap_err().code, ErrorCode::Overloaded);
        for another in [turns.of(&other, "a").unwrap(), turns.of(&one, "b").unwrap()] {
            assert!(!Arc::ptr_eq(&another, &held[0]));
        }
        drop(held);
        assert!(turns.of(&one, "a").is_ok());
        assert_eq!(turns.0.lock().unwrap().len(), 1, "what nobody waits for is forgotten");
    }
}
