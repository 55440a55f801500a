//! `git.push`: objects out of the agent's volume, through a check, to the remote.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aegis_core::{Denial, DenialCode, ToolResult};
use aegis_kernel::port::{PushBinding, ToolContext, ToolError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::local::{self, Tip};
use super::outside::Service;
use super::settings::Remote;
use super::wire::{Advertised, Report, update, updated};
use super::workshop::{Place as WorkPlace, Work};
use super::{Failed, GitTools, not_done, recorder, unrecorded};
use crate::files::place::{Failure, Place};

/// References of the remote that are looked for among what is pushed, so that they are not sent again.
const HAVES_MAX: usize = 1000;
/// Largest answer to a push.
const REPORT_BYTES_MAX: usize = 1 << 20;

/// What a model asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Push {
    repository: String,
    path: String,
    branch: String,
    #[serde(default)]
    commit: Option<String>,
}

/// Whether a push has been sent: then nobody knows what came of it until the answer is there.
#[derive(Debug, Default)]
pub(super) struct Sent(AtomicBool);

impl Sent {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// What to add to a failure.
    pub(super) fn doubt(&self) -> &'static str {
        if self.is_so() {
            "; it was sent, and it is not known whether it took effect: look before you repeat it"
        } else {
            ""
        }
    }
}

impl GitTools {
    pub(super) async fn push_from(
        &self,
        context: &ToolContext,
        asked: Push,
        sent: &Sent,
    ) -> Result<ToolResult, Failure> {
        let remote = self.remote(&asked.repository)?;
        permitted(&remote, &asked.branch)?;
        let (tip, pack) = self.packed(context, &remote, &asked).await?;
        let failed = |error: String| Failure::told(format!("`{}`: {error}", remote.said.name));
        let (outside, sign_in) = (self.outside()?, self.sign_in(context, &remote).await?);
        let shown = outside.references(&remote, Service::Receive, &sign_in).await.map_err(failed)?;
        let shown = Advertised::parse(&shown, Service::Receive.name()).map_err(failed)?;
        let reference = format!("refs/heads/{}", asked.branch);
        let former = shown.id_of(&reference).map(str::to_owned);
        if former.as_deref() == Some(tip.commit.as_str()) {
            return Ok(ToolResult::ok(format!(
                "`{}` of `{}` is at {} already",
                asked.branch, remote.said.name, tip.commit
            )));
        }
        let checked = self.checked(&remote, (&tip.commit, former.as_deref()), &shown, pack).await?;
        let body = update(&shown, (&reference, &tip.commit, former.as_deref()), &checked).map_err(failed)?;
        let binding = PushBinding {
            remote: remote.said.name.clone(),
            reference: reference.clone(),
            commit: tip.commit.clone(),
            former: former.clone(),
        };
        recorder(context)?.push_bound(binding).await.map_err(unrecorded)?;
        sent.0.store(true, Ordering::SeqCst);
        let unclear = |error: String| {
            let told = format!("`{}`: {error}{}", remote.said.name, sent.doubt());
            Failure::Tool(ToolError::Unanswered(told))
        };
        let answer = outside.call(&remote, Service::Receive, (body, REPORT_BYTES_MAX), &sign_in).await;
        updated(&answer.map_err(unclear)?, &reference).map_err(|report| match report {
            Report::Refused(error) => failed(error),
            Report::Unclear(error) => unclear(error),
        })?;
        let was = former.map_or_else(|| "it is new there".to_owned(), |former| format!("it was at {former}"));
        let (branch, name, commit) = (asked.branch, &remote.said.name, tip.commit);
        Ok(ToolResult::ok(format!("pushed {commit} to `{branch}` of `{name}`; {was}")))
    }

    /// The commit, and the pack of it and all before it, as the agent's volume holds them. Nothing of it is believed.
    async fn packed(
        &self,
        context: &ToolContext,
        remote: &Remote,
        asked: &Push,
    ) -> Result<(Tip, Vec<u8>), Failure> {
        let (workspace, path, branch) =
            (Arc::clone(&context.workspace), asked.path.clone(), asked.branch.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let place = Place::find(&workspace, &path)?;
            Ok::<_, Failure>((local::tip(&place, &branch)?, local::mounted(&place, true)?))
        });
        let looked = looked.await.map_err(|error| Failure::Tool(ToolError::Internal(error.to_string())))?;
        let (tip, (execution, mount)) = looked?;
        if asked.commit.as_ref().is_some_and(|commit| *commit != tip.commit) {
            return Err(Failure::told(format!("branch `{}` is at {}, not there", asked.branch, tip.commit)));
        }
        let work = Work {
            place: WorkPlace::Beside(execution, mount),
            arguments: vec!["pack".to_owned(), tip.objects.clone(), tip.commit.clone()],
            input: Vec::new(),
            pack_bytes_max: remote.pack_bytes_max(),
        };
        let pack = self.workshop()?.run(work).await.map_err(not_done)?;
        Ok((tip, pack))
    }

    /// Every object of the pack sound, every link whole, the commit after the former; then the pack of what is missing
    /// there.
    async fn checked(
        &self,
        remote: &Remote,
        (commit, former): (&str, Option<&str>),
        shown: &Advertised,
        pack: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let haves: Vec<&str> = shown.references.iter().take(HAVES_MAX).map(|(_, id)| id.as_str()).collect();
        let header =
            json!({"commit": commit, "former": former, "haves": haves, "most": remote.pack_bytes_max()});
        let answered = self.through_check(remote, &header, pack).await;
        answered.map_err(|failed| match failed {
            Failed::Refused(why) if why == "not_fast_forward" => Failure::told(
                "the branch holds commits there that this one does not follow; nothing is overwritten. Clone the \
                 repository anew and put the work on top of what is there",
            ),
            other => not_done(other),
        })
    }

    /// A pack through a repository that nobody else can reach; what comes out is what git made of it.
    pub(super) async fn through_check(
        &self,
        remote: &Remote,
        header: &Value,
        pack: Vec<u8>,
    ) -> Result<Vec<u8>, Failed> {
        let mut input = format!("{header}\n").into_bytes();
        input.extend(pack);
        let work = Work {
            place: WorkPlace::Apart,
            arguments: vec!["check".to_owned()],
            input,
            pack_bytes_max: remote.pack_bytes_max(),
        };
        let workshop =
            self.workshop().map_err(|_| Failed::Broken("there is no git on this node".to_owned()))?;
        let mut output = workshop.run(work).await?;
        let end = output.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let pack = output.split_off(end);
        let line: Option<Value> = serde_json::from_slice(&output).ok();
        let good = line.is_some_and(|line| line.get("ok") == Some(&Value::Bool(true)));
        if good && pack.starts_with(b"PACK") {
            return Ok(pack);
        }
        Err(Failed::Broken("the check did not end with a pack".to_owned()))
    }
}

fn permitted(remote: &Remote, branch: &str) -> Result<(), Failure> {
    local::check_branch(branch).map_err(Failure::Tool)?;
    if remote.said.permits_push(branch) {
        return Ok(());
    }
    let permitted: Vec<String> = remote.said.push.iter().map(|pattern| format!("`{pattern}`")).collect();
    let there =
        if permitted.is_empty() { "none is".to_owned() } else { format!("{} are", permitted.join(", ")) };
    Err(Failure::Tool(ToolError::Denied(Denial {
        code: DenialCode::ToolNotAllowed,
        rule: format!("node:git/{}/push", remote.said.name),
        message: format!("branch `{branch}` of `{}` may not be pushed; {there} permitted.", remote.said.name),
        remedy:
            "choose another name for the branch, or let the node's operator permit it in `spec.git.remotes`"
                .to_owned(),
    })))
}
