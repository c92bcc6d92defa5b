//! The treatment of every key of a config.json: read and honored, without effect on the results, supported for some
//! values only, or unknown and then reported. Here are the keys of all families; those that one reads and another ignores are in
//! the files of the architectures (`Architecture::keys`).
//! Sources: the configuration classes of transformers 5.24.0 and 4.49.0; LLaVA-MORE 2460d39, `train/train.py` and
//! `model/builder.py`, and LLaVA 1.2's for the keys that only LLaVA writes.

use serde_json::Value;

use super::config::Config;
use crate::error::Result;

/// The kind of model that a config.json describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An LLM; LLaVA's keys may be among its own.
    Llm,
    /// A vision tower.
    Tower,
    /// A tower together with a text tower: the level above the two.
    TwoTowers,
    /// A model of LLaVA or LLaVA-MORE; the LLM's keys are among its own.
    Llava,
    /// `LlavaForConditionalGeneration`: the level above tower and LLM.
    LlavaOfTransformers,
}

/// What becomes of a key.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// Read; the reader checks type and value.
    Read,
    /// Without effect on the results, whatever the value.
    Harmless,
    /// Not read; only these values (as JSON) are accepted, as any other would change the results. The text is the reason.
    Only(&'static [&'static str], &'static str),
    /// An object or null.
    Object,
    /// A list of the kinds of attention layers that exist.
    LayerTypes,
}
use Meaning::{Harmless, LayerTypes, Object, Only, Read};

/// The meaning of some keys, and their names separated by spaces.
pub type Key = (Meaning, &'static str);

const NO: &[&str] = &["false"];
/// The value of what a family always does.
pub const YES: &[&str] = &["true"];
const NONE: &[&str] = &[];
const ONE: &[&str] = &["1", "1.0"];
const ZERO: &[&str] = &["0", "0.0"];

/// Keys that any config of transformers may have.
const COMMON: &[Key] = &[
    (Read, "model_type transformers_version image_processor_type quantization_config"),
    // Origin and storage.
    (
        Harmless,
        "_name_or_path architectures auto_map dtype torch_dtype torchscript use_bfloat16 tf_legacy_loss \
         _commit_hash _attn_implementation _attn_implementation_autoset attn_implementation \
         _flash_attn_2_enabled transformers.js_config unsloth_version unsloth_fixed model_name \
         custom_pipelines use_cache cache_implementation",
    ),
    // What a forward pass returns.
    (Harmless, "output_attentions output_hidden_states return_dict use_return_dict"),
    // Heads for other tasks.
    (
        Harmless,
        "id2label label2id num_labels problem_type finetuning_task task_specific_params pruned_heads \
         is_encoder_decoder is_decoder add_cross_attention tie_encoder_decoder \
         cross_attention_hidden_size chunk_size_feed_forward prefix classifier_dropout",
    ),
    // Tokens; they are read from the tokenizer and generation_config.json.
    (
        Harmless,
        "bos_token_id eos_token_id pad_token_id sep_token_id unk_token_id cls_token_id mask_token_id \
         decoder_start_token_id tokenizer_class",
    ),
    // Generation, as configs of 4.x had it.
    (
        Harmless,
        "bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping \
         encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id \
         forced_eos_token_id length_penalty max_length max_new_tokens min_length no_repeat_ngram_size \
         num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values \
         repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p",
    ),
    // Training.
    (
        Harmless,
        "attention_dropout hidden_dropout dropout embd_pdrop resid_pdrop attn_pdrop \
         gradient_checkpointing initializer_factor",
    ),
];

const LLM: &[Key] = &[
    (
        Read,
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads \
         num_key_value_heads head_dim max_position_embeddings rms_norm_eps initializer_range \
         tie_word_embeddings model_architecture rope_theta rope_scaling rope_parameters \
         partial_rotary_factor original_max_position_embeddings",
    ),
    (Harmless, "pretraining_tp max_sequence_length is_llama_config full_attn_mod interpolate_factor"),
    (
        Only(NO, "this family does not support it"),
        "attention_bias mlp_bias use_sliding_window use_bidirectional_attention lm_head_bias use_bias \
         qkv_bias projection_bias rope_interleaved use_mrope qk_layernorm use_qk_norm qk_norm alibi \
         parallel_attn use_parallel_residual scale_attn_by_inverse_layer_idx attn_temperature_tuning \
         attention_output_gate use_double_wide_mlp",
    ),
    (Only(YES, "this family always does it"), "scale_attn_weights use_rope is_causal"),
    (
        Only(NONE, "this family does not support it"),
        "attn_logit_softcapping final_logit_softcapping clip_qkv attention_multiplier \
         query_pre_attn_scalar no_rope_layers no_rope_layer_interval nope_layers attention_chunk_size \
         mrope_section hidden_size_per_layer_input num_kv_shared_layers",
    ),
    (
        Only(ONE, "this family has no such factor"),
        "residual_multiplier embedding_multiplier logits_scaling logit_scale scale_emb scale_depth \
         lm_head_multiplier key_multiplier",
    ),
    (
        Only(ZERO, "this family has a single feed-forward per layer"),
        "num_experts num_local_experts n_routed_experts num_experts_per_tok moe_intermediate_size \
         n_shared_experts",
    ),
];

const VISION_TRANSFORMER: &[Key] = &[
    (
        Read,
        "image_size patch_size num_channels hidden_size num_hidden_layers num_attention_heads hidden_act \
         layer_norm_eps initializer_range",
    ),
    (
        Harmless,
        "projection_dim vision_use_head attention_probs_dropout_prob hidden_dropout_prob drop_path_rate \
         use_mask_token encoder_stride pooler_act pooler_output_size logit_scale_init_value vocab_size tie_word_embeddings \
         s2 s2_scales apply_layernorm reshape_hidden_states out_features out_indices stage_names",
    ),
    (Only(YES, "this family always does it"), "attention_bias mlp_bias"),
    (Only(NO, "this family does not support it"), "use_swiglu_ffn use_rope use_qk_norm qk_normalization use_gated_mlp"),
    (Only(ZERO, "this family has none"), "num_register_tokens"),
];

const BOTH_TOWERS: &[Key] = &[
    (Object, "vision_config"),
    (
        Harmless,
        "text_config text_config_dict vision_config_dict projection_dim logit_scale_init_value \
         initializer_range tie_word_embeddings",
    ),
];

/// The keys of LLaVA that LLaVA-MORE reads or writes.
const LLAVA: &[Key] = &[
    (
        Read,
        "mm_vision_tower mm_projector_type mm_vision_select_layer mm_vision_select_feature \
         image_aspect_ratio model_architecture _name_or_path s2 s2_scales mm_projector_pool \
         mm_projector_tokens mm_projector_config llmore unfreeze_mm_vision_tower",
    ),
    // Sizes that follow from the parts, and settings of the training that made the model.
    (
        Harmless,
        "mm_hidden_size use_mm_proj siglip delay_load freeze_mm_mlp_adapter tune_mm_mlp_adapter \
         freeze_mm_vision_resampler tune_mm_vision_resampler mm_projector_lr mm_vision_tower_lr \
         mm_tunable_parts freeze_backbone unfreeze_language_model tokenizer_model_max_length \
         tokenizer_padding_side pretrain_mm_mlp_adapter mm_vision_resampler_lr vision_tower_pretrained",
    ),
    // For tiled pictures (`image_aspect_ratio` anyres is refused) and videos.
    (
        Harmless,
        "image_grid_pinpoints image_crop_resolution image_split_resolution mm_newline_position \
         add_faster_video faster_token_stride force_sample add_time_instruction",
    ),
    (
        Only(NO, "with true, LLaVA puts special tokens around the picture, which no template here writes"),
        "mm_use_im_start_end",
    ),
    (
        Only(NO, "with true, LLaVA adds a token `<im_patch>` to tokenizer and embedding, which llmore does not do"),
        "mm_use_im_patch_token",
    ),
    (Only(&["\"flat\""], "visual tokens are in row order, without tokens for line ends"), "mm_patch_merge_type"),
    (
        Only(NONE, "only `mm_projector_pool` is supported between tower and projector"),
        "mm_resampler_type mm_spatial_pool_stride mm_spatial_pool_mode mm_spatial_pool_out_channels \
         mm_perceiver_depth mm_perceiver_latents mm_perceiver_ff_mult mm_perceiver_pretrained \
         mm_qformer_depth mm_qformer_latents mm_qformer_pretrained",
    ),
];

const LLAVA_OF_TRANSFORMERS: &[Key] = &[
    (Object, "text_config vision_config"),
    (
        Read,
        "projector_hidden_act multimodal_projector_bias vision_feature_layer \
         vision_feature_select_strategy model_architecture image_aspect_ratio",
    ),
    // The same facts are read from the tokenizer (marker), the weights (tied head) and the tower (number of tokens).
    (
        Harmless,
        "image_token_index image_token_id image_seq_length ignore_index tie_word_embeddings vocab_size \
         image_grid_pinpoints initializer_range",
    ),
];

impl Part {
    /// The tables that decide about a key after those of the family, then those of keys that another part's check handles.
    fn tables(self) -> (&'static [&'static [Key]], &'static [&'static [Key]]) {
        match self {
            Part::Llm => (&[LLM, COMMON], &[LLAVA]),
            Part::Tower => (&[VISION_TRANSFORMER, COMMON], &[]),
            Part::TwoTowers => (&[BOTH_TOWERS, COMMON], &[]),
            Part::Llava => (&[LLAVA], &[LLM, COMMON]),
            Part::LlavaOfTransformers => (&[LLAVA_OF_TRANSFORMERS, COMMON], &[]),
        }
    }
}

fn find(tables: &[&[Key]], key: &str) -> Option<Meaning> {
    let mut rows = tables.iter().flat_map(|table| table.iter());
    rows.find(|(_, names)| names.split_whitespace().any(|name| name == key)).map(|(meaning, _)| *meaning)
}

/// Refuses unsupported values that would change the results; unknown keys become a note. `own` are the family's keys;
/// `elsewhere` those that the check of another part handles.
///
/// # Errors
/// `Decode`, naming file, key and value.
pub fn check(config: &Config, part: Part, own: &[Key], elsewhere: &[&[Key]]) -> Result<()> {
    let Some(object) = config.value().as_object() else { return Ok(()) };
    let (deciding, known) = part.tables();
    let (deciding, known) = ([&[own], deciding].concat(), [elsewhere, known].concat());
    let mut unknown = Vec::new();
    for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
        match find(&deciding, key) {
            Some(meaning) => honor(config, key, value, meaning)?,
            None if find(&known, key).is_some() => {}
            None => unknown.push(format!("`{key}`")),
        }
    }
    if !unknown.is_empty() {
        let (them, s) = if unknown.len() == 1 { ("it", "") } else { ("them", "s") };
        config.note(format!(
            "nothing here reads the key{s} {}; code that reads {them} may compute other results",
            unknown.join(", ")
        ));
    }
    Ok(())
}

fn honor(config: &Config, key: &str, value: &Value, meaning: Meaning) -> Result<()> {
    let known = match meaning {
        Read | Harmless => return Ok(()),
        Object if value.is_object() => return Ok(()),
        Object => "an object".to_string(),
        LayerTypes if value.as_array().is_some_and(|types| types.iter().all(|kind| kind == "full_attention")) => {
            return Ok(());
        }
        LayerTypes => "only full_attention in this family".to_string(),
        Only(values, _) if values.contains(&value.to_string().as_str()) => return Ok(()),
        Only([], why) => format!("only null: {why}"),
        Only(values, why) => format!("only {}: {why}", values.join(" or ")),
    };
    Err(config.unsupported(key, &value.to_string(), &known))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{llms, registry};
    use super::*;

    fn checked(value: Value, part: Part) -> std::result::Result<Vec<String>, String> {
        let family = value["model_type"].as_str().unwrap_or_default().to_string();
        let config = Config::new(value, "`config.json`");
        let own = registry::architecture(llms::ALL, &family).map_or(&[][..], |llm| llm.keys);
        let elsewhere = if part == Part::Llava { registry::llm_keys() } else { Vec::new() };
        check(&config, part, own, &elsewhere).map(|()| config.notes().list()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_that_nothing_knows_is_said_and_null_is_not_there() {
        let notes = checked(json!({ "model_type": "llama", "flux": 1, "vocab_size": 3, "gone": null }), Part::Llm);
        let notes = notes.unwrap();
        assert!(matches!(&notes[..], [note] if note.starts_with("`config.json`: nothing here reads the key `flux`;")));
        // A Llama ignores a window: its class in transformers does not read the key either.
        assert_eq!(checked(json!({ "model_type": "llama", "sliding_window": 8 }), Part::Llm).unwrap().len(), 1);
        assert_eq!(checked(json!({ "model_type": "mistral", "sliding_window": 8 }), Part::Llm).unwrap().len(), 0);
    }

    #[test]
    fn what_would_change_numbers_is_refused_by_key() {
        let llm =
            |family: &str, key: &str, value: Value| checked(json!({ "model_type": family, key: value }), Part::Llm);
        let refused = [
            ("llama", "attn_logit_softcapping", json!(50.0)),
            ("qwen2", "final_logit_softcapping", json!(30.0)),
            ("mistral", "attention_bias", json!(true)),
            ("llama", "use_sliding_window", json!(true)),
            ("llama", "layer_types", json!(["full_attention", "chunked_attention"])),
            ("llama", "num_local_experts", json!(8)),
            ("llama", "clip_qkv", json!(8.0)),
            ("llama", "residual_multiplier", json!(0.22)),
            ("llama", "logits_scaling", json!(8)),
            ("llama", "scale_attn_weights", json!(false)),
            ("llama", "rope_interleaved", json!("false")),
            ("gemma2", "use_bidirectional_attention", json!(true)),
        ];
        for (family, key, value) in refused {
            let found = llm(family, key, value.clone()).unwrap_err();
            assert!(found.contains(&format!("`config.json`: `{key}` is `{value}`")), "{found}");
        }
        let fine = [
            ("llama", "rope_interleaved", json!(false)),
            ("llama", "residual_multiplier", json!(1.0)),
            ("llama", "layer_types", json!(["full_attention"])),
            ("qwen2", "use_sliding_window", json!(true)),
            ("gemma2", "attn_logit_softcapping", json!(50.0)),
            ("phi3", "sliding_window", json!(2047)),
            ("llama", "mm_use_im_start_end", json!(true)), // refused by the check of the LLaVA model
        ];
        for (family, key, value) in fine {
            assert_eq!(llm(family, key, value), Ok(Vec::new()), "{family}: {key}");
        }
    }

    #[test]
    fn llavas_keys_are_honored_or_refused() {
        let llava = |key: &str, value: Value| checked(json!({ "model_type": "llava_llama", key: value }), Part::Llava);
        let refused = [
            ("mm_use_im_start_end", json!(true)),
            ("mm_use_im_patch_token", json!(true)),
            ("mm_resampler_type", json!("spatial_pool")),
            ("mm_spatial_pool_stride", json!(2)),
            ("mm_patch_merge_type", json!("spatial_unpad")),
        ];
        for (key, value) in refused {
            assert!(llava(key, value).unwrap_err().contains(key));
        }
        for (key, value) in [("mm_use_im_start_end", json!(false)), ("mm_patch_merge_type", json!("flat"))] {
            assert_eq!(llava(key, value), Ok(Vec::new()));
        }
        let text = json!({ "model_type": "llava", "text_config": "llama" });
        assert!(checked(text, Part::LlavaOfTransformers).unwrap_err().contains("an object"));
    }
}
