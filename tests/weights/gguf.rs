//! GGUF files: biases, keys, parts, vocabularies.

use super::*;

/// A GGUF file as values and tensors, to be changed and written.
struct Changed {
    values: Vec<(String, Value)>,
    tensors: Vec<(String, QTensor)>,
}

impl Changed {
    fn read(path: &Path) -> Self {
        let mut file = std::fs::File::open(path).unwrap();
        let content = gguf_file::Content::read(&mut file).unwrap();
        let tensors = content.tensor_infos.keys();
        let tensors = tensors.map(|name| (name.clone(), content.tensor(&mut file, name, &Device::Cpu).unwrap()));
        Changed { tensors: tensors.collect(), values: content.metadata.into_iter().collect() }
    }

    fn set(&mut self, key: &str, value: Option<Value>) -> &mut Self {
        self.values.retain(|(known, _)| known != key);
        self.values.extend(value.map(|value| (key.to_string(), value)));
        self
    }

    fn put(&mut self, name: &str, tensor: &Tensor) -> &mut Self {
        self.tensors.retain(|(known, _)| known != name);
        self.tensors.push((name.to_string(), QTensor::quantize(tensor, GgmlDType::F32).unwrap()));
        self
    }

    fn write(&self, path: &Path) -> PathBuf {
        write_gguf(path, &self.values, &self.tensors.iter().collect::<Vec<_>>());
        path.to_path_buf()
    }

    fn llm(&self, name: &str) -> llmore::error::Result<Llm> {
        open_with(&self.write(&scratch(name).join("model.gguf")), None)
    }
}

fn write_gguf(path: &Path, values: &[(String, Value)], tensors: &[&(String, QTensor)]) {
    let values: Vec<(&str, &Value)> = values.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut std::fs::File::create(path).unwrap(), &values, &tensors).unwrap();
}

fn biased() -> Changed {
    Changed::read(&Path::new(CASES).join("gguf-mlp-bias/model.gguf"))
}

#[test]
fn biases_of_a_gguf_are_computed_or_refused() {
    let case = Path::new(CASES).join("gguf-mlp-bias");
    let ids: Vec<u32> = (0..24).map(|i| (i * 7 + 13) % 295 + 4).collect();
    let theirs = TensorFiles::open(&case.join("expected.safetensors")).unwrap().load("logits", &Device::Cpu).unwrap();
    let ours = logits_of(&open(&case.join("model.gguf")), &ids);
    assert!(worst(&ours, &theirs.reshape(ours.shape()).unwrap()) < 1e-4);
    // One bias alone is that bias and zeros beside it: what config.json can say, written out.
    for (lone, group) in [
        ("attn_output", ["attn_q", "attn_k", "attn_v", "attn_output"].as_slice()),
        ("attn_k", &["attn_q", "attn_k", "attn_v", "attn_output"]),
        ("ffn_down", &["ffn_gate", "ffn_up", "ffn_down"]),
    ] {
        let rows = |file: &Changed, module: &str| {
            let name = format!("blk.0.{module}.weight");
            file.tensors.iter().find(|(known, _)| *known == name).unwrap().1.shape().dims()[0]
        };
        let (mut alone, mut all) = (biased(), biased());
        for file in [&mut alone, &mut all] {
            file.tensors.retain(|(name, _)| !name.ends_with(".bias"));
        }
        let bias = Tensor::arange(0f32, rows(&alone, lone) as f32, &Device::Cpu).unwrap().affine(0.05, -0.3).unwrap();
        for module in group {
            let zeros = Tensor::zeros(rows(&all, module), DType::F32, &Device::Cpu).unwrap();
            all.put(&format!("blk.0.{module}.bias"), if *module == lone { &bias } else { &zeros });
        }
        let without = logits_of(&alone.llm("bias-none").unwrap(), &ids);
        alone.put(&format!("blk.0.{lone}.bias"), &bias);
        let alone = logits_of(&alone.llm("bias-alone").unwrap(), &ids);
        assert_eq!(worst(&alone, &logits_of(&all.llm("bias-all").unwrap(), &ids)), 0.0, "{lone}");
        assert!(worst(&alone, &without) > 1e-2, "{lone}");
    }
    let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
    for name in [
        "output.bias",
        "output_norm.bias",
        "blk.0.attn_norm.bias",
        "blk.0.attn_q_norm.weight",
        "blk.1.attn_q.weight",
        "rope_else.weight",
    ] {
        let text = biased().put(name, &one).llm("bias-refused").map(drop).unwrap_err().to_string();
        assert!(text.contains(&format!("tensor `{name}` is ")), "{text}");
    }
}

#[test]
fn keys_of_a_gguf_are_honored_refused_or_named() {
    let refused = [
        ("llama.attention.causal", Value::Bool(false), "`llama.attention.causal` is false"),
        ("llama.expert_count", Value::U32(8), "`llama.expert_count` is 8"),
        ("llama.attention.value_length", Value::U32(3), "`llama.attention.value_length` is 3"),
        ("llama.rope.dimension_count", Value::U32(2), "`llama.rope.dimension_count` is 2"),
    ];
    for (key, value, expected) in refused {
        let text = biased().set(key, Some(value)).llm("key-refused").map(drop).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let llm = biased().set("llama.logit_scale", Some(Value::F32(0.1))).llm("key-noted").unwrap();
    assert!(notes(&llm).contains("nothing reads `llama.logit_scale`"), "{}", notes(&llm));
    assert_eq!(notes(&biased().set("general.name", None).llm("key-quiet").unwrap()), "");
}

#[test]
fn a_gguf_in_parts_is_one_model() {
    let whole = biased();
    let expected = logits(&whole.llm("parts-whole").unwrap());
    let folder = scratch("gguf-parts");
    let part = |number: usize| folder.join(format!("m-{number:05}-of-00003.gguf"));
    let mut sorted: Vec<&(String, QTensor)> = whole.tensors.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(&b.0));
    let count = Value::I32(sorted.len() as i32);
    let split = |no: u16| {
        let of = [("split.no", Value::U16(no)), ("split.count", Value::U16(3)), ("split.tensors.count", count.clone())];
        of.map(|(key, value)| (key.to_string(), value)).to_vec()
    };
    // The first part has all metadata and no tensor, as `--no-tensor-first-split` makes it.
    let head: Vec<_> = whole.values.iter().cloned().chain(split(0)).collect();
    write_gguf(&part(1), &head, &[]);
    let (left, right) = sorted.split_at(sorted.len() / 2);
    write_gguf(&part(2), &split(1), left);
    write_gguf(&part(3), &split(2), right);
    for path in [part(1), part(3), folder.clone()] {
        assert_eq!(worst(&logits(&open(&path)), &expected), 0.0, "{}", path.display());
    }
    assert_eq!(Tokenizer::open(&part(2)).unwrap().vocab(), Tokenizer::open(&part(1)).unwrap().vocab());
    // A part twice, a renamed part, a missing part.
    write_gguf(&part(3), &split(2), left);
    assert!(refused(&part(1)).contains("is in another part as well"));
    write_gguf(&part(3), &split(1), right);
    assert!(refused(&part(1)).contains("`split.no` is 1, expected 2 by the file's name"));
    write_gguf(&part(3), &split(2), &right[1..]);
    assert!(refused(&part(1)).contains("`split.tensors.count` is"));
    std::fs::remove_file(part(2)).unwrap();
    assert!(refused(&part(1)).contains("m-00002-of-00003.gguf"), "{}", refused(&part(1)));
    let alone = scratch("gguf-part").join("renamed.gguf");
    std::fs::copy(part(1), &alone).unwrap();
    assert!(refused(&alone).contains("one of 3 parts of a model"), "{}", refused(&alone));
}

fn texts(values: &[&str]) -> Value {
    Value::Array(values.iter().map(|value| Value::String(value.to_string())).collect())
}

#[test]
fn a_vocabulary_without_its_cut_is_said_and_that_of_llama_3_known() {
    let case = Path::new(CASES).join("gguf-pre-absent");
    let [with, without] = ["with-pre.gguf", "without-pre.gguf"].map(|name| Tokenizer::open(&case.join(name)).unwrap());
    assert_eq!(with.notes().list(), [""; 0]);
    assert_eq!(with.encode("I'M 1234").unwrap(), without.encode("I'M 1234").unwrap());
    assert_eq!(without.bos(), without.token_id("<|begin_of_text|>"));
    let text = without.notes().list().join("\n");
    assert!(text.contains("has no `tokenizer.ggml.pre`: text is cut as Llama 3 does"), "{text}");
    // Without those tokens GPT-2's cut is a guess, by the key's absence and by its default.
    for pre in [None, Some(Value::String("default".to_string()))] {
        let mut file = Changed::read(&case.join("without-pre.gguf"));
        let tokens = file.values.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens").unwrap();
        let Value::Array(tokens) = &mut tokens.1 else { panic!("no array") };
        for token in tokens.iter_mut().filter(|token| token.to_string().unwrap().starts_with("<|")) {
            *token = Value::String(token.to_string().unwrap().replace("of_text", "of_story"));
        }
        file.set("tokenizer.ggml.pre", pre);
        let guessed = Tokenizer::open(&file.write(&scratch("pre").join("x.gguf"))).unwrap();
        assert_eq!(guessed.bos(), None);
        assert!(guessed.notes().list()[0].contains("text is cut by GPT-2's rule"), "{:?}", guessed.notes());
    }

    let mut file = Changed::read(&case.join("with-pre.gguf"));
    file.set("tokenizer.ggml.merges", Some(texts(&["a \u{1f600}"])));
    let text = Tokenizer::open(&file.write(&scratch("merge").join("x.gguf"))).unwrap_err().to_string();
    assert!(
        text.contains("`tokenizer.ggml.merges`[0] is") && text.contains("is not in `tokenizer.ggml.tokens`"),
        "{text}"
    );
    assert!(!text.contains("tokenizer.json"), "{text}");
}

#[test]
fn generate_stops_at_the_end_of_turn_of_the_vocabulary() {
    let place = |file: &Changed, key: &str| file.values.iter().position(|(known, _)| known == key).unwrap();
    for end in ["<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>"] {
        let mut file = biased();
        file.set("tokenizer.ggml.eot_token_id", None);
        let at = place(&file, "tokenizer.ggml.tokens");
        let Value::Array(tokens) = &mut file.values[at].1 else { panic!("no array") };
        let id = tokens.len() - 1;
        tokens[id] = Value::String(end.to_string());
        assert!(file.llm("ends").unwrap().end_ids.contains(&(id as u32)), "{end}");
        file.set("tokenizer.ggml.eot_token_id", Some(Value::U32(7)));
        let ids = file.llm("ends").unwrap().end_ids;
        assert!(ids.contains(&7) && !ids.contains(&(id as u32)), "{end}: {ids:?}");
    }
}

#[test]
fn a_gguf_type_that_is_not_computed_is_called_by_its_name() {
    let path = scratch("types").join("x.gguf");
    let whole = std::fs::read(biased().write(&path)).unwrap();
    let name = b"output_norm.weight";
    let at = whole.windows(name.len()).position(|window| window == name).unwrap() + name.len();
    for (number, expected) in
        [(39u32, "MXFP4"), (34, "TQ1_0"), (35, "TQ2_0"), (20, "IQ4_NL"), (40, "NVFP4"), (42, "Q2_0"), (31, "Q4_0_4_4")]
    {
        let mut bytes = whole.clone();
        bytes[at + 12..at + 16].copy_from_slice(&number.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let text = refused(&path);
        assert!(text.contains(&format!("tensor `output_norm.weight`: it is of type {expected},")), "{text}");
        assert!(text.contains("llmore computes f32"), "{text}");
    }
}
