"""Parity cases of the group `ropes`, of transformers 5.24.0; see make_parity.py.

`spellings` is cases.json: what config.json may say about the rope, and the frequencies that the reference's rotary class makes
of it (`inv_freq` for each kind of layer, `attention` the factor of cosines and sines, `long` those beyond the original context), or
`refused` where it cannot open or compute it. `phi3-switch` is a Phi-3 that generates across its original context.
"""

import copy
import json
import pathlib
import tempfile

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

from .families import values

SIZES = dict(
    vocab_size=48, hidden_size=32, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    max_position_embeddings=256,
)
CLASSES = {
    "llama": transformers.models.llama.modeling_llama.LlamaRotaryEmbedding,
    "mistral": transformers.models.mistral.modeling_mistral.MistralRotaryEmbedding,
    "qwen2": transformers.models.qwen2.modeling_qwen2.Qwen2RotaryEmbedding,
    "phi3": transformers.models.phi3.modeling_phi3.Phi3RotaryEmbedding,
    "gemma2": transformers.models.gemma2.modeling_gemma2.Gemma2RotaryEmbedding,
    "gemma3_text": transformers.models.gemma3.modeling_gemma3.Gemma3RotaryEmbedding,
}
LLAMA_3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0)
FACTORS = dict(short_factor=[1.0 + 0.1 * i for i in range(8)], long_factor=[1.5 + 0.7 * i for i in range(8)])
HALF = dict(short_factor=FACTORS["short_factor"][:4], long_factor=FACTORS["long_factor"][:4])
LINEAR = dict(rope_type="linear", factor=4.0)

SPELLINGS = {
    "nothing": ("llama", {}),
    "theta outside": ("llama", dict(rope_theta=5e5)),
    "theta inside": ("llama", dict(rope_parameters=dict(rope_type="default", rope_theta=5e5))),
    "theta inside and outside": ("llama", dict(rope_theta=7e5, rope_parameters=dict(rope_type="default", rope_theta=5e5))),
    "theta outside of a map": ("mistral", dict(rope_theta=7e5, rope_parameters=dict(LINEAR))),
    "linear, type": ("llama", dict(rope_scaling=dict(type="linear", factor=4.0))),
    "linear, rope_type": ("qwen2", dict(rope_scaling=dict(LINEAR))),
    "linear, both names": ("gemma2", dict(rope_scaling=dict(type="dynamic", **LINEAR))),
    "linear without a factor": ("llama", dict(rope_scaling=dict(type="linear"))),
    "linear, a factor below 1": ("llama", dict(rope_scaling=dict(rope_type="linear", factor=0.5))),
    "a factor without a type": ("llama", dict(rope_scaling=dict(factor=4.0))),
    "default with a factor": ("llama", dict(rope_parameters=dict(rope_type="default", factor=4.0))),
    "both maps": ("llama", dict(rope_scaling=dict(LINEAR), rope_parameters=dict(rope_theta=5e5, rope_type="llama3",
                                                                              original_max_position_embeddings=32, **LLAMA_3))),
    "an empty map before another": ("llama", dict(rope_scaling={}, rope_parameters=dict(rope_theta=5e5, **LINEAR))),
    "null before another": ("llama", dict(rope_scaling=None, rope_parameters=dict(rope_theta=5e5, **LINEAR))),
    "llama3": ("llama", dict(rope_scaling=dict(rope_type="llama3", original_max_position_embeddings=32, **LLAMA_3))),
    "llama3 without the original context": ("llama", dict(rope_scaling=dict(rope_type="llama3", **LLAMA_3))),
    "llama3, original context outside": ("llama", dict(original_max_position_embeddings=64,
                                                       rope_scaling=dict(rope_type="llama3", **LLAMA_3))),
    "llama3, two original contexts": ("llama", dict(original_max_position_embeddings=64, rope_scaling=dict(
        rope_type="llama3", original_max_position_embeddings=32, **LLAMA_3))),
    "llama3 without low_freq_factor": ("llama", dict(rope_scaling=dict(rope_type="llama3", factor=8.0, high_freq_factor=4.0))),
    "dynamic": ("llama", dict(rope_scaling=dict(type="dynamic", factor=2.0))),
    "mrope": ("qwen2", dict(rope_scaling=dict(type="mrope", mrope_section=[2, 3, 3]))),
    "an unknown type": ("llama", dict(rope_scaling=dict(type="unheard-of", factor=2.0))),
    "su in a Phi-3": ("phi3", dict(original_max_position_embeddings=64, rope_scaling=dict(
        type="su", original_max_position_embeddings=64, **FACTORS))),
    "a map by layer without layers": ("llama", dict(rope_parameters=dict(full_attention=dict(LINEAR)))),
    "a map by layer": ("gemma2", dict(rope_parameters=dict(full_attention=dict(LINEAR), sliding_attention=dict(LINEAR)))),
    "partial in a Llama": ("llama", dict(partial_rotary_factor=0.5, rope_theta=5e5)),
    "partial inside in a Mistral": ("mistral", dict(rope_parameters=dict(rope_type="default", partial_rotary_factor=0.5))),
    "partial in a Qwen2": ("qwen2", dict(partial_rotary_factor=0.25)),
    "longrope in a Llama": ("llama", dict(original_max_position_embeddings=32, rope_scaling=dict(rope_type="longrope", **FACTORS))),
    "longrope in a Llama, original context inside": ("llama", dict(rope_parameters=dict(
        rope_type="longrope", original_max_position_embeddings=32, **FACTORS))),
    "longrope": ("phi3", dict(original_max_position_embeddings=64, rope_scaling=dict(type="longrope", **FACTORS))),
    "longrope, original context inside only": ("phi3", dict(rope_parameters=dict(
        rope_type="longrope", original_max_position_embeddings=64, **FACTORS))),
    "longrope, partial outside": ("phi3", dict(original_max_position_embeddings=64, partial_rotary_factor=0.5,
                                               rope_scaling=dict(type="longrope", **HALF))),
    "longrope, partial inside": ("phi3", dict(original_max_position_embeddings=64, rope_parameters=dict(
        rope_type="longrope", partial_rotary_factor=0.5, **HALF))),
    "longrope with a factor": ("phi3", dict(original_max_position_embeddings=64, rope_scaling=dict(
        type="longrope", factor=32.0, **FACTORS))),
    "longrope with an attention factor": ("phi3", dict(original_max_position_embeddings=64, rope_scaling=dict(
        type="longrope", attention_factor=1.5, **FACTORS))),
    "longrope without factors": ("phi3", dict(original_max_position_embeddings=64, rope_scaling=dict(type="longrope"))),
    "yarn in a Phi-3": ("phi3", dict(original_max_position_embeddings=64, rope_scaling=dict(type="yarn", factor=4.0, **FACTORS))),
    "partial in a Phi-3": ("phi3", dict(partial_rotary_factor=0.5)),
    "Gemma-3, nothing": ("gemma3_text", {}),
    "Gemma-3, 4.x": ("gemma3_text", dict(rope_theta=9e5, rope_local_base_freq=13000.0, rope_scaling=dict(LINEAR))),
    "Gemma-3, by layer": ("gemma3_text", dict(rope_parameters=dict(full_attention=dict(rope_theta=9e5, **LINEAR),
                                              sliding_attention=dict(rope_type="default", rope_theta=13000.0)))),
    "Gemma-3, one kind": ("gemma3_text", dict(rope_local_base_freq=13000.0, rope_parameters=dict(
        full_attention=dict(rope_theta=9e5, **LINEAR)))),
    "Gemma-3, the other kind": ("gemma3_text", dict(rope_theta=9e5, rope_parameters=dict(
        sliding_attention=dict(rope_theta=9e3, **LINEAR)))),
    "Gemma-3, type by layer": ("gemma3_text", dict(rope_parameters=dict(full_attention=dict(type="linear", factor=4.0)))),
    "Gemma-3, null by layer": ("gemma3_text", dict(rope_parameters=dict(full_attention=None, sliding_attention=dict(LINEAR)))),
    "Gemma-3, both": ("gemma3_text", dict(rope_scaling=dict(LINEAR), rope_parameters=dict(
        full_attention=dict(rope_type="default", rope_theta=9e5), sliding_attention=dict(rope_theta=13000.0)))),
    "Gemma-3, llama3 by layer": ("gemma3_text", dict(original_max_position_embeddings=64, rope_parameters=dict(
        full_attention=dict(rope_type="llama3", **LLAMA_3)))),
    "Gemma-3, type": ("gemma3_text", dict(rope_scaling=dict(type="linear", factor=4.0))),
    "Gemma-3, one map for both": ("gemma3_text", dict(rope_parameters=dict(LINEAR))),
}


def digits(numbers: torch.Tensor) -> list[float]:
    """As many digits as f32 has."""
    return [float(f"{number:.9g}") for number in numbers.tolist()]


def sizes(kind: str) -> dict:
    layers = {"layer_types": ["sliding_attention", "full_attention"]} if kind.startswith("gemma") else {}
    return {**SIZES, "head_dim": 16, **layers}


def frequencies(kind: str, options: dict) -> dict:
    config = transformers.AutoConfig.for_model(kind, **{**sizes(kind), **copy.deepcopy(options)})
    rotary = CLASSES[kind](config)
    states, width = torch.zeros(1, 1, 16), 16
    found = {}
    for layer in ["full_attention", "sliding_attention"] if kind == "gemma3_text" else [None]:
        arguments = {} if layer is None else {"layer_type": layer}
        prefix = "" if layer is None else f"{layer}_"
        cos, _ = rotary(states, torch.zeros(1, 1), **arguments)
        rope = {"inv_freq": digits(getattr(rotary, f"{prefix}inv_freq")), "attention": digits(cos[0, 0, :1])[0]}
        cos, _ = rotary(states, torch.tensor([[255.0]]), **arguments)
        if kind != "phi3" and cos.shape[-1] != width:
            raise ValueError("cosines do not fit the heads")
        beyond = digits(getattr(rotary, f"{prefix}inv_freq"))
        if beyond != rope["inv_freq"]:
            rope["long"] = beyond
        found[layer or "full_attention"] = rope
    return found


def spellings(folder: pathlib.Path) -> None:
    cases = []
    for name, (kind, options) in SPELLINGS.items():
        try:
            expected = frequencies(kind, options)
        except Exception as error:  # whatever it is, the reference cannot compute this
            expected = {"refused": f"{type(error).__name__}: {error}".splitlines()[0][:120]}
        cases.append({"name": name, "config": {"model_type": kind, **sizes(kind), **options}, **expected})
    text = ",\n".join(json.dumps(case) for case in cases)
    (folder / "cases.json").write_text(f"[\n{text}\n]\n")


def switch(folder: pathlib.Path) -> None:
    rope = dict(rope_type="longrope", rope_theta=25000.0, **HALF)
    config = transformers.Phi3Config(
        **{**SIZES, "hidden_size": 16}, original_max_position_embeddings=24, rope_parameters=rope, pad_token_id=3, bos_token_id=1,
        eos_token_id=2,
    )
    with tempfile.TemporaryDirectory() as place:
        transformers.Phi3ForCausalLM(config).save_pretrained(place)
        with safe_open(f"{place}/model.safetensors", "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
        save_file({name: values(name, shape) for name, shape in shapes.items()}, f"{place}/model.safetensors", {"format": "pt"})
        model = transformers.Phi3ForCausalLM.from_pretrained(place, attn_implementation="eager", dtype="float32").eval()
        (folder / "config.json").write_text(pathlib.Path(place, "config.json").read_text())
    lines = [f"{name} {' '.join(map(str, shape))}\n" for name, shape in shapes.items()]
    (folder / "tensors.txt").write_text("".join(lines))
    ids = torch.randint(4, 47, (10,), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        made = model.generate(ids[None], attention_mask=torch.ones(1, 10), max_new_tokens=40, do_sample=False, eos_token_id=None)
    expected = {"ids": ids.tolist(), "continuation": made[0, 10:].tolist()}
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


CASES_5 = {"spellings": spellings, "phi3-switch": switch}
CASES = {} if transformers.__version__.startswith("4.") else CASES_5
