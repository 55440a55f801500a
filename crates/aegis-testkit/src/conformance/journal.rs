//! The conformance suite of the `journal` port.
