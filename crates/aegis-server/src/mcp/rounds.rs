//! What a caller of revision 2026-07-28 carries between a server's questions and its next call: sealed, so that it comes
//! back as it was given, from the same caller, for the same call.

use std::collections::BTreeMap;

use aegis_core::Timestamp;
use aegis_kernel::Caller;
use aegis_kernel::port::{Given, Ids, QuestionKind};
use aegis_security::canonical;
use aegis_security::commitment::{SALT_BYTES, commit};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// How long a caller may take to call again, in seconds.
const STATE_SECONDS: i64 = 3600;
/// Most rounds of one call.
const ROUNDS_MAX: u32 = 16;
/// Most bytes of what is carried.
const STATE_BYTES_MAX: usize = 64 << 10;

/// Why what came back is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum StateError {
    #[error("`requestState` is not what was given for this call")]
    Other,
    #[error("`requestState` is too old; call again without it")]
    Old,
    #[error("the call asks for input again and again")]
    Rounds,
    #[error("`requestState` is too large")]
    Large,
    #[error("`inputResponses` must be an object of objects")]
    Shape,
}

/// Seals what callers carry. The key is this process's: what a former daemon gave is not taken.
pub(super) struct Rounds(Zeroizing<[u8; SALT_BYTES]>);

/// The call that something is carried for.
pub(super) struct Subject<'a> {
    pub(super) caller: &'a Caller,
    pub(super) agent: &'a str,
    pub(super) tool: &'a str,
    pub(super) arguments: &'a Map<String, Value>,
}

/// What is carried.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Carried {
    /// Until when, in seconds since 1970.
    until: i64,
    /// How many rounds there were.
    round: u32,
    /// What was asked, by the server's names.
    asked: BTreeMap<String, QuestionKind>,
    /// What the server wants back.
    state: Option<String>,
}

impl Rounds {
    pub(super) fn new(ids: &dyn Ids) -> Self {
        let mut key = Zeroizing::new([0u8; SALT_BYTES]);
        ids.fill(key.as_mut());
        Self(key)
    }

    /// What a caller gives with its call, if it answers anything.
    ///
    /// # Errors
    /// If its state is not what it was given, or its answers are none.
    pub(super) fn given(
        &self,
        subject: &Subject<'_>,
        state: Option<&str>,
        answers: Option<&BTreeMap<String, Value>>,
        now: Timestamp,
    ) -> Result<Option<(Given, u32)>, StateError> {
        if state.is_none() && answers.is_none() {
            return Ok(None);
        }
        let carried = state.map(|state| self.open(subject, state, now)).transpose()?;
        let mut given = Vec::new();
        for (key, answer) in answers.into_iter().flatten() {
            if !answer.is_object() {
                return Err(StateError::Shape);
            }
            let kind = match &carried {
                // What nobody asked is left out.
                Some(carried) => match carried.asked.get(key) {
                    Some(kind) => Some(*kind),
                    None => continue,
                },
                None => None,
            };
            given.push((key.clone(), kind, answer.clone()));
        }
        let (round, state) = carried.map_or((0, None), |carried| (carried.round, carried.state));
        Ok(Some((Given { answers: given, state }, round)))
    }

    /// A server's questions, with what the caller is to carry.
    ///
    /// # Errors
    /// If there were too many rounds, or there is too much to carry.
    pub(super) fn seal(
        &self,
        subject: &Subject<'_>,
        mut questions: Value,
        round: u32,
        now: Timestamp,
    ) -> Result<Value, StateError> {
        if round >= ROUNDS_MAX {
            return Err(StateError::Rounds);
        }
        let kind = |request: &Value| {
            let method = request.get("method").and_then(Value::as_str);
            QuestionKind::ALL.into_iter().find(|kind| Some(kind.method()) == method)
        };
        let requests = questions.get("inputRequests").and_then(Value::as_object);
        let asked = requests.into_iter().flatten();
        let carried = Carried {
            until: seconds(now) + STATE_SECONDS,
            round: round + 1,
            asked: asked.filter_map(|(key, request)| Some((key.clone(), kind(request)?))).collect(),
            state: questions.get("requestState").and_then(Value::as_str).map(str::to_owned),
        };
        let body = serde_json::to_vec(&carried).map_err(|_| StateError::Other)?;
        let body = URL_SAFE_NO_PAD.encode(body);
        if body.len() > STATE_BYTES_MAX {
            return Err(StateError::Large);
        }
        let sealed = format!("{body}.{}", self.tag(subject, &body)?);
        if let Some(questions) = questions.as_object_mut() {
            questions.insert("requestState".to_owned(), sealed.into());
        }
        Ok(questions)
    }

    fn open(&self, subject: &Subject<'_>, state: &str, now: Timestamp) -> Result<Carried, StateError> {
        if state.len() > STATE_BYTES_MAX + 128 {
            return Err(StateError::Large);
        }
        let (body, tag) = state.split_once('.').ok_or(StateError::Other)?;
        if !self.is_same(&self.tag(subject, body)?, tag) {
            return Err(StateError::Other);
        }
        let body = URL_SAFE_NO_PAD.decode(body).map_err(|_| StateError::Other)?;
        let carried: Carried = serde_json::from_slice(&body).map_err(|_| StateError::Other)?;
        if carried.until < seconds(now) { Err(StateError::Old) } else { Ok(carried) }
    }

    fn tag(&self, subject: &Subject<'_>, body: &str) -> Result<String, StateError> {
        let Subject { caller, agent, tool, arguments } = subject;
        let bound = json!({
            "for": "aegis/mcp/rounds/v1", "body": body, "tenant": caller.tenant, "actor": caller.actor,
            "agent": agent, "tool": tool, "arguments": arguments,
        });
        let bound = canonical::to_bytes(&bound).map_err(|_| StateError::Other)?;
        Ok(commit(&self.0, &bound).to_string())
    }

    /// Compares by tags of the tags, so that the time it takes says nothing of the right one.
    fn is_same(&self, one: &str, other: &str) -> bool {
        commit(&self.0, one.as_bytes()) == commit(&self.0, other.as_bytes())
    }
}

fn seconds(at: Timestamp) -> i64 {
    at.micros() / 1_000_000
}

#[cfg(test)]
mod tests {
    use aegis_core::{Actor, Tenant};
    use aegis_testkit::SeededIds;

    use super::*;

    fn caller(name: &str) -> Caller {
        Caller { tenant: Tenant::default_tenant(), actor: Actor::person(name) }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn arguments(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_is_carried_is_taken_from_the_same_caller_for_the_same_call_alone() {
        let rounds = Rounds::new(&SeededIds::new(1));
        let (ann, bob) = (caller("ann"), caller("bob"));
        let (one, two) = (arguments(&json!({"a": 1})), arguments(&json!({"a": 2})));
        let subject = Subject { caller: &ann, agent: "x", tool: "t", arguments: &one };
        let asked = json!({"resultType": "input_required", "requestState": "theirs",
            "inputRequests": {"name": {"method": "elicitation/create", "params": {}}}});
        let sealed = rounds.seal(&subject, asked.clone(), 0, at(10)).unwrap();
        let state = sealed["requestState"].as_str().unwrap();
        let answers: BTreeMap<String, Value> =
            [("name".to_owned(), json!({"action": "accept"})), ("other".to_owned(), json!({}))].into();

        let (given, round) = rounds.given(&subject, Some(state), Some(&answers), at(20)).unwrap().unwrap();
        assert_eq!(given.state.as_deref(), Some("theirs"));
        let kind = Some(QuestionKind::Elicitation);
        assert_eq!(given.answers, [("name".to_owned(), kind, json!({"action": "accept"}))]);
        assert_eq!(round, 1);

        let others = [
            Subject { caller: &bob, ..subject },
            Subject { agent: "y", ..subject },
            Subject { tool: "u", ..subject },
            Subject { arguments: &two, ..subject },
        ];
        for other in others {
            let taken = rounds.given(&other, Some(state), Some(&answers), at(20));
            assert_eq!(taken.unwrap_err(), StateError::Other);
        }
        for changed in
            [format!("{state}-TAMPERED"), format!("e30{state}"), state.replace('.', ""), String::new()]
        {
            let taken = rounds.given(&subject, Some(&changed), Some(&answers), at(20));
            assert_eq!(taken.unwrap_err(), StateError::Other, "{changed}");
        }
        let late = rounds.given(&subject, Some(state), Some(&answers), at(11 + STATE_SECONDS));
        assert_eq!(late.unwrap_err(), StateError::Old);
        let another = Rounds::new(&SeededIds::new(2));
        let taken = another.given(&subject, Some(state), None, at(20));
        assert_eq!(taken.unwrap_err(), StateError::Other, "another daemon's");
        assert_eq!(rounds.seal(&subject, asked, ROUNDS_MAX, at(10)).unwrap_err(), StateError::Rounds);
    }

    #[test]
    fn a_server_that_wants_nothing_back_is_given_nothing_back() {
        let rounds = Rounds::new(&SeededIds::new(1));
        let (ann, none) = (caller("ann"), Map::new());
        let subject = Subject { caller: &ann, agent: "x", tool: "t", arguments: &none };
        assert_eq!(rounds.given(&subject, None, None, at(1)), Ok(None));
        let sealed = rounds.seal(&subject, json!({"inputRequests": {}}), 0, at(1)).unwrap();
        let state = sealed["requestState"].as_str();
        let (given, _) = rounds.given(&subject, state, None, at(1)).unwrap().unwrap();
        assert_eq!(given, Given::default());
        let wrong: BTreeMap<String, Value> = [("name".to_owned(), json!(12345))].into();
        assert_eq!(rounds.given(&subject, None, Some(&wrong), at(1)), Err(StateError::Shape));
    }
}
