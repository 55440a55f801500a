//! The conformance suite of the `model` port.
