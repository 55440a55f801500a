//! The token: fetched, renewed before it expires, fetched again when it is refused.

use std::sync::Weak;
use std::time::Duration;

use aegis_kernel::port::SecretError;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::wire::{Answer, Wire};
use super::{OpenBaoLogin, unexpected};

/// Attempts of a request that changes nothing.
const ATTEMPTS_MAX: u32 = 3;
/// Longest wait before another attempt.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A token without a lease never expires; whether the server still knows it is asked this often.
const LEASELESS: Duration = Duration::from_secs(3600);
/// Shortest wait before a renewal, so that leases of no length do not make a storm.
const RENEW_AFTER_MIN: Duration = Duration::from_millis(100);

struct Token {
    token: SecretString,
    /// Counts logins, to see whether another caller has logged in meanwhile.
    number: u64,
    renewable: bool,
    lease: Duration,
    since: Instant,
}

pub(super) struct Session {
    wire: Wire,
    login: OpenBaoLogin,
    token: Mutex<Token>,
}

impl Session {
    pub(super) async fn open(wire: Wire, login: OpenBaoLogin) -> Result<Self, SecretError> {
        let token = log_in(&wire, &login, 1).await?;
        Ok(Self { wire, login, token: Mutex::new(token) })
    }

    /// Asks; `None` if there is nothing there. `value` is kept out of errors. A refused token is fetched anew, once.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        value: Option<&SecretString>,
    ) -> Result<Option<Value>, SecretError> {
        let (mut token, mut number) = self.current().await;
        let mut logged_in = false;
        let mut attempt = 1;
        loop {
            let answer = self.wire.ask(method.clone(), path, Some(&token), body).await;
            let again = method == Method::GET && attempt < ATTEMPTS_MAX;
            let answer = match answer {
                Ok(answer) if answer.status.is_server_error() || answer.status.as_u16() == 429 => {
                    if !again {
                        return Err(SecretError::Unreachable(answer.words(&secrets(&token, value))));
                    }
                    None
                }
                Ok(answer) => Some(answer),
                Err(SecretError::Unreachable(_)) if again => None,
                Err(error) => return Err(error),
            };
            let Some(answer) = answer else {
                tokio::time::sleep(wait(self.wire.backoff, attempt)).await;
                attempt += 1;
                continue;
            };
            let refused = matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED);
            if refused && !logged_in && matches!(self.login, OpenBaoLogin::AppRole { .. }) {
                // The token may have expired or been revoked; if the role itself may not, the second answer says so.
                logged_in = true;
                (token, number) = self.log_in_after(number).await?;
                continue;
            }
            return settle(answer, &secrets(&token, value));
        }
    }

    async fn current(&self) -> (SecretString, u64) {
        let token = self.token.lock().await;
        (token.token.clone(), token.number)
    }

    /// Logs in unless somebody has since login `number`.
    async fn log_in_after(&self, number: u64) -> Result<(SecretString, u64), SecretError> {
        let mut token = self.token.lock().await;
        if token.number == number {
            *token = log_in(&self.wire, &self.login, number + 1).await?;
        }
        Ok((token.token.clone(), token.number))
    }

    /// How long until the token should be renewed: at two thirds of its lease.
    async fn renew_after(&self) -> Duration {
        let token = self.token.lock().await;
        let due = if token.lease.is_zero() { LEASELESS } else { token.lease * 2 / 3 };
        due.saturating_sub(token.since.elapsed()).max(RENEW_AFTER_MIN)
    }

    /// Renews the token; logs in if it cannot be renewed, or is renewed to less than half its lease, as near the end of
    /// its life.
    async fn renew(&self) -> Result<(), SecretError> {
        let (current, number, renewable, lease) = {
            let token = self.token.lock().await;
            (token.token.clone(), token.number, token.renewable, token.lease)
        };
        if renewable {
            let answer = self
                .wire
                .ask(Method::POST, "auth/token/renew-self", Some(&current), Some(&json!({})))
                .await?;
            if answer.status.is_server_error() {
                return Err(SecretError::Unreachable(answer.words(&[&current])));
            }
            let renewed = answer.status.is_success().then(|| read_token(&answer.body, number)).flatten();
            if let Some(renewed) = renewed.filter(|renewed| renewed.lease >= lease / 2) {
                let mut token = self.token.lock().await;
                if token.number == number {
                    *token = renewed;
                }
                return Ok(());
            }
        }
        match self.login {
            OpenBaoLogin::AppRole { .. } => self.log_in_after(number).await.map(drop),
            OpenBaoLogin::Token(_) => {
                Err(SecretError::Refused("the token cannot be renewed any more".to_owned()))
            }
        }
    }
}

/// Renews until the session is dropped.
pub(super) async fn renew(session: Weak<Session>, backoff: Duration) {
    let mut failures = 0;
    loop {
        let pause = match session.upgrade() {
            None => return,
            Some(_) if failures > 0 => wait(backoff, failures),
            Some(session) => session.renew_after().await,
        };
        tokio::time::sleep(pause).await;
        let Some(session) = session.upgrade() else { return };
        match session.renew().await {
            Ok(()) => failures = 0,
            Err(error) => {
                failures = u32::saturating_add(failures, 1);
                tracing::warn!(%error, failures, "the secret server's token was not renewed");
            }
        }
    }
}

/// Doubles with each attempt.
fn wait(base: Duration, attempt: u32) -> Duration {
    base.saturating_mul(1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX)).min(BACKOFF_MAX)
}

fn secrets<'secret>(
    token: &'secret SecretString,
    value: Option<&'secret SecretString>,
) -> Vec<&'secret SecretString> {
    std::iter::once(token).chain(value).collect()
}

fn settle(answer: Answer, secrets: &[&SecretString]) -> Result<Option<Value>, SecretError> {
    match answer.status {
        StatusCode::NOT_FOUND => Ok(None),
        status if status.is_success() => Ok(Some(answer.body)),
        StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED => Err(SecretError::Refused(answer.words(secrets))),
        _ => Err(SecretError::Store(answer.words(secrets))),
    }
}

async fn log_in(wire: &Wire, login: &OpenBaoLogin, number: u64) -> Result<Token, SecretError> {
    let (answer, given) = match login {
        OpenBaoLogin::Token(token) => {
            (wire.ask(Method::GET, "auth/token/lookup-self", Some(token), None).await?, token)
        }
        OpenBaoLogin::AppRole { mount, role_id, secret_id } => {
            let body = json!({ "role_id": role_id, "secret_id": secret_id.expose_secret() });
            let path = format!("auth/{mount}/login");
            (wire.ask(Method::POST, &path, None, Some(&body)).await?, secret_id)
        }
    };
    if !answer.status.is_success() {
        let words = answer.words(&[given]);
        let unreachable = answer.status.is_server_error();
        return Err(if unreachable { SecretError::Unreachable(words) } else { SecretError::Refused(words) });
    }
    let token = match login {
        OpenBaoLogin::Token(token) => {
            let data = answer.body.get("data").unwrap_or(&Value::Null);
            let seconds = data.get("ttl").and_then(Value::as_u64).unwrap_or_default();
            let renewable = data.get("renewable").and_then(Value::as_bool).unwrap_or_default();
            let lease = Duration::from_secs(seconds);
            Some(Token { token: token.clone(), number, renewable, lease, since: Instant::now() })
        }
        OpenBaoLogin::AppRole { .. } => read_token(&answer.body, number),
    };
    token.ok_or_else(|| unexpected("a token"))
}

/// The token in `{"auth": {"client_token", "lease_duration", "renewable"}}`.
fn read_token(body: &Value, number: u64) -> Option<Token> {
    let auth = body.get("auth")?;
    Some(Token {
        token: SecretString::from(auth.get("client_token")?.as_str()?),
        number,
        renewable: auth.get("renewable").and_then(Value::as_bool).unwrap_or_default(),
        lease: Duration::from_secs(auth.get("lease_duration").and_then(Value::as_u64).unwrap_or_default()),
        since: Instant::now(),
    })
}
