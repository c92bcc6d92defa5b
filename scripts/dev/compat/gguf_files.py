"""GGUF files that the package gguf writes: an LLM in several types, and types that are refused by name."""

import json

import gguf
import numpy
import torch

from .harness import TOKENIZER, case, close, tensors
from .llms import ids, language_model, logits

BLOCKS = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_key_value_heads=4)
LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def name_of(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module in OUTER:
        return f"{OUTER[module]}.{kind}"
    _, _, layer, inner = module.split(".", 3)
    return f"blk.{layer}.{LAYER[inner]}.{kind}"


def permuted(tensor: numpy.ndarray, heads: int) -> numpy.ndarray:
    """llama.cpp keeps the two halves of a head's rotary pairs side by side."""
    return tensor.reshape(heads, 2, tensor.shape[0] // heads // 2, *tensor.shape[1:]).swapaxes(1, 2).reshape(tensor.shape)


def write(folder, kind: str, changes: dict):
    """A Llama of transformers as GGUF, its matrices in `kind`; the model with the values the file holds."""
    model = language_model("Llama", {**BLOCKS, **changes})
    config, vocabulary = model.config, json.loads(TOKENIZER.read_text())
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    tokens = sorted(vocabulary["model"]["vocab"].items(), key=lambda item: item[1])
    added = {token["id"]: token["content"] for token in vocabulary["added_tokens"]}
    names = {index: text for text, index in tokens} | added
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([names[i] for i in range(288)])
    writer.add_token_types([3 if i in added else 1 for i in range(288)])
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in vocabulary["model"]["merges"]]
    writer.add_token_merges(merges or ["a b"])
    writer.add_bos_token_id(281)
    writer.add_eos_token_id(287)
    quantization = gguf.GGMLQuantizationType[kind]
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            values = tensor.float().numpy()
            if name.endswith(("q_proj.weight", "k_proj.weight", "q_proj.bias", "k_proj.bias")):
                values = permuted(values, 4)
            if values.ndim == 2 and kind != "F32":
                stored = gguf.quantize(values, quantization)
                writer.add_tensor(name_of(name), stored, raw_dtype=quantization)
                back = gguf.dequantize(stored, quantization).reshape(values.shape)
                if name.endswith(("q_proj.weight", "k_proj.weight")):
                    back = back.reshape(4, back.shape[0] // 8, 2, -1).swapaxes(1, 2).reshape(back.shape)
                tensor.copy_(torch.from_numpy(numpy.ascontiguousarray(back)))
            else:
                writer.add_tensor(name_of(name), numpy.ascontiguousarray(values))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def open_gguf(folder, kind, **changes):
    model = write(folder, kind, changes)
    out = tensors(folder, f'out["logits"] = llm("model.gguf").logits({ids(24)});')
    return close(out["logits"], logits(model, 24))


for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q5_1"]:
    case("gguf", f"GGUF Llama, matrices in {kind}", kind=kind)(open_gguf)
case("gguf", "GGUF Llama with biases in attention and MLP", kind="F32",
     attention_bias=True, mlp_bias=True)(open_gguf)


for kind in ["MXFP4", "TQ1_0", "TQ2_0"]:
    # Their blocks hold up to 256 weights.
    case("gguf", f"GGUF with tensors in {kind}", "refused", kind, kind=kind,
         hidden_size=256, intermediate_size=256)(open_gguf)
