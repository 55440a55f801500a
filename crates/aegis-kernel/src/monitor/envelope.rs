//! Who signed a tool call: the envelope against its token, its session and the call it is said to ask for.

use std::borrow::Cow;

use aegis_core::{Denial, DenialCode, SignedCall, ToolCall};
use aegis_security::canonical;
use aegis_security::smcp::checks::{self, Admitted, Recorded};
use aegis_security::smcp::{SmcpCode, SmcpError};
use serde_json::Value;

use super::{Action, Proof, Target};
use crate::door::{TokenKeys, workload};
use crate::port::NewBlob;
use crate::record::Ledger;
use crate::tools::COMMAND_RUN;

/// Checks what is said of the call's signer; gives what is recorded of it.
///
/// An envelope of the daemon's own is checked here from its token on. It is new by construction: its id is the action's
/// place, its key lives in this process alone. One of a program's was checked at the door, which has the store of
/// what was said before; what remains is that it is about this execution and this call.
pub(super) fn check(
    ledger: &Ledger,
    generation: u32,
    (call, proof): (&ToolCall, Proof<'_>),
    tokens: &TokenKeys,
) -> Result<SignedCall, Denial> {
    let here = workload(ledger.execution, generation);
    let made;
    let admitted = match proof {
        Proof::Nobody => {
            return Err(refused(&SmcpError::new(SmcpCode::InvalidSignature, "nobody signed the call")));
        }
        Proof::Client(admitted) => admitted,
        Proof::Kernel { envelope, session } => {
            let envelope = envelope.map_err(|error| unsignable(call, error))?;
            let now = ledger.scribe.clock.now();
            let authenticated =
                tokens.with(|keys| checks::authenticate(envelope.clone(), keys, Some(&here), now));
            let verified =
                authenticated.and_then(|authenticated| checks::verify(authenticated, Some(session), now));
            made = verified
                .and_then(|verified| checks::admit(verified, Recorded::New))
                .map_err(|e| refused(&e))?;
            &made
        }
    };
    if admitted.claims.workload != here || !is_of(admitted, call) {
        return Err(refused(&SmcpError::new(
            SmcpCode::InvalidEnvelope,
            "the envelope asks for another call, or for another execution",
        )));
    }
    Ok(SignedCall { session: admitted.claims.id.clone(), nonce: admitted.nonce, text: None, redacted: false })
}

/// What is recorded of a call's signer, with the envelope itself.
pub(super) fn recorded(
    ledger: &Ledger,
    proof: Proof<'_>,
    signed: Option<SignedCall>,
    blobs: &mut Vec<NewBlob>,
) -> Option<SignedCall> {
    let envelope = match proof {
        Proof::Client(admitted) => &admitted.envelope,
        Proof::Kernel { envelope: Ok(envelope), .. } => envelope,
        Proof::Kernel { .. } | Proof::Nobody => return signed,
    };
    let text = envelope.to_json().to_string();
    let redactor = ledger.scribe.redaction.redactor();
    let redacted = redactor.redact(&text);
    let changed = matches!(redacted, Cow::Owned(_));
    let text = ledger.scribe.blob(redacted.into_owned(), blobs);
    signed.map(|signed| SignedCall { text: Some(text), redacted: changed, ..signed })
}

/// Whether the envelope asks for exactly this call.
fn is_of(admitted: &Admitted, call: &ToolCall) -> bool {
    let params = admitted.envelope.params();
    let named = params.get("name").and_then(Value::as_str) == Some(call.name.as_str());
    let arguments = params.get("arguments").map(canonical::to_bytes);
    named
        && match (arguments, canonical::to_bytes(&call.arguments)) {
            (Some(Ok(signed)), Ok(asked)) => signed == asked,
            (None, Ok(asked)) => asked == b"{}",
            _ => false,
        }
}

fn unsignable(call: &ToolCall, error: &SmcpError) -> Denial {
    Denial {
        code: DenialCode::InvalidArguments,
        rule: format!("tool:{}/schema", call.name),
        message: format!("the arguments cannot be recorded exactly: {}.", error.message),
        remedy: "call it with arguments that every reader of JSON reads alike".to_owned(),
    }
}

/// Whether the call can be performed at all for whoever signed it: the sandbox runs one command at a time, at the
/// model's wish; a program inside starts others by itself.
pub(super) fn reachable(action: &Action<'_>) -> Result<(), Denial> {
    match action.target {
        Target::Tool { call, proof: Proof::Client(_), .. } if call.name == COMMAND_RUN => {}
        _ => return Ok(()),
    }
    Err(Denial {
        code: DenialCode::CapabilityMissing,
        rule: format!("tool:{COMMAND_RUN}/door"),
        message: format!("`{COMMAND_RUN}` cannot be called by SMCP: it runs in the turn of the model alone"),
        remedy: "start the program from your own, or call another tool".to_owned(),
    })
}

fn refused(error: &SmcpError) -> Denial {
    Denial {
        code: DenialCode::ToolNotAllowed,
        rule: "node:envelope".to_owned(),
        message: format!("{}: {}.", error.code.name(), error.message),
        remedy: "sign the call that is made, in the session of the execution that makes it".to_owned(),
    }
}
