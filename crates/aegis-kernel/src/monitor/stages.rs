//! The stages that do not depend on the manifest, and those that write the record.

use std::time::Duration;

use aegis_core::{
    ActionId, ActionKind, Body, Denial, DenialCode, Durability, Intent, LateDenial, ModelAnswer, Outcome,
    SignedCall, ToolResult,
};
use aegis_security::canonical;
use aegis_security::label::Labels;
use aegis_security::redact::Redactor;
use serde_json::{Value, json};

use super::{
    Action, Circumstances, Performed, Permit, Proof, Settled, Target, bounds, connections, envelope,
};
use crate::door::TokenKeys;
use crate::port::ToolError;
use crate::record::{Ledger, RecordError};
use crate::redaction;

/// Most bytes of the arguments of a refused action that are recorded.
const DENIED_ARGUMENTS_BYTES_MAX: usize = 16 << 10;
/// What a model is told of a tool call that was given up.
const INTERRUPTED: &str =
    "interrupted: it is not known whether this call took effect. Look before you repeat it.";

/// The caller is the execution whose ledger this is: the control socket is the proof. What remains to check is that
/// it is still allowed to act at all, that the generation that speaks is the one that lives, and, of a tool call, who
/// signed it.
pub(crate) fn authenticate(
    ledger: &Ledger,
    action: &Action<'_>,
    tokens: &TokenKeys,
) -> Result<Option<SignedCall>, Denial> {
    let refuse = |message: &str| {
        Err(Denial {
            code: DenialCode::ExecutionNotActive,
            rule: "node:execution".to_owned(),
            message: message.to_owned(),
            remedy: "start a new execution".to_owned(),
        })
    };
    if ledger.state.phase.is_final() || ledger.state.cancel.is_some() {
        return refuse("the execution is over or being cancelled");
    }
    let lives = ledger.state.sandbox.is_some() && ledger.state.generation == action.generation;
    let outside = ledger.state.external && action.generation == 0;
    match action.target {
        Target::Judge { .. } => Ok(None),
        Target::Tool { call, proof, .. } if lives || outside => {
            envelope::check(ledger, action.generation, (call, proof), tokens).map(Some)
        }
        Target::Model { .. } | Target::Connect { .. } if lives => Ok(None),
        _ => refuse("the sandbox generation that asks is not the one that lives"),
    }
}

/// Freezes of agent, tool, tenant and fleet. None can be set on this version, so nothing is frozen; the record's
/// epochs are compared here once they can be.
pub(crate) fn freeze(_ledger: &Ledger) -> Result<(), Denial> {
    Ok(())
}

/// A call that somebody else has signed cannot be made without the secret it holds: neither its tool nor the record may
/// be given that. What a model calls was cleaned when the model answered.
pub(crate) fn withhold(ledger: &Ledger, action: &Action<'_>) -> Result<(), Denial> {
    let Target::Tool { call, proof: Proof::Client(_), .. } = action.target else { return Ok(()) };
    if redaction::is_clean(&ledger.scribe.redaction.redactor(), call) {
        return Ok(());
    }
    Err(Denial {
        code: DenialCode::InvalidArguments,
        rule: "node:secrets".to_owned(),
        message: "the call holds a secret that this node keeps".to_owned(),
        remedy: "leave it out: the node gives credentials to tools itself".to_owned(),
    })
}

/// What policies see of the execution, with what the action brings. Nothing weighs risk on this version.
pub(crate) fn circumstances(ledger: &Ledger, brought: &Labels) -> Circumstances {
    let mut labels = ledger.state.labels.clone();
    labels.extend(brought.iter().map(ToString::to_string));
    Circumstances {
        labels: labels.into_iter().collect(),
        risk: 0,
        time: ledger.scribe.clock.now().micros() / 1_000_000,
    }
}

/// Risk and approval. `ask` is a refusal as long as approvals do not stand on this node.
pub(crate) fn judge(permit: &Permit) -> Result<(), Denial> {
    let Some((rule, question)) = permit.questions.first() else { return Ok(()) };
    Err(Denial {
        code: DenialCode::ApprovalRequired,
        rule: rule.clone(),
        message: format!("{question}: a person must approve this, and approvals do not stand on this node."),
        remedy: "permit the tool without asking, or do without it".to_owned(),
    })
}

/// Circuit breakers of tools and models. None trip on this version: retries and fallback are the model adapter's.
pub(crate) fn breaker(_action: &Action<'_>) -> Result<(), Denial> {
    Ok(())
}

/// Results larger than the capability permits are withheld; the call itself has happened and is recorded.
pub(crate) fn cap_response(performed: Performed, permit: &Permit) -> Performed {
    let Some(most) = permit.max_response_bytes else { return performed };
    match performed {
        Performed::Tool(Ok(result)) if result.content.len() as u64 > most => {
            Performed::Tool(Err(ToolError::Denied(Denial {
                code: DenialCode::OutputSizeExceeded,
                rule: permit.rule.clone(),
                message: format!(
                    "the result has {} bytes, at most {most} are permitted; ask for less at once.",
                    result.content.len()
                ),
                remedy: "raise max_response_size of the capability".to_owned(),
            })))
        }
        other => other,
    }
}

/// Takes the tenant's secrets out of what came back, before anyone is given it. Results of tools are text alone, which
/// loses them on its way into the record.
pub(crate) fn redact(redactor: &Redactor, mut performed: Performed) -> Performed {
    match &mut performed {
        Performed::Model(Ok(answer)) => redaction::answer(redactor, answer),
        Performed::Model(Err(failure)) => redaction::failure(redactor, failure),
        Performed::Tool(Ok(result)) => redaction::text(redactor, &mut result.content),
        Performed::Tool(Err(_)) | Performed::Connection(_) | Performed::Interrupted => {}
    }
    performed
}

/// Puts the labels that a performed call brings on the execution; whether any is new.
pub(crate) async fn grow(
    ledger: &mut Ledger,
    brought: &Labels,
    action: ActionId,
) -> Result<bool, RecordError> {
    let mut held = super::labels::read(&ledger.state.labels);
    let new = held.join(brought);
    if new.is_empty() {
        return Ok(false);
    }
    let labels = new.iter().map(ToString::to_string).collect();
    let body = Body::LabelsGrown { labels, action: Some(action) };
    ledger.fact(body, Vec::new(), Durability::Process).await?;
    Ok(true)
}

/// Records a refusal and what the model is told.
pub(crate) async fn record_denial(
    ledger: &mut Ledger,
    action: &Action<'_>,
    denial: Denial,
) -> Result<Settled, RecordError> {
    let mut blobs = Vec::new();
    let (target, name, turn, index, arguments) = match action.target {
        Target::Model { alias, turn } => (ActionKind::Model, alias.to_owned(), turn, 0, Vec::new()),
        Target::Judge { alias, validator, judge } => {
            (ActionKind::Judge, alias.to_owned(), validator, judge, Vec::new())
        }
        Target::Connect { request, .. } => {
            let (name, asked) = connections::named(ledger, request);
            (ActionKind::Connect, name, 0, 0, asked)
        }
        Target::Tool { turn, index, call, proof, .. } => {
            let kind = match proof {
                Proof::Kernel { .. } | Proof::Nobody => ActionKind::Tool,
                Proof::Client(_) => ActionKind::External,
            };
            let mut call = call.clone();
            redaction::call(&ledger.scribe.redaction.redactor(), &mut call);
            (kind, recordable_name(&call.name), turn, index, denied_arguments(&call.arguments))
        }
    };
    let told = bounds::told(&denial);
    let body = Body::ActionDenied {
        action: ActionId::from_uuid(ledger.scribe.ids.uuid()),
        iteration: ledger.state.iteration,
        target,
        name,
        turn,
        index,
        arguments: ledger.scribe.blob(arguments, &mut blobs),
        code: denial.code,
        rule: denial.rule.clone(),
        result: ledger.scribe.blob(told, &mut blobs),
    };
    ledger.fact(body, blobs, Durability::Process).await?;
    Ok(Settled::Denied(denial))
}

/// Canonical JSON (RFC 8785); what has no canonical form is refused, and recorded as the model wrote it.
fn recordable(arguments: &Value) -> Vec<u8> {
    canonical::to_bytes(arguments).unwrap_or_else(|_| arguments.to_string().into_bytes())
}

/// What was refused is told, but not at any length.
fn denied_arguments(arguments: &Value) -> Vec<u8> {
    let bytes = recordable(arguments);
    if bytes.len() <= DENIED_ARGUMENTS_BYTES_MAX {
        return bytes;
    }
    let text = String::from_utf8_lossy(&bytes);
    let begins = bounds::beginning(&text, DENIED_ARGUMENTS_BYTES_MAX);
    recordable(&json!({"begins": begins, "bytes": bytes.len()}))
}

/// A tool name a model made up is text; only what looks like a name goes into the record's columns.
fn recordable_name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&name.len()) && name.chars().all(plain) {
        name.to_owned()
    } else {
        "unknown".to_owned()
    }
}

/// Records the intent, unless something else was recorded since it was decided on: then the ledger has caught up, and
/// it is to be decided anew. It is durable when this returns: only then may the effect happen.
pub(crate) async fn record_intent(
    ledger: &mut Ledger,
    action: &Action<'_>,
    permit: &Permit,
    signed: Option<SignedCall>,
) -> Result<Option<ActionId>, RecordError> {
    let mut blobs = Vec::new();
    let id = ActionId::from_uuid(ledger.scribe.ids.uuid());
    let (intent, durability) = match action.target {
        Target::Model { alias, turn } => (Intent::Model { alias: alias.to_owned(), turn }, Durability::Power),
        Target::Judge { alias, validator, judge } => {
            (Intent::Judge { alias: alias.to_owned(), validator, judge }, Durability::Power)
        }
        Target::Connect { request, .. } => {
            (connections::intent(ledger, request, &permit.rule, &mut blobs), Durability::Power)
        }
        Target::Tool { turn, index, call, facts, proof } => {
            let arguments = ledger.scribe.blob(recordable(&call.arguments), &mut blobs);
            let idempotent = facts.is_some_and(|facts| facts.idempotent);
            let (tool, rule) = (call.name.clone(), permit.rule.clone());
            let envelope = envelope::recorded(ledger, proof, signed, &mut blobs);
            let intent = match (proof, envelope) {
                (Proof::Client(_), Some(envelope)) => Intent::External { tool, arguments, rule, envelope },
                (_, envelope) => Intent::Tool { turn, index, tool, arguments, rule, idempotent, envelope },
            };
            // Files of an ephemeral volume and commands in the sandbox are inside the execution: nothing outside
            // it changes, so surviving `kill -9` is enough.
            let foreign = facts.is_some_and(|facts| facts.foreign);
            (intent, if foreign { Durability::Power } else { Durability::Process })
        }
    };
    let iteration = ledger.state.iteration;
    let body = Body::ActionIntended { action: id, iteration, generation: action.generation, intent };
    Ok(ledger.attempt(body, blobs, durability).await?.then_some(id))
}

/// Records what came of it.
pub(crate) async fn record_outcome(
    ledger: &mut Ledger,
    id: ActionId,
    performed: Performed,
    duration: Duration,
) -> Result<Settled, RecordError> {
    let mut blobs = Vec::new();
    let scribe = ledger.scribe.clone();
    let (outcome, settled) = match performed {
        Performed::Model(Ok(answer)) => {
            let outcome = model_outcome(&answer, scribe.blob(answer_json(&answer), &mut blobs));
            (outcome, Settled::Model(answer))
        }
        Performed::Model(Err(failure)) => {
            let detail = scribe.blob(failure.message.clone(), &mut blobs);
            let outcome = Outcome::ModelFailed { failure: failure.kind, detail, attempts: failure.attempts };
            (outcome, Settled::ModelFailed(failure))
        }
        Performed::Tool(result) => {
            let denied = match &result {
                Err(ToolError::Denied(denial)) => Some(denial.clone()),
                _ => None,
            };
            let late = denied.as_ref();
            let mut result = result.unwrap_or_else(tool_failure);
            bounds::cap(&mut result);
            let outcome = Outcome::Tool {
                result: scribe.blob(result.content.clone(), &mut blobs),
                is_error: result.is_error,
                exit_code: result.exit_code,
                size: result.size,
                denied: late.map(|denial| LateDenial { code: denial.code, rule: denial.rule.clone() }),
            };
            (outcome, Settled::Tool { result, denied })
        }
        Performed::Connection(ended) => {
            (connections::outcome(ledger, ended, &mut blobs), Settled::Connection)
        }
        Performed::Interrupted => {
            let result = Some(scribe.blob(INTERRUPTED, &mut blobs));
            ledger
                .fact(Body::ActionUnknown { action: id, retry: false, result }, blobs, Durability::Process)
                .await?;
            return Ok(Settled::Interrupted);
        }
    };
    let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    ledger
        .fact(Body::ActionCompleted { action: id, outcome, duration_ms }, blobs, Durability::Process)
        .await?;
    Ok(settled)
}

/// A failure of the tool's own is a result the model may learn from.
fn tool_failure(error: ToolError) -> ToolResult {
    match error {
        ToolError::Denied(denial) => ToolResult::error(bounds::told(&denial)),
        other => ToolResult::error(other.to_string()),
    }
}

/// The stored form of an answer, from which a conversation is rebuilt.
fn answer_json(answer: &ModelAnswer) -> String {
    json!({"content": answer.content, "tool_calls": answer.tool_calls}).to_string()
}

fn model_outcome(answer: &ModelAnswer, blob: aegis_core::BlobRef) -> Outcome {
    Outcome::Model {
        answer: blob,
        finish: answer.finish,
        tool_calls: u32::try_from(answer.tool_calls.len()).unwrap_or(u32::MAX),
        usage: answer.usage,
        provider: answer.provider.clone(),
        model: answer.model.clone(),
        fingerprint: answer.fingerprint.clone(),
        attempts: answer.attempts,
    }
}
