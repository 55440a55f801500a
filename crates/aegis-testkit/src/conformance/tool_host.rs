//! The conformance suite of the `tool_host` port.
