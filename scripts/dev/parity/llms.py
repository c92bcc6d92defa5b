"""Parity cases of the group `llms`; see make_parity.py.

Two versions of transformers make them: 4.49.0, the reference's, and 5.23.0 for what it does not know (Gemma-3) and
for the config.json that newer versions write. `CASES` holds what the installed version is for.

Weights are random in all tensors, norms and biases included, and rounded to bf16, in which they are stored; everything is
computed in f32 with eager attention. `expected.safetensors`: `ids` (length), `hidden.<n>` the final norm of
the hidden state after block n (length, width), `attention` the last row's probabilities (blocks, heads, length),
`logits` (length, vocab), `loss` the mean cross-entropy of the next ids, and, where a case says so, `gradient.<tensor>`
of that loss. `config.json` has only what differs from the defaults, unless the case is about how it is written
(`brief=False`).
"""

import json
import math

import torch
import transformers
from safetensors.torch import save_file

SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, initializer_range=0.15)


def randomize(model, seed):
    """Every parameter: normal, norms around what leaves their input alone; bf16 values."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 1:
            centered = name.endswith("norm.weight") and "Gemma" not in type(model).__name__
            value = 0.3 * noise + (1.0 if centered and "bias" not in name else 0.0)
        else:
            gain = 1.0 if "embed_tokens" in name or "lm_head" in name else 1.4
            value = gain * noise / math.sqrt(tensor.shape[1])
        tensor.data = value.to(torch.bfloat16).float()


def case(kind, length, seed, gradients=False, brief=True, **changes):
    """A function that writes a case of `<kind>ForCausalLM`; `brief` leaves what is a default out of config.json."""

    def make(folder):
        config = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes})
        config._attn_implementation = "eager"
        model = getattr(transformers, f"{kind.replace('Text', '')}ForCausalLM")(config).eval()
        randomize(model, seed)
        model.tie_weights()
        write_checkpoint(model, folder, brief)
        write_expected(model, folder, length, gradients)

    return make


def write_checkpoint(model, folder, brief):
    config = model.config.to_diff_dict()
    if brief:
        defaults = type(model.config)().to_dict()
        config = {key: value for key, value in config.items() if key not in defaults or value != defaults[key]}
        if config["num_hidden_layers"] == 7:  # Gemma-3: its pattern of layers has a default, too
            config.pop("layer_types")
    config["model_type"] = model.config.model_type
    for key in ["architectures", "transformers_version", "_attn_implementation_autoset", "_name_or_path"]:
        config.pop(key, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_expected(model, folder, length, gradients):
    # From 3 on: torch gives the row of the padding id no gradient.
    ids = torch.randint(3, model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(length))
    outputs = model(ids[None], output_hidden_states=True, output_attentions=True, use_cache=False)
    states = list(outputs.hidden_states)
    loss = torch.nn.functional.cross_entropy(outputs.logits[0, :-1].float(), ids[1:])
    loss.backward()
    tensors = {"ids": ids.to(torch.uint32), "logits": outputs.logits[0], "loss": loss.reshape(1)}
    tensors["attention"] = torch.stack([layer[0, :, -1] for layer in outputs.attentions])
    for layer, state in enumerate(states[1:-1], 1):
        tensors[f"hidden.{layer}"] = model.model.norm(state)[0]
    tensors[f"hidden.{len(states) - 1}"] = states[-1][0]  # has passed the norm already
    if gradients:
        tensors |= {f"gradient.{name}": tensor.grad for name, tensor in model.named_parameters()}
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "expected.safetensors")


def longrope(pairs):
    """Factors in the manner of Phi-4-mini: short ones near 1, long ones growing."""
    short = [1.0 + 0.01 * i for i in range(pairs)]
    return dict(short_factor=short, long_factor=[1.3 ** i for i in range(pairs)])


HEADS = dict(num_attention_heads=4, num_key_value_heads=2)
PHI = dict(num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=256, bos_token_id=1, eos_token_id=2,
           pad_token_id=0, original_max_position_embeddings=16)
PHI_ROPE = dict(type="longrope", **longrope(6))
GEMMA = dict(head_dim=12, query_pre_attn_scalar=20, **HEADS)
LLAMA_3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)

CASES_4 = {
    "llama-2": case("Llama", 20, 1, num_attention_heads=4, rms_norm_eps=1e-5),
    "llama-3.1": case("Llama", 40, 2, True, rope_theta=500000.0, max_position_embeddings=256,
                      rope_scaling=dict(rope_type="llama3", **LLAMA_3), **HEADS),
    "llama-biases": case("Llama", 20, 3, True, num_attention_heads=4, num_key_value_heads=1, head_dim=12,
                         attention_bias=True, mlp_bias=True, tie_word_embeddings=True,
                         rope_scaling=dict(type="linear", factor=4.0)),
    "mistral": case("Mistral", 24, 4, True, sliding_window=8, **HEADS),
    "mistral-v0.3": case("Mistral", 24, 5, sliding_window=None, head_dim=16, rope_theta=1e6, **HEADS),
    "phi3-short": case("Phi3", 16, 6, tie_word_embeddings=True, rope_scaling=PHI_ROPE, partial_rotary_factor=0.75, **PHI),
    "phi3-long": case("Phi3", 40, 7, True, rope_scaling=PHI_ROPE, partial_rotary_factor=0.75, sliding_window=30, **PHI),
    "phi3-plain": case("Phi3", 24, 8, sliding_window=10, **PHI),
    "gemma2": case("Gemma2", 24, 9, True, sliding_window=8, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
                   **GEMMA),
    "gemma2-uncapped": case("Gemma2", 20, 10, attn_logit_softcapping=None, final_logit_softcapping=None,
                            attention_bias=True, tie_word_embeddings=False, **GEMMA),
    "qwen2": case("Qwen2", 24, 11, True, rope_theta=1e6, tie_word_embeddings=True, **HEADS),
}

GEMMA_3_ROPES = dict(sliding_attention=dict(rope_type="default", rope_theta=5000.0),
                     full_attention=dict(rope_type="linear", rope_theta=2e5, factor=8.0))
GEMMA_3_LAYERS = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]

CASES_5 = {
    "gemma3": case("Gemma3Text", 24, 12, True, sliding_window=8, num_hidden_layers=7, head_dim=8, intermediate_size=24,
                   query_pre_attn_scalar=11, vocab_size=64, **HEADS),
    "gemma3-listed": case("Gemma3Text", 20, 13, brief=False, sliding_window=6, num_hidden_layers=4,
                          final_logit_softcapping=3.0, rope_parameters=GEMMA_3_ROPES, layer_types=GEMMA_3_LAYERS,
                          **GEMMA),
    "llama-3.1-v5": case("Llama", 40, 14, brief=False, max_position_embeddings=256, dtype="float32",
                         rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, **LLAMA_3), **HEADS),
    "phi3-v5": case("Phi3", 40, 15, brief=False, **PHI,
                    rope_parameters=dict(rope_type="longrope", rope_theta=2e4, partial_rotary_factor=0.75,
                                         original_max_position_embeddings=16, **longrope(6))),
    "qwen2-window-v5": case("Qwen2", 24, 16, brief=False, use_sliding_window=True, sliding_window=7,
                            max_window_layers=1, **HEADS),
}

CASES = CASES_4 if transformers.__version__.startswith("4.") else CASES_5
