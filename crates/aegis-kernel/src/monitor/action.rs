//! What goes into the monitor and what comes out.

use std::sync::{Arc, Mutex};

use aegis_core::{Denial, ModelAnswer, ModelFailure, ToolCall, ToolResult};
use aegis_security::egress::EgressRules;
use aegis_security::smcp::checks::{Admitted, Session};
use aegis_security::smcp::{Envelope, SmcpError};

use crate::port::{EgressOutcome, EgressRequest, ToolError, ToolFacts};

/// What an action asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A model call of the inner loop.
    Model { alias: &'a str, turn: u32 },
    /// A tool call; `facts` is `None` for a tool nobody has. `turn` and `index` are its place in the inner loop, 0 for
    /// one from outside it.
    Tool { turn: u32, index: u32, call: &'a ToolCall, facts: Option<&'a ToolFacts>, proof: Proof<'a> },
    /// A connection that leaves the sandbox, or a tool's. What a permission holds for it comes out through `opened`.
    Connect { request: &'a EgressRequest, opened: &'a Mutex<Option<Opened>> },
    /// A judge's model call in validation.
    Judge { alias: &'a str, validator: u32, judge: u32 },
}

/// What a permitted connection is made under.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    /// The layers that are asked about addresses too.
    pub(crate) layers: Arc<[EgressRules]>,
    /// Whether something else than TLS to the named host may pass through a tunnel.
    pub(crate) raw: bool,
}

/// Who says that a tool is to be called.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Proof<'a> {
    /// The daemon: a model called it in the inner loop. The call that cannot be signed cannot be made.
    Kernel { envelope: Result<&'a Envelope, &'a SmcpError>, session: &'a Session },
    /// Nobody: it is only asked what policy would say. A pass refuses it.
    Nobody,
    /// A program that signed it itself; the envelope passed the door's checks.
    Client(&'a Admitted),
}

/// One wish of an agent, or of a validator on its behalf.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Action<'a> {
    /// What it asks for.
    pub(crate) target: Target<'a>,
    /// The sandbox generation it comes from; 0 for judges.
    pub(crate) generation: u32,
}

/// What came of performing it.
#[derive(Debug)]
pub(crate) enum Performed {
    /// A model answered, or not.
    Model(Result<ModelAnswer, ModelFailure>),
    /// A tool answered, or not.
    Tool(Result<ToolResult, ToolError>),
    /// A connection was made, or not, and is over.
    Connection(EgressOutcome),
    /// It was given up while under way; its effect may or may not have happened.
    Interrupted,
}

/// What the pass as a whole ended in; all of it is recorded.
#[derive(Debug)]
pub(crate) enum Settled {
    /// A model's answer.
    Model(ModelAnswer),
    /// A model's failure.
    ModelFailed(ModelFailure),
    /// What its caller is told of a tool call, and the rule, if one withheld the tool's own answer.
    Tool { result: ToolResult, denied: Option<Denial> },
    /// A connection is over.
    Connection,
    /// A refusal; for a tool call the model was told.
    Denied(Denial),
    /// Given up; an unknown outcome is recorded.
    Interrupted,
}
