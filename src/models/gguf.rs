//! Describes a GGUF file in terms of Hugging Face: metadata becomes config.json, tensors get the names of
//! transformers. An architecture is one entry of [`ARCHITECTURES`].
//! Source: llama.cpp's `gguf-py/gguf/tensor_mapping.py` and `convert_hf_to_gguf.py`.

mod rope;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::weights::{Change, Gguf, Renamed};
use crate::{bail, error};

/// The largest context length that is accepted.
const LONGEST_CONTEXT: u64 = 1 << 24;

struct Architecture {
    name: &'static str,
    model_type: &'static str,
    class: &'static str,
    /// Query and key rows are stored in adjacent pairs (llama.cpp's order for rotation).
    paired: bool,
    /// Norm weights are stored as `1 + w`.
    plus_one: bool,
    /// Names inside a block that differ from [`BLOCK`].
    block: &'static [(&'static str, &'static str)],
    /// Only a part of each head may be rotated.
    partial: bool,
    /// The tensors of rope factors that it may have.
    rope: &'static [&'static str],
    /// Names of [`BLOCK`] that it lacks.
    lacks: &'static [&'static str],
    /// Groups of linear layers that have biases or not together, each with its key of config.json if there is one.
    biases: &'static [(Option<&'static str>, &'static [&'static str])],
    /// Writes the keys of config.json that this architecture has in addition.
    extra: fn(&Reader, &mut Map<String, Value>) -> Result<()>,
}

const ARCHITECTURES: [Architecture; 5] = [
    Architecture {
        name: "llama",
        model_type: "llama",
        class: "LlamaForCausalLM",
        paired: true,
        plus_one: false,
        block: &[],
        partial: false,
        rope: &rope::TENSORS,
        lacks: &["attn_qkv", "attn_q_norm", "attn_k_norm"],
        biases: &[(Some("attention_bias"), ATTENTION), (Some("mlp_bias"), FEED_FORWARD)],
        extra: |_, _| Ok(()),
    },
    Architecture {
        name: "qwen2",
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        paired: false,
        plus_one: false,
        block: &[],
        partial: false,
        rope: &[],
        lacks: &["attn_qkv", "attn_q_norm", "attn_k_norm"],
        biases: &[(None, QKV)],
        extra: |_, _| Ok(()),
    },
    Architecture {
        name: "phi3",
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        paired: false,
        plus_one: false,
        block: &[("ffn_up", "mlp.gate_up_proj")],
        partial: true,
        rope: &rope::TENSORS,
        lacks: &["attn_q", "attn_k", "attn_v", "attn_q_norm", "attn_k_norm", "ffn_gate"],
        biases: &[],
        extra: phi3,
    },
    Architecture {
        name: "gemma2",
        model_type: "gemma2",
        class: "Gemma2ForCausalLM",
        paired: false,
        plus_one: true,
        block: GEMMA,
        partial: false,
        rope: &[],
        lacks: &["attn_qkv", "attn_q_norm", "attn_k_norm"],
        biases: &[(Some("attention_bias"), ATTENTION)],
        extra: gemma2,
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        paired: false,
        plus_one: true,
        block: GEMMA,
        partial: false,
        rope: &[],
        lacks: &["attn_qkv"],
        biases: &[(Some("attention_bias"), ATTENTION)],
        extra: gemma3,
    },
];

const ATTENTION: &[&str] = &["attn_q", "attn_k", "attn_v", "attn_output"];
const QKV: &[&str] = &["attn_q", "attn_k", "attn_v"];
const FEED_FORWARD: &[&str] = &["ffn_gate", "ffn_up", "ffn_down"];

const OUTSIDE: [(&str, &str); 3] =
    [("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("output", "lm_head")];

const BLOCK: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_qkv", "self_attn.qkv_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const GEMMA: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// Tokens that end a turn, by their names in vocabularies, for files whose keys give no id. llama.cpp stops at them, too.
const TURN_ENDS: [&str; 4] = ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"];

/// The config.json of a file, and its tensors by their names in transformers.
///
/// # Errors
/// `Missing` for an architecture or a key that is not there, `Decode` for a key of a wrong type or a tensor that
/// the architecture does not have.
pub fn describe(file: &Gguf) -> Result<(Value, BTreeMap<String, Renamed>)> {
    let name = file.text("general.architecture")?.ok_or_else(|| file.lacks("general.architecture"))?;
    let Some(architecture) = ARCHITECTURES.iter().find(|known| known.name == name) else {
        let known: Vec<_> = ARCHITECTURES.iter().map(|known| known.name).collect();
        return Err(
            Error::unknown("GGUF architecture", name, &known, "").context(format!("`{}`", file.path().display()))
        );
    };
    let reader = Reader { file, architecture };
    Ok((Value::Object(reader.config()?), reader.names()?))
}

struct Reader<'a> {
    file: &'a Gguf,
    architecture: &'a Architecture,
}

impl Reader<'_> {
    /// The full key: `<architecture>.<key>`
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture.name)
    }

    fn whole(&self, key: &str) -> Result<Option<u64>> {
        self.file.whole(&self.key(key))
    }

    fn required(&self, key: &str) -> Result<u64> {
        self.whole(key)?.ok_or_else(|| self.file.lacks(&self.key(key)))
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        Ok(self.file.text(&self.key(key))?.map(str::to_string))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        self.file.number(&self.key(key))
    }

    fn config(&self) -> Result<Map<String, Value>> {
        let [width, layers, heads] =
            ["embedding_length", "block_count", "attention.head_count"].map(|key| self.required(key));
        let (width, layers, heads, context) = (width?, layers?, heads?, self.required("context_length")?);
        let eps = self.number("attention.layer_norm_rms_epsilon")?;
        let head_dim = match (self.whole("attention.key_length")?, self.whole("rope.dimension_count")?) {
            (Some(length), _) => length,
            (None, Some(length)) if self.architecture.paired => length,
            _ => width / heads.max(1),
        };
        let path = self.file.path().display();
        let embedding = self.file.tensor("token_embd.weight").map(|tensor| tensor.shape.as_slice());
        let Some(&[vocab, _]) = embedding else {
            bail!(Weights, "`{path}` has no matrix `token_embd.weight`");
        };
        // A wrong count would allocate memory before the first missing tensor is noticed.
        let last = format!("blk.{}.", layers.saturating_sub(1));
        if layers == 0 || !self.file.names().any(|name| name.starts_with(&last)) {
            bail!(Weights, "`{path}`: `{}` is {layers}, but there is no tensor `{last}*`", self.key("block_count"));
        }
        if context > LONGEST_CONTEXT {
            bail!(
                Decode,
                "`{path}`: `{}` is {context}; at most {LONGEST_CONTEXT} is accepted",
                self.key("context_length")
            );
        }
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| config.insert(key.to_string(), value);
        put("architectures", json!([self.architecture.class]));
        put("model_type", json!(self.architecture.model_type));
        put("hidden_size", json!(width));
        put("num_hidden_layers", json!(layers));
        put("intermediate_size", json!(self.required("feed_forward_length")?));
        put("num_attention_heads", json!(heads));
        put("num_key_value_heads", json!(self.whole("attention.head_count_kv")?.unwrap_or(heads)));
        put("head_dim", json!(head_dim));
        put("vocab_size", json!(vocab));
        put("max_position_embeddings", json!(context));
        let eps = eps.ok_or_else(|| self.file.lacks(&self.key("attention.layer_norm_rms_epsilon")))?;
        put("rms_norm_eps", json!(eps));
        put("tie_word_embeddings", json!(self.file.tensor("output.weight").is_none()));
        put("bos_token_id", json!(self.file.whole("tokenizer.ggml.bos_token_id")?));
        put("eos_token_id", self.ends()?);
        put("torch_dtype", json!("float32"));
        rope::put(self, &mut config)?;
        let biases = self.architecture.biases.iter().filter(|(_, modules)| self.has_bias(modules));
        config.extend(biases.filter_map(|(key, _)| Some((key.as_ref()?.to_string(), json!(true)))));
        (self.architecture.extra)(self, &mut config)?;
        Ok(config)
    }

    /// The tokens that end a text: end of sequence, and end of turn where there is one.
    fn ends(&self) -> Result<Value> {
        let mut ids: Vec<u64> = Vec::new();
        for key in ["eos", "eot", "eom"] {
            let id = self.file.whole(&format!("tokenizer.ggml.{key}_token_id"))?;
            ids.extend(id.filter(|id| !ids.contains(id)));
        }
        if !self.file.has("tokenizer.ggml.eot_token_id") {
            let tokens = self.file.texts("tokenizer.ggml.tokens")?.unwrap_or_default();
            let ends = (0..).zip(&tokens).filter(|(_, token)| TURN_ENDS.contains(token)).map(|(id, _)| id);
            let ends: Vec<u64> = ends.filter(|id| !ids.contains(id)).collect();
            ids.extend(ends);
        }
        Ok(match ids.as_slice() {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        })
    }

    fn names(&self) -> Result<BTreeMap<String, Renamed>> {
        let mut names = BTreeMap::new();
        let (path, architecture) = (self.file.path().display(), self.architecture.name);
        let layers = self.required("block_count")?;
        for stored in self.file.names().filter(|name| !rope::TENSORS.contains(name)) {
            let Some(name) = self.rename(stored) else {
                let help = match stored.ends_with(".bias") {
                    true => "a model with a bias there would be computed without it",
                    false => "mixtures of experts and adapters are not supported",
                };
                return Err(
                    error!(Decode, "`{path}`: tensor `{stored}` is not one a {architecture} model has").help(help)
                );
            };
            if block(stored).is_some_and(|(layer, _)| layer >= layers) {
                let key = self.key("block_count");
                bail!(Decode, "`{path}`: tensor `{stored}` is of a layer that is not there, `{key}` is {layers}");
            }
            let change = self.change(stored, &name)?;
            names.insert(name, Renamed { stored: stored.to_string(), change });
        }
        self.fill_biases(layers, &mut names);
        Ok(names)
    }

    /// Whether one of these modules has a bias in any layer.
    fn has_bias(&self, modules: &[&str]) -> bool {
        let is = |name: &str| block(name)?.1.strip_suffix(".bias").map(|module| modules.contains(&module));
        self.file.names().any(|name| is(name) == Some(true))
    }

    /// Where only some linear layers of a group have a bias, which config.json cannot express, the missing biases are
    /// zeros.
    fn fill_biases(&self, layers: u64, names: &mut BTreeMap<String, Renamed>) {
        for (_, modules) in self.architecture.biases.iter().filter(|(_, modules)| self.has_bias(modules)) {
            for (layer, module) in (0..layers).flat_map(|layer| modules.iter().map(move |module| (layer, module))) {
                let weight = self.file.tensor(&format!("blk.{layer}.{module}.weight"));
                let name = self.rename(&format!("blk.{layer}.{module}.bias"));
                if let (Some(weight), Some(name)) = (weight, name) {
                    let zeros = Renamed { stored: String::new(), change: Change::Zeros(weight.shape[0]) };
                    names.entry(name).or_insert(zeros);
                }
            }
        }
    }

    /// `blk.3.attn_q.weight` -> `model.layers.3.self_attn.q_proj.weight`
    fn rename(&self, stored: &str) -> Option<String> {
        let (module, kind) = stored.rsplit_once('.').filter(|(_, kind)| ["weight", "bias"].contains(kind))?;
        let find = |table: &[(&str, &str)], name: &str| {
            table.iter().find(|(stored, _)| *stored == name).map(|(_, name)| name.to_string())
        };
        let is_bias = kind == "bias";
        let Some((layer, module)) = block(module) else {
            return Some(format!("{}.{kind}", find(&OUTSIDE, module).filter(|_| !is_bias)?));
        };
        let Architecture { block, lacks, biases, .. } = self.architecture;
        if lacks.contains(&module) || (is_bias && !biases.iter().any(|(_, modules)| modules.contains(&module))) {
            return None;
        }
        let name = find(block, module).or_else(|| find(BLOCK, module))?;
        Some(format!("model.layers.{layer}.{name}.{kind}"))
    }

    fn change(&self, stored: &str, name: &str) -> Result<Change> {
        let kind = name.rsplit('.').nth(1).unwrap_or_default();
        Ok(match kind {
            "q_proj" if self.architecture.paired => Change::Unpair(self.required("attention.head_count")? as usize),
            "k_proj" if self.architecture.paired => {
                let heads = self.whole("attention.head_count_kv")?;
                Change::Unpair(heads.map_or_else(|| self.required("attention.head_count"), Ok)? as usize)
            }
            _ if self.architecture.plus_one && stored.ends_with("norm.weight") => Change::MinusOne,
            _ => Change::None,
        })
    }

    /// A tensor of factors, in f32.
    fn factors(&self, name: &str) -> Result<Option<Vec<f64>>> {
        let Some(tensor) = self.file.tensor(name) else { return Ok(None) };
        if tensor.dtype != candle_core::quantized::GgmlDType::F32 {
            bail!(Decode, "`{}`: tensor `{name}` is not f32", self.file.path().display());
        }
        let (values, _) = self.file.data(tensor).as_chunks::<4>();
        Ok(Some(values.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()))
    }
}

/// `blk.3.attn_q.weight` as its layer and the rest.
fn block(stored: &str) -> Option<(u64, &str)> {
    let (layer, rest) = stored.strip_prefix("blk.")?.split_once('.')?;
    Some((u64::from(layer.parse::<u32>().ok()?), rest))
}

fn phi3(reader: &Reader, config: &mut Map<String, Value>) -> Result<()> {
    let window = reader.whole("attention.sliding_window")?.filter(|size| *size > 0);
    config.insert("sliding_window".to_string(), json!(window));
    Ok(())
}

fn gemma2(reader: &Reader, config: &mut Map<String, Value>) -> Result<()> {
    gemma(reader, config, 46)?;
    config.insert("attn_logit_softcapping".to_string(), json!(reader.number("attn_logit_softcapping")?));
    Ok(())
}

fn gemma3(reader: &Reader, config: &mut Map<String, Value>) -> Result<()> {
    gemma(reader, config, 62)?;
    config.insert("sliding_window_pattern".to_string(), json!(6));
    config.insert("rope_local_base_freq".to_string(), json!(reader.number("rope.freq_base_swa")?.unwrap_or(10_000.0)));
    Ok(())
}

/// Both Gemmas; the largest model, with `largest` layers, scales scores by width / heads instead of by the size of a head.
fn gemma(reader: &Reader, config: &mut Map<String, Value>, largest: u64) -> Result<()> {
    let read = |key: &str| config[key].as_u64().unwrap_or_default();
    let layers = read("num_hidden_layers");
    let scalar = match layers == largest {
        true => read("hidden_size") / read("num_attention_heads").max(1),
        false => read("head_dim"),
    };
    config.insert("query_pre_attn_scalar".to_string(), json!(scalar));
    config.insert("hidden_activation".to_string(), json!("gelu_pytorch_tanh"));
    config.insert("sliding_window".to_string(), json!(reader.required("attention.sliding_window")?));
    config.insert("final_logit_softcapping".to_string(), json!(reader.number("final_logit_softcapping")?));
    if let Some(local) = local_layers(reader, layers)? {
        let kind = |local: bool| if local { "sliding_attention" } else { "full_attention" };
        config.insert("layer_types".to_string(), local.into_iter().map(kind).collect());
    }
    Ok(())
}

/// Which layers have the window: a value for each layer, or a period of which the last layer has none.
fn local_layers(reader: &Reader, layers: u64) -> Result<Option<Vec<bool>>> {
    let key = reader.key("attention.sliding_window_pattern");
    if reader.file.is_array(&key) {
        return reader.file.flags(&key);
    }
    let Some(period) = reader.file.whole(&key)? else { return Ok(None) };
    Ok(Some((1..=layers).map(|layer| period == 0 || layer % period != 0).collect()))
}
