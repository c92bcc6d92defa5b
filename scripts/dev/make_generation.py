#!/usr/bin/env python3
"""Makes tests/fixtures/generation: greedy answers of transformers' `generate` for the checkpoint in
tests/fixtures/training, and what its logits processors leave over of random logits.

    python -m venv target/parity-venv
    target/parity-venv/bin/pip install torch==2.15.0 transformers==4.49.0 pillow safetensors
    target/parity-venv/bin/python scripts/dev/make_generation.py
"""

import json
import pathlib

import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures"
TRAINING = FIXTURES / "training"
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language."
)
PROMPTS = [
    (["s1_00.png"], "<image>\nWhat is it?"),
    (["s1_01.png"], "<image>\nWhat color is the shape?"),
    (["s1_02.png"], "<image>\nDescribe the picture in many words, please, and do not leave anything out."),
    (["s1_03.png", "s1_04.png"], "<image> <image>\nAre they the same?"),
    (["s1_05.png", "s1_06.png"], "Look at <image> and then at <image>: which one is larger?"),
    ([], "Say yes."),
    ([], "Caf\u00e9 \u20ac \U0001f600?"),
]


def greedy():
    folder = TRAINING / "checkpoint"
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    llm = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k not in ("model_type", "architectures")}))
    llm.load_state_dict({k: v for k, v in tensors.items() if "mm_projector" not in k and "vision_tower" not in k})
    tower = CLIPVisionModel(CLIPVisionConfig.from_json_file(folder / "clip-tower" / "config.json"))
    prefix = "model.vision_tower.vision_tower."
    tower.load_state_dict({k[len(prefix):]: v for k, v in tensors.items() if k.startswith(prefix)})
    processor = CLIPImageProcessor.from_pretrained(folder / "clip-tower")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    llm.eval(), tower.eval()

    def project(x):
        w = lambda n: tensors[f"model.mm_projector.{n}"]
        x = torch.nn.functional.gelu(x @ w("0.weight").T + w("0.bias"))
        return x @ w("2.weight").T + w("2.bias")

    cases = []
    for names, question in PROMPTS:
        text = (
            f"<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{SYSTEM}<|eot_id|>"
            f"<|start_header_id|>user<|end_header_id|>\n\n{question}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        )
        ids, embeds = [], []
        images = [Image.open(TRAINING / "images" / name).convert("RGB") for name in names]
        for number, part in enumerate(text.split("<image>")):
            if number:
                pixels = processor(images[number - 1], return_tensors="pt")["pixel_values"]
                hidden = tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
                ids.append(-200)
                embeds.append(project(hidden)[0])
            tokens = tokenizer(part, add_special_tokens=False)["input_ids"]
            ids += tokens
            embeds.append(llm.model.embed_tokens(torch.tensor(tokens, dtype=torch.long)))
        inputs = torch.cat(embeds)[None]
        new = llm.generate(
            inputs_embeds=inputs,
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=40,
            eos_token_id=config["eos_token_id"],
            pad_token_id=config["pad_token_id"],
        )[0].tolist()
        text = tokenizer.decode(new, skip_special_tokens=True)
        cases.append({"images": names, "question": question, "ids": ids, "new": new, "text": text})
    return cases


def filters():
    generator = torch.Generator().manual_seed(0)
    cases = []
    for number, (temperature, top_k, top_p) in enumerate(
        [(t, k, p) for t in (1.0, 0.7, 2.5) for k in (0, 1, 5) for p in (1.0, 0.9, 0.5, 0.01)]
    ):
        logits = (3 * torch.randn(1, 24, generator=generator) * 1e4).round() / 1e4
        if number % 3 == 0:
            # Equal logits: top-k keeps all that are equal to the k-th.
            logits = logits.round()
        scores = logits
        if temperature != 1.0:
            scores = TemperatureLogitsWarper(temperature)(None, scores)
        if top_k:
            scores = TopKLogitsWarper(top_k)(None, scores)
        # Which of several equal tokens stand at the edge of a nucleus is up to a sort that is not stable.
        if top_p < 1.0:
            scores = TopPLogitsWarper(top_p)(None, scores)
        probabilities = scores.double().softmax(-1)[0]
        kept = [[i, round(p, 9)] for i, p in enumerate(probabilities.tolist()) if scores[0, i] > -float("inf")]
        edge = [i for i in range(24) if (logits[0] == logits[0, i]).sum() > 1]
        split = any((scores[0, i] > -float("inf")) != (scores[0, j] > -float("inf"))
                    for i in edge for j in edge if logits[0, i] == logits[0, j])
        if not split:
            cases.append({"logits": [round(x, 4) for x in logits[0].tolist()], "temperature": temperature,
                          "top_k": top_k, "top_p": top_p, "kept": kept})
    return cases


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = FIXTURES / "generation"
    folder.mkdir(exist_ok=True)
    with torch.no_grad():
        for name, cases in (("greedy", greedy()), ("filters", filters())):
            lines = ",\n".join(json.dumps(case) for case in cases)
            (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n")
