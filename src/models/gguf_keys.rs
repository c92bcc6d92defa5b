//! The metadata of a GGUF file that describes its model: keys that are read, unsupported values, and keys that are ignored.
//! Source: gguf 0.19.0, `constants.py` (keys); llama.cpp's `src/llama-model.cpp` (which architecture reads which).

use crate::error;
use crate::error::{Error, Result};
use crate::notes::Notes;
use crate::weights::Gguf;

/// Keys (below the architecture) that are read, or that repeat what another key says. Those of the rope are read in
/// `gguf/rope.rs`.
const READ: [&str; 14] = [
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.causal",
    "expert_count",
    "expert_used_count",
    "tensor_data_layout",
];
const ROPE: &str = "rope.";
/// Further keys of single architectures.
const ALSO: [(&str, &[&str]); 3] = [("phi3", &["attention.sliding_window"]), ("gemma2", GEMMA), ("gemma3", GEMMA)];
const GEMMA: &[&str] = &[
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attn_logit_softcapping",
    "final_logit_softcapping",
];

/// Refuses values that the architecture does not support, and notes the keys that are not read.
///
/// # Errors
/// `Decode`, with the file, the key and its value.
pub fn check(file: &Gguf, notes: &Notes) -> Result<()> {
    let Some(architecture) = file.text("general.architecture")? else { return Ok(()) };
    let key = |name: &str| format!("{architecture}.{name}");
    let refused = |name: &str, value: String, known: &str| -> Error {
        error!(Decode, "`{}`: `{}` is {value}", file.path().display(), key(name)).help(format!("llmore knows {known}"))
    };
    if file.flag(&key("attention.causal"))? == Some(false) {
        return Err(refused("attention.causal", "false".to_string(), "models with causal attention"));
    }
    if let Some(count) = file.whole(&key("expert_count"))?.filter(|count| *count > 0) {
        return Err(refused("expert_count", count.to_string(), "models without experts"));
    }
    let length = head_length(file, architecture)?;
    for name in ["attention.key_length", "attention.value_length", "rope.dimension_count"] {
        // Phi-3 rotates only a part of each head.
        let free = name == "rope.dimension_count" && architecture == "phi3";
        if let (Some(value), Some(length)) = (file.whole(&key(name))?, length)
            && value != length
            && !free
        {
            return Err(refused(name, value.to_string(), &format!("the size of the heads here, {length}")));
        }
    }
    let also = ALSO.iter().find(|(name, _)| *name == architecture).map_or(&[][..], |(_, keys)| *keys);
    let own = key("");
    let unread = file.keys().filter(|key| {
        key.strip_prefix(&own)
            .is_some_and(|name| !READ.contains(&name) && !also.contains(&name) && !name.starts_with(ROPE))
    });
    let unread: Vec<String> = unread.map(|key| format!("`{key}`")).collect();
    if !unread.is_empty() {
        notes.add(format!("`{}`: nothing reads {}", file.path().display(), unread.join(", ")));
    }
    if architecture == "gemma2" {
        for (name, usual) in [("attn_logit_softcapping", 50), ("final_logit_softcapping", 30)] {
            if !file.has(&key(name)) {
                let path = file.path().display();
                notes.add(format!("`{path}` has no `{}`: nothing is capped, where llama.cpp uses {usual}", key(name)));
            }
        }
    }
    Ok(())
}

/// The size of a head, from the number of rows of the first layer's queries.
fn head_length(file: &Gguf, architecture: &str) -> Result<Option<u64>> {
    let heads = file.whole(&format!("{architecture}.attention.head_count"))?.filter(|heads| *heads > 0);
    let rows = file.tensor("blk.0.attn_q.weight").and_then(|tensor| tensor.shape.first().copied());
    Ok(match (rows, heads) {
        (Some(rows), Some(heads)) if heads > 0 && (rows as u64).is_multiple_of(heads) => Some(rows as u64 / heads),
        _ => None,
    })
}
