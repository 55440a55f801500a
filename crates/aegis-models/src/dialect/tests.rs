//! Whatever comes, reading it ends in an answer or a fault.

use aegis_core::limits::MODEL_ANSWER_BYTES_MAX;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Dialect, Reader};

const DIALECTS: [Dialect; 2] = [Dialect::OpenAi { vendor: false }, Dialect::Anthropic];

/// JSON with the fields the protocols use, in places and of types they do not.
fn odd_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "(text|tool_use|message_start|content_block_delta|message_delta|stop|é*)".prop_map(Value::from),
    ];
    let field = prop_oneof![
        Just("choices"),
        Just("delta"),
        Just("message"),
        Just("content"),
        Just("tool_calls"),
        Just("function"),
        Just("arguments"),
        Just("index"),
        Just("usage"),
        Just("type"),
        Just("content_block"),
        Just("text"),
        Just("partial_json"),
        Just("finish_reason"),
        Just("input_tokens"),
        Just("prompt_tokens"),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::btree_map(field.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn read(mut reader: Reader, events: &[String]) -> bool {
    events.iter().all(|event| reader.event(event).is_ok()) && reader.end().is_ok()
}

proptest! {
    #[test]
    fn odd_values_are_read_or_refused(values in proptest::collection::vec(odd_json(), 1..6)) {
        let events: Vec<String> = values.iter().map(Value::to_string).collect();
        for dialect in DIALECTS {
            let _ = read(dialect.reader(), &events);
            let _ = dialect.reader().whole(events[0].as_bytes());
        }
    }
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        for dialect in DIALECTS {
            let _ = read(dialect.reader(), &[String::from_utf8_lossy(&bytes).into_owned()]);
            let _ = dialect.reader().whole(&bytes);
        }
    }
}

#[test]
fn no_stream_grows_without_bound() {
    let piece = "x".repeat(64 << 10);
    let openai =
        json!({"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}]});
    let anthropic = json!({"type": "content_block_delta", "delta": {"type": "text_delta", "text": piece}});
    for (dialect, event) in DIALECTS.into_iter().zip([openai, anthropic]) {
        let (mut reader, event) = (dialect.reader(), event.to_string());
        let taken = (0..).find(|_| reader.event(&event).is_err()).unwrap();
        assert_eq!(taken, MODEL_ANSWER_BYTES_MAX / piece.len());
    }
}

#[test]
fn deep_json_is_refused() {
    let deep = "[".repeat(100_000);
    for dialect in DIALECTS {
        assert!(dialect.reader().whole(deep.as_bytes()).is_err());
        assert!(dialect.reader().event(&deep).is_err());
    }
}
