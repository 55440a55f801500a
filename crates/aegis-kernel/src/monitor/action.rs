//! What goes into the monitor and what comes out.

use aegis_core::{Denial, ModelAnswer, ModelFailure, ToolCall, ToolResult};

use crate::port::{ToolError, ToolFacts};

/// What an action asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// A model call of the inner loop.
    Model { alias: &'a str, turn: u32 },
    /// A tool call of the inner loop; `facts` is `None` for a tool nobody has.
    Tool { turn: u32, index: u32, call: &'a ToolCall, facts: Option<&'a ToolFacts> },
    /// A judge's model call in validation.
    Judge { alias: &'a str, validator: u32, judge: u32 },
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
    /// What the model is told of its tool call.
    Tool,
    /// A refusal; for a tool call the model was told.
    Denied(Denial),
    /// Given up; an unknown outcome is recorded.
    Interrupted,
}
