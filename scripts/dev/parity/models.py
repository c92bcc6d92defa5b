"""Parity cases of the group `models`: whole transformers-Llava checkpoints and a LLaVA-MORE stage-1 folder; see make_parity.py.

Cases whose name ends in `-v5` are made by transformers 5.23.0, the others by 4.49.0: the two write different files. A run
makes those of the version it finds.
"""

import collections
import io
import json
import os
import pathlib
import pickle
import shutil
import zipfile

import torch
import transformers
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

TOKENIZER = pathlib.Path(__file__).resolve().parents[3] / "tests/fixtures/training/checkpoint/tokenizer.json"
VOCAB, IMAGE = 288, 288
TEXT = dict(
    hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1, head_dim=8,
    max_position_embeddings=256, bos_token_id=281, eos_token_id=287, pad_token_id=283,
)
TOWER = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=24, patch_size=8)


def spread(model: torch.nn.Module, seed: int) -> None:
    """Weights large enough that a wrong one shows in the logits."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1.0 + 0.1 * noise if norm else 0.15 * noise)


def inputs(tokens: int, seed: int) -> dict[str, torch.Tensor]:
    """Ids with the picture's tokens in the middle, pixels, labels of the last positions."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randint(0, 280, (14,), generator=generator)
    ids = torch.cat([text[:5], torch.full((tokens,), IMAGE), text[5:]])
    labels = torch.where(torch.arange(len(ids)) >= len(ids) - 6, ids, -100)
    return {"input_ids": ids[None], "pixel_values": torch.randn(1, 3, 24, 24, generator=generator), "labels": labels[None]}


def expect(folder: pathlib.Path, model: torch.nn.Module, given: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        out = model.eval()(**given)
    save_file({**given, "logits": out.logits, "loss": out.loss.reshape(1)}, folder / "expected.safetensors")


def llava(folder: pathlib.Path, tower, strategy: str, processor, tokens: int, **more) -> None:
    text = LlamaConfig(vocab_size=VOCAB + 1, attn_implementation="eager", **TEXT)
    config = LlavaConfig(
        vision_config=tower, text_config=text, image_token_index=IMAGE, vision_feature_select_strategy=strategy, **more
    )
    config.image_seq_length = tokens
    model = LlavaForConditionalGeneration(config)
    spread(model, 7)
    model.save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    extra = 1 if strategy == "default" else 0
    LlavaProcessor(
        processor, tokenizer, patch_size=8, vision_feature_select_strategy=strategy, num_additional_image_tokens=extra
    ).save_pretrained(folder)
    expect(folder, model, inputs(tokens, 11))


def clip_llama(folder: pathlib.Path) -> None:
    processor = CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    llava(folder, CLIPVisionConfig(**TOWER), "default", processor, 9)


def siglip_llama(folder: pathlib.Path) -> None:
    processor = SiglipImageProcessor(size={"height": 24, "width": 24})
    llava(folder, SiglipVisionConfig(**TOWER), "full", processor, 9, vision_feature_layer=-1)


def stage_1(folder: pathlib.Path) -> None:
    """Projector alone, as the reference's trainer leaves it, with tower and base LLM in sub-folders."""
    tower, llm = CLIPVisionModel(CLIPVisionConfig(**TOWER)), LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB, **TEXT))
    projector = torch.nn.Sequential(torch.nn.Linear(16, 24), torch.nn.GELU(), torch.nn.Linear(24, 24))
    for seed, part in enumerate([tower, llm, projector]):
        spread(part, seed)
    projector.bfloat16()
    tower.save_pretrained(folder / "tower")
    CLIPImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}).save_pretrained(folder / "tower")
    llm.save_pretrained(folder / "llm")
    shutil.copy(TOKENIZER, folder / "llm")
    torch.save({f"model.mm_projector.{name}": value for name, value in projector.state_dict().items()}, folder / "mm_projector.bin")
    config = llm.config.to_dict() | {
        "model_type": "llava_llama", "_name_or_path": "llm", "mm_vision_tower": "tower", "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch", "model_architecture": "llama_3_1", "s2": False,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    # The same parts in transformers' class; the picture's id is a row more.
    joined = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=tower.config, text_config=llm.config, image_token_index=VOCAB - 1)
    )
    joined.vision_tower.load_state_dict(tower.state_dict())
    joined.language_model.load_state_dict(llm.state_dict())
    joined.multi_modal_projector.linear_1.load_state_dict(projector.float()[0].state_dict())
    joined.multi_modal_projector.linear_2.load_state_dict(projector.float()[2].state_dict())
    given = inputs(9, 11)
    given["input_ids"][given["input_ids"] == IMAGE] = VOCAB - 1
    expect(folder, joined, given)


class Runs:
    """Unpickling this would run a command."""

    def __reduce__(self):
        return os.system, ("touch executed",)


def pickles(folder: pathlib.Path) -> None:
    """Files of torch.save: what is to be read, and what is to be refused."""
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7
    tensors = collections.OrderedDict(
        f32=base, transposed=base.t(), slice=base[1:3, 2:5], scalar=base[1, 1].clone(), empty=torch.zeros(0, 3),
        f16=base.half(), bf16=base.bfloat16(), f64=base.double(), i64=torch.arange(5), u8=torch.arange(3, dtype=torch.uint8),
        flags=torch.tensor([True, False]), parameter=torch.nn.Parameter(base + 1),
    )
    tensors._metadata = {"": {"version": 1}}  # as a module's state_dict carries it
    torch.save(tensors, folder / "tensors.bin")
    plain = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    plain["flags"] = plain["flags"].to(torch.uint8)
    save_file(plain, folder / "expected.safetensors")
    torch.save({"w": base}, folder / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save({"w": Runs()}, folder / "code.bin")
    with zipfile.ZipFile(folder / "bomb.bin", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(1 << 24))
    # A tensor that reaches beyond its storage.
    buffer = io.BytesIO()
    torch.save({"w": base}, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(folder / "beyond.bin", "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = content.replace(b"K\x04K\x06\x86", b"K\x05K\x06\x86")
            target.writestr(name, content)
    nested = b"\x80\x02" + b"K\x01" + b"\x85" * 200_000 + b"."
    with zipfile.ZipFile(folder / "nested.bin", "w") as target:
        target.writestr("archive/data.pkl", nested)
    assert pickle.PROTO == b"\x80"


CASES = {"clip-llama": clip_llama, "siglip-llama": siglip_llama, "stage-1": stage_1, "pickle": pickles}
if transformers.__version__.startswith("5."):
    CASES = {"clip-llama-v5": clip_llama, "siglip-llama-v5": siglip_llama}
