//! Parity of `fixtures/parity/models`.
