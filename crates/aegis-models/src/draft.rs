//! An answer while it is being assembled, in no dialect.

use aegis_core::limits::{MODEL_ANSWER_BYTES_MAX, TOOL_CALLS_PER_TURN_MAX};
use aegis_core::{FinishReason, MicroUsd, ModelRequest, ToolCall, Usage};
use serde_json::Value;

use crate::fault::Fault;
use crate::names::Names;
use crate::settings::Price;

/// A tool call as it grows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct DraftCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// What is known of an answer so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Draft {
    pub(crate) content: String,
    /// Calls with the number the stream gives them, in the order of their first appearance.
    pub(crate) calls: Vec<(u64, DraftCall)>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) model: Option<String>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) request_id: Option<String>,
    size_bytes: usize,
}

impl Draft {
    /// Counts bytes that are about to be kept.
    fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        self.size_bytes = self.size_bytes.saturating_add(bytes);
        if self.size_bytes > MODEL_ANSWER_BYTES_MAX { Err(Fault::TooLarge) } else { Ok(()) }
    }
    pub(crate) fn add_content(&mut self, text: &str) -> Result<(), Fault> {
        self.grow(text.len())?;
        self.content.push_str(text);
        Ok(())
    }
    /// Adds a fragment to call number `index`; the call begins with its first fragment.
    pub(crate) fn add_call(
        &mut self,
        index: u64,
        id: &str,
        name: &str,
        arguments: &str,
    ) -> Result<(), Fault> {
        self.grow(id.len() + name.len() + arguments.len())?;
        let position = match self.calls.iter().position(|(number, _)| *number == index) {
            Some(position) => position,
            None if self.calls.len() == TOOL_CALLS_PER_TURN_MAX => return Err(Fault::TooManyCalls),
            None => {
                self.calls.push((index, DraftCall::default()));
                self.calls.len() - 1
            }
        };
        if let Some((_, call)) = self.calls.get_mut(position) {
            // Some servers send id and name again with each fragment.
            if call.id.is_empty() {
                call.id.push_str(id);
            }
            if call.name.is_empty() {
                call.name.push_str(name);
            }
            call.arguments.push_str(arguments);
        }
        Ok(())
    }
    /// The calls under their AEGIS names, each with an id no other call of the turn has.
    pub(crate) fn tool_calls(&self, names: &Names, turn: usize) -> Vec<ToolCall> {
        let mut calls: Vec<ToolCall> = Vec::with_capacity(self.calls.len());
        for (position, (_, call)) in self.calls.iter().enumerate() {
            let taken = call.id.is_empty() || calls.iter().any(|earlier| earlier.id == call.id);
            let id = if taken { format!("call_{turn}_{position}") } else { call.id.clone() };
            calls.push(ToolCall { id, name: names.aegis(&call.name), arguments: arguments(&call.arguments) });
        }
        calls
    }
    /// Why the model stopped. A turn with calls is for calling, whatever the server says.
    pub(crate) fn finish(&self) -> FinishReason {
        match self.finish {
            Some(FinishReason::Stop) | None if !self.calls.is_empty() => FinishReason::ToolCalls,
            reason => reason.unwrap_or(FinishReason::Stop),
        }
    }
    /// Usage as reported, or as estimated where the provider reports none.
    pub(crate) fn usage(&self, request: &ModelRequest, price: Price) -> Usage {
        let estimated = self.input_tokens.is_none() || self.output_tokens.is_none();
        let input_tokens = self.input_tokens.unwrap_or_else(|| estimate_input(request));
        let output_tokens = self.output_tokens.unwrap_or_else(|| {
            let calls = self.calls.iter().map(|(_, call)| chars(&call.name) + chars(&call.arguments));
            tokens(chars(&self.content) + calls.sum::<u64>())
        });
        Usage { input_tokens, output_tokens, cost: cost(input_tokens, output_tokens, price), estimated }
    }
}

/// Arguments as JSON; what is not JSON stays a string, nothing at all is an empty object.
fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

/// Four characters are about one token.
fn tokens(chars: u64) -> u64 {
    chars.div_ceil(4)
}

fn estimate_input(request: &ModelRequest) -> u64 {
    let messages = request.messages.iter().map(|message| {
        let calls =
            message.tool_calls.iter().map(|call| chars(&call.name) + chars(&call.arguments.to_string()));
        chars(&message.content) + calls.sum::<u64>()
    });
    let tools = request
        .tools
        .iter()
        .map(|tool| chars(&tool.name) + chars(&tool.description) + chars(&tool.parameters.to_string()));
    tokens(messages.sum::<u64>() + tools.sum::<u64>())
}

/// Price of a call, rounded up to a whole millionth of a dollar.
pub(crate) fn cost(input_tokens: u64, output_tokens: u64, price: Price) -> MicroUsd {
    let part = |tokens: u64, nano_per_1k: u64| u128::from(tokens) * u128::from(nano_per_1k);
    let nano_thousands = part(input_tokens, price.input_nano_usd_per_1k)
        .saturating_add(part(output_tokens, price.output_nano_usd_per_1k));
    MicroUsd::from_micros(u64::try_from(nano_thousands.div_ceil(1_000_000)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn costs_round_up() {
        let price = Price::from_usd_per_1k(0.0025, 0.01);
        assert_eq!(cost(1000, 1000, price).micros(), 12_500);
        assert_eq!(cost(1, 0, price).micros(), 3);
        assert_eq!(cost(0, 0, price).micros(), 0);
        assert_eq!(cost(1, 0, Price::from_usd_per_1k(0.000_000_001, 0.0)).micros(), 1);
        assert_eq!(cost(u64::MAX, u64::MAX, Price::from_usd_per_1k(1e9, 1e9)).micros(), u64::MAX);
    }

    #[test]
    fn fragments_become_calls_in_order() {
        let mut draft = Draft::default();
        for (index, id, name, arguments) in [
            (1, "b", "fs_read", "{\"pa"),
            (0, "", "cmd_run", ""),
            (1, "b", "", "th\":1}"),
            (2, "b", "x", "not json"),
        ] {
            draft.add_call(index, id, name, arguments).unwrap();
        }
        let calls = draft.tool_calls(&Names::of(&[]), 4);
        let shown: Vec<String> =
            calls.iter().map(|c| format!("{} {} {}", c.id, c.name, c.arguments)).collect();
        assert_eq!(shown, [r#"b fs_read {"path":1}"#, "call_4_1 cmd_run {}", r#"call_4_2 x "not json""#]);
        assert_eq!(draft.finish(), FinishReason::ToolCalls);
    }

    proptest! {
        #[test]
        fn costs_never_fall_below_the_exact_price(input in 0u64..1 << 40, output in 0u64..1 << 40, a in 0u64..1 << 40, b in 0u64..1 << 40) {
            let price = Price { input_nano_usd_per_1k: a, output_nano_usd_per_1k: b };
            let exact = u128::from(input) * u128::from(a) + u128::from(output) * u128::from(b);
            let charged = u128::from(cost(input, output, price).micros()) * 1_000_000;
            prop_assert!(charged >= exact.min(u128::from(u64::MAX) * 1_000_000));
            prop_assert!(charged < exact + 1_000_000);
        }
    }
}
