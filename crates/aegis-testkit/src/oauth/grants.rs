//! The authorization server: who registered, what was granted, which tokens are good.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Fields of a form or a query.
pub(super) type Fields = BTreeMap<String, String>;

/// What was agreed to, until its code is exchanged.
struct Agreed {
    client: String,
    redirect: String,
    challenge: String,
    resource: String,
    scope: String,
}

/// What a token stands for.
#[derive(Clone)]
struct Granted {
    client: String,
    scope: String,
}

/// An answer of the token endpoint: the status, and the body.
pub(super) type Answer = (u16, Value);

#[derive(Default)]
pub(super) struct Grants {
    next: u32,
    /// Redirects and secret by client.
    clients: BTreeMap<String, (Vec<String>, Option<String>)>,
    codes: BTreeMap<String, Agreed>,
    access: BTreeMap<String, Granted>,
    refresh: BTreeMap<String, Granted>,
    /// All tokens, secrets and codes that ever were, to look for where they must not be.
    pub(super) issued: BTreeSet<String>,
    pub(super) exchanges: Vec<String>,
    /// Kinds of tokens that were revoked.
    pub(super) revoked: Vec<String>,
}

fn refuse(error: &str) -> Answer {
    (400, json!({"error": error, "error_description": "no"}))
}

impl Grants {
    fn fresh(&mut self, kind: &str) -> String {
        self.next += 1;
        let made = format!("{kind}-of-the-tests-{}-{:04}", std::process::id(), self.next);
        if kind != "client" {
            self.issued.insert(made.clone());
        }
        made
    }

    /// Registers a client by hand.
    pub(super) fn add_client(&mut self, id: &str, secret: Option<&str>) {
        self.clients.insert(id.to_owned(), (Vec::new(), secret.map(str::to_owned)));
    }

    /// Registers a client that asks for it.
    pub(super) fn register(&mut self, request: &Value, confidential: bool) -> Answer {
        let redirects: Vec<String> = request
            .get("redirect_uris")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|redirect| redirect.as_str().map(str::to_owned))
            .collect();
        if redirects.is_empty() {
            return refuse("invalid_redirect_uri");
        }
        let id = self.fresh("client");
        let secret = confidential.then(|| self.fresh("secret"));
        self.clients.insert(id.clone(), (redirects.clone(), secret.clone()));
        let mut answer = json!({"client_id": id, "redirect_uris": redirects});
        if let (Some(answer), Some(secret)) = (answer.as_object_mut(), secret) {
            answer.insert("client_secret".to_owned(), secret.into());
        }
        (201, answer)
    }

    /// The person agrees: a code for the redirect, or why there is none.
    pub(super) fn agree(&mut self, query: &Fields, resource: &str) -> Result<String, &'static str> {
        let field = |name: &str| query.get(name).cloned().unwrap_or_default();
        let (client, redirect) = (field("client_id"), field("redirect_uri"));
        let Some((redirects, _)) = self.clients.get(&client) else { return Err("unknown client") };
        if !redirects.is_empty() && !redirects.contains(&redirect) {
            return Err("another redirect than was registered");
        }
        if field("response_type") != "code" || field("code_challenge_method") != "S256" {
            return Err("neither a code nor S256");
        }
        if field("resource") != resource {
            return Err("a token for another resource");
        }
        let code = self.fresh("code");
        let (challenge, scope) = (field("code_challenge"), field("scope"));
        let agreed = Agreed { client, redirect, challenge, resource: resource.to_owned(), scope };
        self.codes.insert(code.clone(), agreed);
        Ok(code)
    }

    /// The token endpoint. `basic` is the client that signed in by a header.
    pub(super) fn exchange(&mut self, form: &Fields, basic: Option<(String, String)>, life: u64) -> Answer {
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let Some((client, secret)) = self.client(form, basic) else {
            return (401, json!({"error": "invalid_client"}));
        };
        self.exchanges.push(field("grant_type"));
        let scope = match field("grant_type").as_str() {
            "authorization_code" => {
                let Some(agreed) = self.codes.remove(&field("code")) else { return refuse("invalid_grant") };
                let proof = URL_SAFE_NO_PAD.encode(digest(&SHA256, field("code_verifier").as_bytes()));
                let same = agreed.client == client
                    && agreed.redirect == field("redirect_uri")
                    && agreed.resource == field("resource")
                    && agreed.challenge == proof;
                if !same {
                    return refuse("invalid_grant");
                }
                agreed.scope
            }
            "refresh_token" => match self.refresh.remove(&field("refresh_token")) {
                Some(granted) if granted.client == client => granted.scope,
                _ => return refuse("invalid_grant"),
            },
            "client_credentials" if !secret.is_empty() => field("scope"),
            _ => return refuse("unsupported_grant_type"),
        };
        let granted = Granted { client, scope: scope.clone() };
        let access = self.fresh("access");
        self.access.insert(access.clone(), granted.clone());
        let mut answer =
            json!({"access_token": access, "token_type": "Bearer", "expires_in": life, "scope": scope});
        if field("grant_type") != "client_credentials" {
            let refresh = self.fresh("refresh");
            self.refresh.insert(refresh.clone(), granted);
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("refresh_token".to_owned(), refresh.into());
            }
        }
        (200, answer)
    }

    /// Who asks, with its secret, if it is a client and the secret its own.
    fn client(&self, form: &Fields, basic: Option<(String, String)>) -> Option<(String, String)> {
        let field = |name: &str| form.get(name).cloned().unwrap_or_default();
        let (client, secret) = basic.unwrap_or_else(|| (field("client_id"), field("client_secret")));
        let (_, known) = self.clients.get(&client)?;
        known.as_ref().is_none_or(|known| *known == secret).then_some((client, secret))
    }

    /// The revocation endpoint (RFC 7009): a token that is not known is as good as revoked.
    pub(super) fn revoke(&mut self, form: &Fields, basic: Option<(String, String)>) -> Answer {
        let Some((client, _)) = self.client(form, basic) else {
            return (401, json!({"error": "invalid_client"}));
        };
        let token = form.get("token").cloned().unwrap_or_default();
        for (kind, tokens) in [("refresh_token", &mut self.refresh), ("access_token", &mut self.access)] {
            match tokens.get(&token) {
                Some(granted) if granted.client != client => return refuse("invalid_grant"),
                Some(_) => {
                    tokens.remove(&token);
                    self.revoked.push(kind.to_owned());
                }
                None => {}
            }
        }
        (200, json!({}))
    }

    pub(super) fn has_live_tokens(&self) -> bool {
        !(self.access.is_empty() && self.refresh.is_empty())
    }

    /// The scopes of a token; nothing if it is not good.
    pub(super) fn scopes(&self, token: &str) -> Option<Vec<String>> {
        let granted = self.access.get(token)?;
        Some(granted.scope.split_whitespace().map(str::to_owned).collect())
    }

    pub(super) fn end_access(&mut self) {
        self.access.clear();
    }
    pub(super) fn end_refresh(&mut self) {
        self.refresh.clear();
    }
}
