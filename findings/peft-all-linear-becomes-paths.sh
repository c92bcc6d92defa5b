#!/usr/bin/env bash
# peft 0.21.2 saves `target_modules="all-linear"` in two ways. Where fewer than 20 modules match, adapter_config.json holds their full
# paths (`model.layers.0.mlp.down_proj`); from 20 on it holds the shortest ends that tell them apart (`down_proj`). A reader that
# compares the entries with names of layers finds none of them in the adapter of a small model.
# Guess it corrects: "all-linear" is saved as seven names, whatever the size of the Llama.
# Output seen: 2 layers (14 modules): 14 paths; 3 layers (21 modules): 7 names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 transformers==5.24.0 peft==0.21.2
"$folder/venv/bin/python" -W ignore - <<'PY'
import peft
import transformers


def saved(layers):
    config = transformers.LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=layers,
                                      num_attention_heads=2, num_key_value_heads=2)
    model = peft.get_peft_model(transformers.LlamaForCausalLM(config), peft.LoraConfig(target_modules="all-linear"))
    return sorted(model.peft_config["default"].target_modules)


two, three = saved(2), saved(3)
print(f"2 layers: {len(two)} entries, the first {two[0]}; 3 layers: {len(three)} entries, the first {three[0]}")
assert len(two) == 14 and all(entry.startswith("model.layers.") for entry in two), two
assert three == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"], three
PY
