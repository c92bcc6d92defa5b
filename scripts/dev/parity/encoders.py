"""Parity cases of the group `encoders`; see make_parity.py.

Every folder holds a checkpoint as transformers writes it, and expected.safetensors:
  pixels, hidden.<i>            at the size the image processor gives; the same at other sizes under a prefix (`wide.`)
  encode                        after layer (-2) and token selection (patches), S2 included
  weights, gradient.<tensor>    gradients of sum(encode * weights)
"""

import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers.models.clip import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel
from transformers.models.dinov2 import Dinov2Config, Dinov2Model
from transformers.models.dinov2_with_registers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel
from transformers.models.ijepa import IJepaConfig, IJepaModel
from transformers.models.siglip import SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel
from transformers.models.vit import ViTConfig, ViTForImageClassification, ViTModel

SIZES = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
MLP = SIZES | {"intermediate_size": 48}
# Large enough to be seen in the results; half of the cases have it, the others the default of their type.
EPS = {"layer_norm_eps": 0.01}
DINO = SIZES | {"mlp_ratio": 1.5, "layerscale_value": 0.5, "image_size": 28, "patch_size": 4}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 20,
    "max_position_embeddings": 8,
}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def build(config, model, seed: int):
    """A model whose every tensor matters: no norm is the identity, no bias is zero, attention is not flat."""
    torch.manual_seed(seed)
    model = model(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape)
            if "lambda1" in name or ("norm" in name and name.endswith("weight")):
                tensor.copy_(1 + 0.2 * noise)
            elif tensor.ndim >= 2 and "position" not in name and "token" not in name:
                fan_in = tensor[0].numel()
                tensor.copy_(noise / math.sqrt(fan_in))
            else:
                tensor.copy_(0.2 * noise)
    return model


def preprocessor(kind: str, size, crop: int | None = None) -> dict:
    """preprocessor_config.json as the published towers of the family have it."""
    mean, std = {"CLIP": (CLIP_MEAN, CLIP_STD), "Bit": (IMAGENET_MEAN, IMAGENET_STD)}.get(kind, ([0.5] * 3, [0.5] * 3))
    config = {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": mean,
        "image_std": std,
        "resample": 2 if kind == "ViT" else 3,
        "rescale_factor": 1 / 255,
        "size": size,
    }
    if crop:
        config |= {"do_center_crop": True, "crop_size": {"height": crop, "width": crop}}
    return config


def square(side: int) -> dict:
    return {"height": side, "width": side}


def save_extra(folder, processor: dict, expected: dict):
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2) + "\n")
    expected = {name: tensor.detach().float().contiguous() for name, tensor in expected.items()}
    save_file(expected, folder / "expected.safetensors")


def random_pixels(seed: int, height: int, width: int) -> torch.Tensor:
    """Smooth enough that a resize has something to get right, with noise on top."""
    generator = torch.Generator().manual_seed(1000 + seed)
    coarse = torch.randn(1, 3, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return smooth + 0.3 * torch.randn(1, 3, height, width, generator=generator)


def hidden_states(tower, pixels: torch.Tensor, interpolate: bool):
    options = {"interpolate_pos_encoding": True} if interpolate else {}
    return tower(pixel_values=pixels, output_hidden_states=True, **options).hidden_states


def record(model, tower, seed: int, sizes: dict, extra: int, interpolate=False, encode=None) -> dict:
    """`sizes`: (height, width) by prefix, the processor's under "". `extra`: tokens that hold no patch."""
    expected = {}
    for prefix, (height, width) in sizes.items():
        pixels = random_pixels(seed, height, width)
        expected[f"{prefix}pixels"] = pixels[0]
        if prefix or encode is None:
            with torch.no_grad():
                states = hidden_states(tower, pixels, interpolate)
            expected |= {f"{prefix}hidden.{i}": state[0] for i, state in enumerate(states)}
    pixels = expected["pixels"][None]
    select = lambda pixels: hidden_states(tower, pixels, interpolate)[-2][:, extra:]
    features = encode(select, pixels) if encode else select(pixels)
    expected["encode"] = features[0]
    expected["weights"] = torch.randn(features[0].shape, generator=torch.Generator().manual_seed(seed))
    (features[0] * expected["weights"]).sum().backward()
    for name, parameter in model.named_parameters():
        # A key's bias moves all scores of a row alike: its gradient is zero but for rounding.
        key_bias = name.endswith(("k_proj.bias", "key.bias"))
        if parameter.grad is not None and ".1." not in name and ".2." not in name and not key_bias:
            expected[f"gradient.{name}"] = parameter.grad
    return expected


def clip_config(image_size=32, patch_size=8, **more) -> CLIPVisionConfig:
    return CLIPVisionConfig(**MLP, image_size=image_size, patch_size=patch_size, **more)


def siglip_config(image_size=30, patch_size=7, **more) -> SiglipVisionConfig:
    """Like the published one, the patches leave a border that is not seen."""
    return SiglipVisionConfig(**MLP, image_size=image_size, patch_size=patch_size, **more)


def clip(folder):
    model = build(clip_config(), CLIPVisionModel, 1)
    model.save_pretrained(folder)
    expected = record(model, model, 1, {"": (32, 32)}, 1)
    save_extra(folder, preprocessor("CLIP", {"shortest_edge": 32}, 32), expected)


def clip_two_tower(folder):
    config = CLIPConfig(vision_config=clip_config(**EPS).to_dict(), text_config=TEXT, projection_dim=16)
    model = build(config, CLIPModel, 2)
    model.save_pretrained(folder)
    expected = record(model, model.vision_model, 2, {"": (32, 32)}, 1)
    # The old form of the file, with bare numbers.
    processor = preprocessor("CLIP", 32) | {"do_center_crop": True, "crop_size": 32}
    del processor["image_processor_type"]
    save_extra(folder, processor | {"feature_extractor_type": "CLIPFeatureExtractor"}, expected)


def clip_v5(folder):
    """A tower alone as transformers 5.23 writes it: without `vision_model.`, `dtype` instead of `torch_dtype`."""
    model = build(clip_config(), CLIPVisionModel, 3)
    model.save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("vision_model."): tensor for name, tensor in tensors.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = config.pop("torch_dtype")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    expected = record(model, model, 3, {"": (32, 32)}, 1)
    expected = {name.replace("gradient.vision_model.", "gradient."): tensor for name, tensor in expected.items()}
    processor = preprocessor("CLIP", {"shortest_edge": 32}, 32) | {"image_processor_type": "CLIPImageProcessorFast"}
    save_extra(folder, processor, expected)


def siglip(folder):
    model = build(siglip_config(), SiglipVisionModel, 4)
    model.save_pretrained(folder)
    expected = record(model, model, 4, {"": (30, 30)}, 0)
    save_extra(folder, preprocessor("Siglip", square(30)), expected)


def siglip_two_tower(folder):
    config = SiglipConfig(vision_config=siglip_config(**EPS).to_dict(), text_config=TEXT)
    model = build(config, SiglipModel, 5)
    model.save_pretrained(folder)
    expected = record(model, model.vision_model, 5, {"": (30, 30)}, 0)
    # SigLIP 2 at a fixed resolution has this model type and a bilinear filter.
    save_extra(folder, preprocessor("Siglip", square(30)) | {"resample": 2}, expected)


DINO_SIZES = {"": (16, 16), "full.": (28, 28), "wide.": (24, 34)}


def dinov2(folder):
    model = build(Dinov2Config(**DINO), Dinov2Model, 6)
    model.save_pretrained(folder)
    expected = record(model, model, 6, DINO_SIZES, 1)
    save_extra(folder, preprocessor("Bit", {"shortest_edge": 20}, 16), expected)


def dinov2_giant(folder):
    """The variant with SwiGLU; without biases of query, key and value; positions made larger."""
    variant = {"image_size": 16, "mlp_ratio": 2, "use_swiglu_ffn": True, "qkv_bias": False}
    config = Dinov2Config(**DINO | variant | EPS)
    model = build(config, Dinov2Model, 7)
    model.save_pretrained(folder)
    expected = record(model, model, 7, {"": (28, 28)}, 1)
    save_extra(folder, preprocessor("Bit", {"shortest_edge": 32}, 28), expected)


def dinov2_with_registers(folder):
    config = Dinov2WithRegistersConfig(**DINO | EPS, num_register_tokens=3)
    model = build(config, Dinov2WithRegistersModel, 8)
    model.save_pretrained(folder)
    expected = record(model, model, 8, DINO_SIZES, 4)
    save_extra(folder, preprocessor("Bit", {"shortest_edge": 20}, 16), expected)


VIT_SIZES = {"": (32, 32), "small.": (24, 24), "wide.": (40, 20)}


def vit(folder):
    model = build(ViTConfig(**MLP, image_size=32, patch_size=8), ViTModel, 9)
    model.save_pretrained(folder)
    expected = record(model, model, 9, VIT_SIZES, 1, interpolate=True)
    save_extra(folder, preprocessor("ViT", square(32)), expected)


def vit_prefix(folder):
    """A classifier's checkpoint: `vit.` before the names, and a processor of another size than the tower."""
    config = ViTConfig(**MLP | EPS, image_size=32, patch_size=8, qkv_bias=False)
    model = build(config, ViTForImageClassification, 10)
    model.save_pretrained(folder)
    expected = record(model, model.vit, 10, {"": (48, 48)}, 1, interpolate=True)
    save_extra(folder, preprocessor("ViT", 48), expected)


def ijepa(folder):
    model = build(IJepaConfig(**MLP | EPS, image_size=32, patch_size=8), IJepaModel, 11)
    model.save_pretrained(folder)
    expected = record(model, model, 11, VIT_SIZES, 0, interpolate=True)
    save_extra(folder, preprocessor("ViT", square(32)), expected)


def s2(scales: list[int]):
    """The features of S2, from its description: tiles of the smallest scale, maps brought to the smallest one's."""

    def encode(select, pixels):
        maps = []
        for side in sorted(scales):
            scaled = F.interpolate(pixels.float(), size=(side, side), mode="bicubic", align_corners=False)
            count = math.ceil(side / min(scales))
            tile = side // count
            rows = []
            for y in range(count):
                row = [select(scaled[:, :, y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]) for x in range(count)]
                rows.append(torch.cat([as_map(features) for features in row], dim=3))
            maps.append(torch.cat(rows, dim=2))
        grid = maps[0].shape[-2:]
        joined = torch.cat([F.interpolate(each.float(), size=grid, mode="area") for each in maps], dim=1)
        return joined.flatten(2).transpose(1, 2)

    return encode


def as_map(features: torch.Tensor) -> torch.Tensor:
    batch, tokens, width = features.shape
    grid = math.isqrt(tokens)
    return features.transpose(1, 2).reshape(batch, width, grid, grid)


def s2_case(config, model, seed: int, scales: list[int], processor: dict, extra: int):
    def make(folder):
        tower = build(config, model, seed)
        tower.save_pretrained(folder)
        file = folder / "config.json"
        written = json.loads(file.read_text())
        # LLaVA-MORE's own keys, in no order: they are sorted.
        written |= {"s2": True, "s2_scales": ",".join(map(str, scales))}
        file.write_text(json.dumps(written, indent=2) + "\n")
        smallest, largest = min(scales), max(scales)
        expected = record(tower, tower, seed, {"": (largest, largest), "tile.": (smallest, smallest)}, extra, encode=s2(scales))
        save_extra(folder, processor, expected)

    return make


CASES = {
    "clip": clip,
    "clip_two_tower": clip_two_tower,
    "clip_v5": clip_v5,
    "siglip": siglip,
    "siglip_two_tower": siglip_two_tower,
    "dinov2": dinov2,
    "dinov2_giant": dinov2_giant,
    "dinov2_with_registers": dinov2_with_registers,
    "vit": vit,
    "vit_prefix": vit_prefix,
    "ijepa": ijepa,
    "s2_clip": s2_case(
        clip_config(16, 4), CLIPVisionModel, 12, [48, 16, 32], preprocessor("CLIP", {"shortest_edge": 16}, 16), 1
    ),
    "s2_siglip": s2_case(
        siglip_config(20, 6), SiglipVisionModel, 13, [20, 40], preprocessor("Siglip", square(20)), 0
    ),
    # Beyond the reference: a tower that interpolates takes scales that are no multiples; maps of 4, 6 and 9.
    "s2_dinov2": s2_case(
        Dinov2Config(**DINO), Dinov2Model, 14, [16, 24, 45], preprocessor("Bit", {"shortest_edge": 20}, 16), 1
    ),
}
