//! Neural-network building blocks without model names: everything here works on candle tensors and knows
//! nothing of checkpoints, text or images. Functions return `candle_core::Result`.

pub mod ops;
