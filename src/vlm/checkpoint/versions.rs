//! What `LlavaForConditionalGeneration` computes depends on the version of transformers in two points, and a folder says
//! with `transformers_version` which one wrote it.
//!
//! | version | Gemma-2 multiplies by sqrt(width) | final soft-cap |
//! | --- | --- | --- |
//! | up to 4.51 | all that enters the first block, visual tokens too | that of the LLM |
//! | 4.52 to 5.3 | the same | none: LLaVA has a head of its own |
//! | from 5.4 | token embeddings only | none |
//!
//! Source: `modeling_llava.py` and `modeling_gemma2.py` of 4.49.0, 4.51.3, 4.52.0, 4.57.3, 5.3.0, 5.4.0 and 5.24.0. Gemma-3 scales
//! token embeddings only in all of them. LLaVA-MORE and layout llava-more are as up to 4.51.

use serde_json::{Value, json};

use crate::error::Result;
use crate::models::config::Config;
use crate::models::llms::gemma2::EMBEDDING_SCALE;
use crate::models::registry;
use crate::nn::decoder::{DecoderSpec, EmbeddingScale};

/// The first version whose LLaVA has a head of its own, without a soft-cap.
const OWN_HEAD: (u64, u64) = (4, 52);
/// The first version whose Gemma-2 scales token embeddings only.
const SCALED_TOKENS: (u64, u64) = (5, 4);
/// What layout transformers says it was written by where visual tokens are scaled or logits capped, and where neither is.
const OLD: &str = "4.51.3";
const NEW: &str = "5.24.0";

/// The LLM's config of a folder, changed so that it means what the version that wrote the folder computes. Said where
/// versions differ for this LLM.
pub(super) fn as_written(config: &Config, text: Config) -> Result<Config> {
    let Ok(spec) = registry::llm_spec(&text) else { return Ok(text) };
    let written = config.string("transformers_version", "")?;
    let (scaled, capped) = (spec.embedding_scale == EmbeddingScale::Inputs, spec.logit_softcap.is_some());
    if !scaled && !capped {
        return Ok(text);
    }
    let Some(version) = number(&written) else {
        if !written.is_empty() {
            return Err(config.unsupported("transformers_version", &written, "versions like 4.49.0 and 5.24.0"));
        }
        config.note(format!(
            "no `transformers_version`: {}, as LLaVA-MORE and transformers up to 4.51; newer ones do not",
            said(scaled, capped)
        ));
        return Ok(text);
    };
    let (tokens, uncapped) = (scaled && version >= SCALED_TOKENS, capped && version >= OWN_HEAD);
    let not = |is: bool| if is { "not " } else { "" };
    let said: Vec<String> = [
        scaled.then(|| format!("visual tokens are {}multiplied by sqrt(hidden_size)", not(tokens))),
        capped.then(|| format!("final logits are {}soft-capped", not(uncapped))),
    ]
    .into_iter()
    .flatten()
    .collect();
    let others = match tokens || uncapped {
        true => "in LLaVA-MORE and transformers up to 4.51 they are",
        false => "in newer versions they are not",
    };
    config.note(format!("written by transformers {written} and computed as there: {}; {others}", said.join(", ")));
    let text = if tokens { text.with(EMBEDDING_SCALE, json!("tokens")) } else { text };
    Ok(if uncapped { text.with("final_logit_softcapping", Value::Null) } else { text })
}

fn said(scaled: bool, capped: bool) -> &'static str {
    match (scaled, capped) {
        (true, true) => "visual tokens are multiplied by sqrt(hidden_size) and final logits soft-capped",
        (true, false) => "visual tokens are multiplied by sqrt(hidden_size)",
        _ => "final logits are soft-capped",
    }
}

/// Major and minor number.
fn number(version: &str) -> Option<(u64, u64)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The version that computes what an LLM of this family does here, for a folder that is written.
pub(in crate::vlm) fn of(spec: &DecoderSpec, family: &str) -> &'static str {
    if family == "gemma2" && spec.embedding_scale == EmbeddingScale::Tokens { NEW } else { OLD }
}

/// What a person has to know who loads such a folder with transformers.
pub(in crate::vlm) fn note(spec: &DecoderSpec, family: &str) -> Option<&'static str> {
    match (family, spec.embedding_scale, spec.logit_softcap) {
        ("gemma2", EmbeddingScale::Tokens, _) => Some(
            "Gemma-2 in LlavaForConditionalGeneration: transformers from 5.4 on computes the same; up to 5.3 it multiplies the \
             visual tokens by sqrt(width), so its logits and answers differ",
        ),
        ("gemma2", _, None) => Some(
            "Gemma-2 in LlavaForConditionalGeneration: transformers up to 5.3 multiplies the visual tokens by sqrt(width), as \
             llmore does here; from 5.4 on it does not, so its logits and answers differ",
        ),
        ("gemma2", _, Some(_)) => Some(
            "Gemma-2 in LlavaForConditionalGeneration: transformers up to 4.51 multiplies the visual tokens by sqrt(width) and \
             soft-caps the final logits, as llmore and LLaVA-MORE do; from 4.52 on it does not soft-cap them, from 5.4 on it \
             does neither, so its logits and answers differ",
        ),
        (_, _, Some(_)) => Some(
            "a final soft-cap in LlavaForConditionalGeneration: transformers up to 4.51 applies it, as llmore does; from 4.52 \
             on it does not, so its logits and answers differ",
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The spec of a Gemma inside a folder of this version, and whether something was said.
    fn read(model_type: &str, version: Value) -> (EmbeddingScale, Option<f64>, usize) {
        let text = json!({ "model_type": model_type, "final_logit_softcapping": 30.0 });
        let config = Config::new(json!({ "transformers_version": version }), "config.json");
        let text = as_written(&config, Config::new(text, "text_config")).unwrap();
        let spec = registry::llm_spec(&text).unwrap();
        (spec.embedding_scale, spec.logit_softcap, config.notes().list().len())
    }

    #[test]
    fn a_gemma_computes_what_the_version_that_wrote_it_does() {
        let (inputs, tokens) = (EmbeddingScale::Inputs, EmbeddingScale::Tokens);
        for (version, expected) in [
            (Value::Null, (inputs, Some(30.0), 1)),
            (json!("4.49.0"), (inputs, Some(30.0), 1)),
            (json!("4.52.0.dev0"), (inputs, None, 1)),
            (json!("5.3.0"), (inputs, None, 1)),
            (json!("5.4.0"), (tokens, None, 1)),
            (json!("5.24.0"), (tokens, None, 1)),
        ] {
            assert_eq!(read("gemma2", version.clone()), expected, "{version}");
            let cap = expected.1;
            assert_eq!(read("gemma3_text", version.clone()), (tokens, cap, 1), "{version}");
        }
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        for version in [OLD, "4.57.0", NEW] {
            let (embedding_scale, logit_softcap, _) = read("gemma2", json!(version));
            let text = Config::new(json!({ "model_type": "gemma2" }), "text_config");
            let spec = DecoderSpec { embedding_scale, logit_softcap, ..registry::llm_spec(&text).unwrap() };
            let config = Config::new(json!({ "transformers_version": of(&spec, "gemma2") }), "config.json");
            let text = text.with("final_logit_softcapping", json!(logit_softcap));
            let again = registry::llm_spec(&as_written(&config, text).unwrap()).unwrap();
            assert_eq!((again.embedding_scale, again.logit_softcap), (embedding_scale, logit_softcap), "{version}");
            assert!(note(&spec, "gemma2").is_some());
        }
    }
}
