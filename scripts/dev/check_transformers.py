#!/usr/bin/env python3
"""Loads a model saved with `layout: "transformers"` by transformers itself and compares.

    python scripts/dev/check_transformers.py FOLDER

FOLDER holds `model/`, `picture.png` and `expected.safetensors` with `input_ids`, `pixel_values` and `logits` as llmore has
them; `tests/checkpoints.rs` writes it. Fails on a missing or unexpected tensor, on logits further apart than 1e-4, and where
AutoProcessor makes other pixels or another number of image tokens. Columns of an added `<image>` row are not compared.
A tower that began with random weights lacks its last norm, its head and its mask token: no feature depends on them.
"""

import pathlib
import sys

import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, LlavaForConditionalGeneration

UNUSED = ["post_layernorm.", "vision_tower.head.", "vision_model.head.", "vision_tower.layernorm.", "embeddings.mask_token"]


def main(folder: pathlib.Path) -> int:
    expected = load_file(folder / "expected.safetensors")
    model, info = LlavaForConditionalGeneration.from_pretrained(
        folder / "model", output_loading_info=True, attn_implementation="eager", torch_dtype=torch.float32
    )
    missing = [name for name in info["missing_keys"] if not any(part in name for part in UNUSED)]
    differing = {"missing": missing, "unexpected": info["unexpected_keys"], "mismatched": info["mismatched_keys"]}
    problems = [f"{kind} tensors: {sorted(names)}" for kind, names in differing.items() if names]
    with torch.no_grad():
        logits = model.eval()(input_ids=expected["input_ids"], pixel_values=expected["pixel_values"]).logits[0]
    columns = min(logits.shape[1], expected["logits"].shape[1])
    apart = (logits[:, :columns] - expected["logits"][:, :columns]).abs().max().item()
    if not apart <= 1e-4:
        problems.append(f"logits differ by {apart:.2e}")
    processor = AutoProcessor.from_pretrained(folder / "model")
    given = processor(images=Image.open(folder / "picture.png").convert("RGB"), text="<image> a", return_tensors="pt")
    pixels = (given["pixel_values"] - expected["pixel_values"]).abs().max().item()
    if not pixels <= 1e-5:
        problems.append(f"pixels differ by {pixels:.2e}")
    image = (given["input_ids"] == model.config.image_token_index).sum().item()
    if image != (expected["input_ids"] == model.config.image_token_index).sum().item():
        problems.append(f"the processor makes {image} image tokens")
    if processor.tokenizer.convert_tokens_to_ids("<image>") != model.config.image_token_index:
        problems.append("the tokenizer's <image> has another id")
    print(f"transformers {transformers.__version__}: logits differ by {apart:.2e}, pixels by {pixels:.2e}")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
