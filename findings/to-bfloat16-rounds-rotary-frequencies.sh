#!/usr/bin/env bash
# transformers 5.24.0: `model.to(torch.bfloat16)` rounds the rotary frequencies too (`inv_freq` is a buffer), and they are in no
# file. What was cast, saved and opened again has the same weights to the bit and other logits, and casting back to f32 does not
# help; `from_pretrained(folder, dtype=torch.bfloat16)` keeps the frequencies in f32.
# Guess it corrects: a model that is cast, and the folder it saves, compute the same in f32.
# Output seen: weights equal; largest difference of logits 0.014 at 60 positions, of frequencies 9.8e-05.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 transformers==5.24.0
"$folder/venv/bin/python" -W ignore - <<'PY'
import math
import tempfile

import torch
import transformers

config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                                  num_key_value_heads=4)
torch.manual_seed(0)
model = transformers.LlamaForCausalLM(config).eval()
with torch.no_grad():
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.copy_(torch.randn(weight.shape) / math.sqrt(weight.shape[1]))
model.to(torch.bfloat16)
with tempfile.TemporaryDirectory() as folder:
    model.save_pretrained(folder)
    again = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    kept = transformers.LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
model.float()
ids = torch.arange(60)[None]
equal = all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
with torch.no_grad():
    apart = (model(ids).logits - again(ids).logits).abs().max().item()
frequencies = (model.model.rotary_emb.inv_freq - again.model.rotary_emb.inv_freq).abs().max().item()
print(f"weights equal: {equal}; logits differ by {apart:.2g}, frequencies by {frequencies:.2g}")
assert equal and apart > 2e-4 and frequencies > 1e-5
assert kept.model.rotary_emb.inv_freq.dtype == torch.float32
PY
