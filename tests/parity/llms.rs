//! Parity of `fixtures/parity/llms`.
