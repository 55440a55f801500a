//! The conformance suite of the `sandbox` port.
