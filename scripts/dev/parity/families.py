"""Parity cases of the group `families`: a LLaVA of every LLM family and of every encoder family, as transformers 5.24.0 writes
it; see make_parity.py.

A case holds config.json and processor_config.json as `save_pretrained` leaves them, `tensors.txt` (names and shapes of its
model.safetensors) and `expected.safetensors`: ids with the picture's tokens written out, pixels, and the logits of the model
that `from_pretrained` opens. The weights are not stored: `values` makes them from a tensor's name, and so does `tests/families.rs`.
tokenizer.json is one for all.
"""

import pathlib
import shutil

import numpy
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast

GROUP = pathlib.Path(__file__).resolve().parents[3] / "tests/fixtures/parity/families"
VOCAB, IMAGE = 48, 47
TEXT = dict(
    vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=3,
)
TOWER = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4)


def values(name: str, shape: list[int]) -> torch.Tensor:
    """Numbers between -1/2 and 1/2 that follow from the tensor's name; those of a norm lie around 1."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    hashed = (numpy.arange(int(numpy.prod(shape)), dtype=numpy.uint64) * 2654435761 + seed) % 2**32
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashed = (hashed ^ (hashed >> shift)) * factor % 2**32
    hashed = hashed ^ (hashed >> 16)
    value = (hashed >> 8).astype(numpy.float32) / numpy.float32(2**24) - numpy.float32(0.5)
    if len(shape) == 1:
        around = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        value = numpy.float32(around) + value * numpy.float32(0.5)
    return torch.from_numpy(value.reshape(shape).copy())


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({f"w{number}": number for number in range(IMAGE)}, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words)
    fast.add_tokens(["<image>"], special_tokens=True)
    return fast


def processor(tower: str):
    size, crop = {"height": 8, "width": 8}, {"height": 8, "width": 8}
    match tower:
        case "CLIP":
            return transformers.CLIPImageProcessor(size={"shortest_edge": 8}, crop_size=crop)
        case "Siglip":
            return transformers.SiglipImageProcessor(size=size)
        case "Dinov2" | "Dinov2WithRegisters":
            return transformers.BitImageProcessor(size={"shortest_edge": 8}, crop_size=crop)
    return transformers.ViTImageProcessor(size=size)


def case(text: str, tower: str = "CLIP", strategy: str = "default", extra: int = 1, **changes):
    """A function that writes a case of this LLM's and this tower's configs."""

    def make(folder: pathlib.Path) -> None:
        if not (GROUP / "tokenizer.json").exists():
            tokenizer().save_pretrained(folder)
            shutil.move(folder / "tokenizer.json", GROUP / "tokenizer.json")
            (folder / "tokenizer_config.json").unlink()
        visible = f"{tower}VisionConfig" if tower in ("CLIP", "Siglip") else f"{tower}Config"
        more = {} if tower in ("CLIP", "Siglip", "ViT", "IJepa") else {"mlp_ratio": 2}
        vision = getattr(transformers, visible)(**TOWER, **more)
        language = getattr(transformers, f"{text}Config")(**{**TEXT, **changes})
        config = LlavaConfig(
            vision_config=vision, text_config=language, image_token_index=IMAGE, vision_feature_select_strategy=strategy
        )
        config.image_seq_length = 4 + (extra if strategy == "full" else 0)
        config.tie_word_embeddings = language.tie_word_embeddings
        LlavaForConditionalGeneration(config).save_pretrained(folder)
        with safe_open(folder / "model.safetensors", "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
        save_file({name: values(name, shape) for name, shape in shapes.items()}, folder / "model.safetensors", {"format": "pt"})
        model = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager", dtype="float32").eval()
        LlavaProcessor(
            processor(tower), tokenizer(), patch_size=4, vision_feature_select_strategy=strategy, num_additional_image_tokens=extra
        ).save_pretrained(folder)
        lines = [f"{name} {' '.join(map(str, shape))}\n" for name, shape in shapes.items()]
        (folder / "tensors.txt").write_text("".join(lines))
        generator = torch.Generator().manual_seed(11)
        words = torch.randint(4, IMAGE, (14,), generator=generator)
        ids = torch.cat([words[:4], torch.full((config.image_seq_length,), IMAGE), words[4:]])[None]
        pixels = torch.randn(1, 3, 8, 8, generator=generator)
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=pixels).logits
        save_file({"input_ids": ids, "pixel_values": pixels, "logits": logits}, folder / "expected.safetensors")
        for name in ["model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]:
            (folder / name).unlink(missing_ok=True)

    return make


LLAMA_3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=32)


def phi(original: int, part: float = 1.0, **more) -> dict:
    """The options of a Phi-3 whose context was stretched from `original` positions."""
    pairs = int(4 * part)
    rope = dict(rope_type="longrope", rope_theta=25000.0, partial_rotary_factor=part, original_max_position_embeddings=original,
                short_factor=[1.0 + 0.1 * i for i in range(pairs)], long_factor=[1.5 + 0.7 * i for i in range(pairs)], **more)
    return dict(original_max_position_embeddings=original, rope_parameters=rope)


GEMMA = dict(head_dim=8, sliding_window=8, query_pre_attn_scalar=24, tie_word_embeddings=True)
FULL = dict(rope_type="linear", rope_theta=900000.0, factor=8.0)
KINDS = ["sliding_attention", "full_attention"]
DEFAULT = dict(rope_type="default", rope_theta=13000.0)
LINEAR = dict(rope_type="linear", rope_theta=13000.0, factor=2.0)

CASES_5 = {
    "llama": case("Llama"),
    "llama-3.1": case("Llama", rope_parameters=LLAMA_3),
    "llama-linear": case("Llama", rope_parameters=dict(rope_type="linear", rope_theta=7e5, factor=4.0), head_dim=12,
                         attention_bias=True, mlp_bias=True),
    "smollm": case("Llama", rope_parameters=dict(rope_type="default", rope_theta=1e5), tie_word_embeddings=True),
    "mistral": case("Mistral", sliding_window=8, rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "phi3": case("Phi3", sliding_window=10),
    "phi3-short": case("Phi3", **phi(64)),
    "phi3-long": case("Phi3", **phi(8)),
    "phi3-partial": case("Phi3", tie_word_embeddings=True, **phi(8, 0.5)),
    "phi3-attention-factor": case("Phi3", **phi(8, attention_factor=1.3)),
    "gemma2": case("Gemma2", rope_parameters=dict(rope_type="default", rope_theta=33000.0), attn_logit_softcapping=2.0,
                   final_logit_softcapping=3.0, **GEMMA),
    "gemma3": case("Gemma3Text", rope_parameters=dict(full_attention=FULL, sliding_attention=DEFAULT), layer_types=KINDS,
                   **GEMMA),
    "gemma3-both-stretched": case("Gemma3Text", rope_parameters=dict(full_attention=FULL, sliding_attention=LINEAR),
                                  layer_types=KINDS, final_logit_softcapping=3.0, **GEMMA),
    "qwen2": case("Qwen2", tie_word_embeddings=True, use_sliding_window=True, sliding_window=8, max_window_layers=1,
                  rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "siglip": case("Llama", "Siglip", "full", 0),
    "dinov2": case("Llama", "Dinov2"),
    "dinov2-with-registers": case("Llama", "Dinov2WithRegisters", "full", 5),
    "vit": case("Llama", "ViT"),
    "ijepa": case("Llama", "IJepa", "full", 0),
}

CASES = {} if transformers.__version__.startswith("4.") else CASES_5
