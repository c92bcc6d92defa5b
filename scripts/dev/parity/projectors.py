"""Parity cases of the group `projectors`; see make_parity.py. Needs torch and safetensors alone.

The perceiver resampler, written anew from its description in OpenFlamingo 2.0.1 (`helpers.py`) with torch's own modules, so that
the names of its tensors are those of `state_dict`; `output` leads to the LLM's width.

`model.safetensors`: the weights; `config.json`: what llmore writes of it; `expected.safetensors`: `features`, `tokens`,
`weights`, and `gradient.<tensor>` and `gradient.features` of `sum(tokens * weights)`.
"""

import json

import torch
from safetensors.torch import save_file
from torch import nn

HEAD_DIM = 64


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_media = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, heads * HEAD_DIM, bias=False)
        self.to_kv = nn.Linear(width, 2 * heads * HEAD_DIM, bias=False)
        self.to_out = nn.Linear(heads * HEAD_DIM, width, bias=False)

    def forward(self, features, latents):
        features, latents = self.norm_media(features), self.norm_latents(latents)
        keys, values = self.to_kv(torch.cat((features, latents), dim=1)).chunk(2, dim=-1)
        split = lambda x: x.unflatten(-1, (self.heads, HEAD_DIM)).transpose(1, 2)  # (images, heads, rows, 64)
        scores = split(self.to_q(latents)) @ split(keys).transpose(2, 3) * HEAD_DIM**-0.5
        mixed = scores.softmax(dim=-1) @ split(values)
        return self.to_out(mixed.transpose(1, 2).flatten(2))


def mlp(width):
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width, bias=False),
        nn.GELU(),
        nn.Linear(4 * width, width, bias=False),
    )


class Resampler(nn.Module):
    def __init__(self, width, output, tokens, layers, heads):
        super().__init__()
        self.latents = nn.Parameter(torch.randn(tokens, width))
        self.layers = nn.ModuleList(nn.ModuleList([Attention(width, heads), mlp(width)]) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, output)

    def forward(self, features):
        latents = self.latents.expand(len(features), -1, -1)
        for attention, feed_forward in self.layers:
            latents = attention(features, latents) + latents
            latents = feed_forward(latents) + latents
        return self.output(self.norm(latents))


def make(folder):
    torch.manual_seed(61)
    sizes = {"tokens": 5, "layers": 2, "heads": 2}
    model = Resampler(width=12, output=20, **sizes)
    with torch.no_grad():
        for tensor in model.parameters():
            # Norms and biases far from one and zero, so that each of them shows.
            tensor.add_(0.3 * torch.randn(tensor.shape))
    features = torch.randn(3, 9, 12, requires_grad=True)
    weights = torch.randn(3, sizes["tokens"], 20)
    tokens = model(features)
    (tokens * weights).sum().backward()
    expected = {"features": features, "tokens": tokens, "weights": weights, "gradient.features": features.grad}
    expected |= {f"gradient.{name}": tensor.grad for name, tensor in model.named_parameters()}
    plain = lambda tensors: {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(plain(expected), folder / "expected.safetensors")
    save_file(plain(model.state_dict()), folder / "model.safetensors")
    config = {"mm_projector_type": "resampler", "mm_projector_config": sizes}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


CASES = {"resampler": make}
