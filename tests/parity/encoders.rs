//! Parity of `fixtures/parity/encoders`.
