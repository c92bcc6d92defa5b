"""The measurements of llmore_bench in PyTorch, one per process: torch_peer.py NAME --threads N --rounds N --inputs DIR.

Models come from transformers with sdpa attention, AdamW is torch's fused one. Weights, token ids, labels and pixels
are those that `llmore_bench export` wrote, so the losses of both programs can be compared.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

IGNORE, IMAGE = -100, -200
HERE = Path(__file__).resolve().parent


def resident(key):
    """VmRSS or VmHWM of this process in MB."""
    for line in open("/proc/self/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


LIBRARIES = resident("VmRSS")


def timed(warm, rounds, work):
    seconds, results = [], []
    for round in range(warm + rounds):
        start = time.perf_counter()
        results.append(work())
        if round >= warm:
            seconds.append(time.perf_counter() - start)
    return seconds, results


def report(name, item, seconds, losses=()):
    print(json.dumps({
        "name": name,
        "item": item,
        "median": statistics.median(seconds),
        "seconds": seconds,
        "peak_rss_mb": round(resident("VmHWM")),
        "libraries_mb": round(LIBRARIES),
        "losses": list(losses),
    }))


def llama_config(width, layers, heads, kv_heads, intermediate, vocab):
    return LlamaConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads,
        intermediate_size=intermediate, vocab_size=vocab, max_position_embeddings=1024, rms_norm_eps=1e-5,
        rope_theta=10000.0, tie_word_embeddings=False, attn_implementation="sdpa",
    )


def adamw(parameters, rate):
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0, fused=True)


def tokens(batch, length, vocab):
    return torch.tensor([[(b * 7919 + t * t * 31 + t * 17) % vocab for t in range(length)] for b in range(batch)])


def llama_step(options):
    model = LlamaForCausalLM(llama_config(512, 8, 8, 4, 1376, 8192))
    model.load_state_dict(load_file(options.inputs / "llama/model.safetensors"))
    model.train()
    optimizer = adamw(model.parameters(), 3e-4)
    ids = tokens(4, 256, 8192)

    def step():
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    seconds, losses = timed(3, options.rounds, step)
    report("llama-step", "step", seconds, losses)


class Llava(torch.nn.Module):
    """Tower, projector and LLM with the reference's forward: padded batch, logits everywhere."""

    def __init__(self, folder):
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "intermediate_size", "vocab_size")
        llm = llama_config(*(config[key] for key in keys))
        llm.tie_word_embeddings = config["tie_word_embeddings"]
        tower = json.loads((folder / "vision-tower/config.json").read_text())
        self.tower = CLIPVisionModel(CLIPVisionConfig(**tower, attn_implementation="sdpa"))
        self.llm = LlamaForCausalLM(llm)
        self.projector = torch.nn.Sequential(
            torch.nn.Linear(config["mm_hidden_size"], llm.hidden_size),
            torch.nn.GELU(),
            torch.nn.Linear(llm.hidden_size, llm.hidden_size),
        )
        tensors = load_file(folder / "model.safetensors")
        take = lambda prefix: {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        own = self.tower.state_dict()
        stored = take("model.vision_tower.vision_tower.")
        if not any(name.startswith("vision_model.") for name in own):
            stored = {name.removeprefix("vision_model."): tensor for name, tensor in stored.items()}
        # The norm after the last block is not read (layer -2) and not stored.
        missing, unexpected = self.tower.load_state_dict(stored, strict=False)
        assert not unexpected and all("post_layernorm" in n or "position_ids" in n for n in missing), (missing, unexpected)
        self.projector.load_state_dict(take("model.mm_projector."))
        rest = {k: v for k, v in tensors.items() if not k.startswith(("model.vision_tower.", "model.mm_projector."))}
        missing, unexpected = self.llm.load_state_dict(rest, strict=False)
        assert not unexpected and missing in ([], ["lm_head.weight"]), (missing, unexpected)
        self.layer = config["mm_vision_select_layer"]

    def loss(self, samples, pixels):
        with torch.no_grad():
            features = self.tower(pixels, output_hidden_states=True).hidden_states[self.layer][:, 1:]
        features = self.projector(features)
        embed = self.llm.get_input_embeddings()
        rows, labels = [], []
        for (ids, targets), image in zip(samples, features):
            at = (ids == IMAGE).nonzero()[0].item()
            ignored = targets.new_full((image.shape[0],), IGNORE)
            rows.append(torch.cat([embed(ids[:at]), image, embed(ids[at + 1:])]))
            labels.append(torch.cat([targets[:at], ignored, targets[at + 1:]]))
        mask = [torch.ones(len(row), dtype=torch.long) for row in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        return self.llm(
            inputs_embeds=pad(rows, batch_first=True),
            attention_mask=pad(mask, batch_first=True),
            labels=pad(labels, batch_first=True, padding_value=IGNORE),
            use_cache=False,
        ).loss


def stage_step(name, options):
    size, stage = name.split("-")
    folder = options.inputs / size
    plan = json.loads((folder / f"{stage}.json").read_text())
    pixels = load_file(folder / f"{stage}.safetensors")["pixels"]
    samples = [(torch.tensor(s["ids"]), torch.tensor(s["labels"])) for s in plan["samples"]]
    model = Llava(folder).train()
    model.tower.requires_grad_(False)
    model.llm.requires_grad_(plan["trains_llm"])
    groups = [{"params": list(model.projector.parameters()), "lr": 1e-3}]
    if plan["trains_llm"]:
        groups.append({"params": list(model.llm.parameters()), "lr": 2e-4})
    optimizer = adamw(groups, 1e-3)
    trained = [parameter for group in groups for parameter in group["params"]]
    batch, steps = plan["batch"], plan["steps"]
    positions = iter(list(range(0, batch * steps, batch)) * 2)

    def step():
        first = next(positions)
        loss = model.loss(samples[first:first + batch], pixels[first:first + batch])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return loss.item()

    seconds, losses = timed(0, 2 * steps, step)
    report(f"{name}-first-epoch", "step", seconds[1:steps], losses[:steps])
    report(name, "step", seconds[steps + 1:], losses)


def encoder(options):
    model = CLIPVisionModel(CLIPVisionConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, image_size=336,
        patch_size=14, hidden_act="quick_gelu", attn_implementation="sdpa",
    )).eval()
    pixels = torch.rand(1, 3, 336, 336)
    with torch.inference_mode():
        seconds, _ = timed(1, options.rounds, lambda: model(pixels, output_hidden_states=True))
    report("encoder", "image", seconds)


def preprocess(options):
    """Pillow and numpy, as CLIPImageProcessor does it and nothing else."""
    images = 20
    mean = numpy.array([0.48145466, 0.4578275, 0.40821073], dtype=numpy.float32)
    deviation = numpy.array([0.26862954, 0.26130258, 0.27577711], dtype=numpy.float32)

    def pixels(image):
        width, height = image.size
        scale = 336 / min(width, height)
        width, height = (336, int(336 * height / width)) if width <= height else (int(336 * width / height), 336)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - 336) // 2, (height - 336) // 2
        values = numpy.asarray(image.crop((left, top, left + 336, top + 336))).astype(numpy.float32)
        values = (values * numpy.float32(1 / 255) - mean) / deviation
        return numpy.ascontiguousarray(values.transpose(2, 0, 1))

    y, x, c = numpy.ogrid[:480, :640, :3]
    decoded = Image.fromarray(((x * 7 + y * 13 + c * 29) % 256).astype(numpy.uint8))
    jpeg = HERE.parent / "tests/fixtures/images/jpeg420-230x151.jpg"
    each = lambda work: [s / images for s in timed(1, options.rounds, lambda: [work() for _ in range(images)])[0]]
    report("preprocess", "image", each(lambda: pixels(decoded)))
    report("preprocess-jpeg", "image", each(lambda: pixels(Image.open(jpeg).convert("RGB"))))


def decode(options):
    model = LlamaForCausalLM(llama_config(1024, 16, 16, 8, 4096, 32000)).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    ids = tokens(1, 64, 32000)
    mask = torch.ones_like(ids)

    def generate(count):
        return model.generate(ids, attention_mask=mask, max_new_tokens=count, min_new_tokens=count, do_sample=False)

    prefill, _ = timed(1, options.rounds, lambda: generate(1))
    both, _ = timed(0, options.rounds, lambda: generate(65))
    report("prefill", "prompt of 64 tokens", prefill)
    report("decode", "token", [(total - statistics.median(prefill)) / 64 for total in both])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inputs", type=Path, default=Path("target/bench-inputs"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    single = {"llama-step": llama_step, "encoder": encoder, "preprocess": preprocess, "decode": decode}
    if options.name in single:
        single[options.name](options)
    elif options.name in ("toy-stage1", "toy-stage2", "small-stage1", "small-stage2"):
        stage_step(options.name, options)
    else:
        sys.exit(f"no measurement `{options.name}`")


if __name__ == "__main__":
    main()
