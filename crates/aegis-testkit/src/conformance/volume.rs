//! The conformance suite of the `volume` port.
