#!/usr/bin/env bash
# transformers 5.24.0: LlavaForConditionalGeneration has a head of its own over the inner model, so the final soft cap of a Gemma 2
# inside it (`final_logit_softcapping`) is not applied: its logits are those of Gemma2ForCausalLM before the cap. The order of
# greedy answers is the same, every probability, loss and perplexity is another.
# Guess it corrects: the same weights give the same logits with and without the picture path around them.
# Output seen: largest logit 41.9 against 1.0 with a cap of 1; tanh of the first is the second to the bit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.15.0 transformers==5.24.0
"$folder/venv/bin/python" -W ignore - <<'PY'
import torch
import transformers

text = transformers.Gemma2Config(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                                 num_key_value_heads=2, head_dim=8, final_logit_softcapping=1.0)
tower = transformers.CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
                                      image_size=14, patch_size=7)
torch.manual_seed(0)
config = transformers.LlavaConfig(vision_config=tower, text_config=text, image_token_index=63)
joined = transformers.LlavaForConditionalGeneration(config).eval()
alone = transformers.Gemma2ForCausalLM(text).eval()
alone.model.load_state_dict(joined.model.language_model.state_dict())
ids = torch.arange(10)[None]
with torch.no_grad():
    head = torch.randn(joined.lm_head.weight.shape)
    joined.lm_head.weight.copy_(head)
    alone.lm_head.weight.copy_(head)
    with_tower, without = joined(input_ids=ids).logits, alone(ids).logits
print(f"largest logit: {with_tower.abs().max():.1f} in LLaVA, {without.abs().max():.1f} in Gemma 2 alone")
assert with_tower.abs().max() > 10 and without.abs().max() <= 1
assert torch.allclose(torch.tanh(with_tower), without, atol=1e-6)
PY
