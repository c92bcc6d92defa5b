"""Adapters that peft writes for an LLM, opened by llmore, and llmore's own, opened by peft."""

import json
import shutil

import peft
import torch
import transformers

from . import harness
from .harness import PICTURE, ROOT, Wrong, case, close, tensors
from .llms import ids, logits, save_language_model

PROJECTOR = 'projector("mlp2x_gelu", #{ pool: "average", tokens: 4 })'


def base(folder):
    """The LLM in `model`, and in `ours` an adapter folder as llmore writes it, whose adapter is then replaced."""
    model = save_language_model(folder, "Llama", {})
    (folder / "data.json").write_text(json.dumps([{
        "id": "a", "image": str(PICTURE),
        "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}],
    }]))
    harness.llmore(folder, f'''let m = vlm(encoder("tiny-clip"), {PROJECTOR}, llm("model"), #{{ template: "tiny" }});
        let t = trainer(m, dataset("data.json"), #{{ train: #{{ llm: 1e-2 }}, batch: 1, steps: 2, warmup_ratio: 0.0,
            schedule: "constant", lora: #{{ r: 2, alpha: 6, targets: ["q_proj", "gate_proj"] }}, out: "run" }});
        t.fit(); m.save("ours", #{{ merge: false }});''')
    return model


def adapted(folder, **options):
    """peft's adapter in place of llmore's, and peft's logits with it."""
    model = base(folder)
    torch.manual_seed(0)
    options = dict(r=2, lora_alpha=6, target_modules=["q_proj", "gate_proj"], task_type="CAUSAL_LM") | options
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**options))
    with torch.no_grad():
        for name, tensor in wrapped.named_parameters():
            if "lora_" in name:
                tensor.add_(0.1 * torch.randn(tensor.shape))
    wrapped.save_pretrained(folder / "adapter")
    for file in ["adapter_model.safetensors", "adapter_config.json"]:
        shutil.copy(folder / "adapter" / file, folder / "ours" / file)
    # As it is not what llmore wrote any more, its hashes do not hold.
    (folder / "ours" / "llmore.sha256").unlink()
    fresh = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", attn_implementation="eager", dtype=torch.float32)
    expected = logits(peft.PeftModel.from_pretrained(fresh, folder / "adapter").eval(), 12)
    out = tensors(folder, f'out["logits"] = load("ours").llm.logits({ids(12)});')
    return close(out["logits"], expected)


for what, options in {
    "plain LoRA": {},
    "target_modules as a regular expression": dict(target_modules=r".*\.(q_proj|gate_proj)"),
    "all-linear": dict(target_modules="all-linear"),
    "target_modules with exclude_modules": dict(target_modules=["q_proj", "v_proj"], exclude_modules=["v_proj"]),
    "init_lora_weights gaussian": dict(init_lora_weights="gaussian"),
    "init_lora_weights olora": dict(init_lora_weights="olora"),
    "use_rslora": dict(use_rslora=True),
    "rank_pattern and alpha_pattern": dict(rank_pattern={"gate_proj": 3}, alpha_pattern={"q_proj": 5}),
    "layers_to_transform": dict(layers_to_transform=[1]),
}.items():
    case("peft, transformers", f"adapter: {what}", **options)(adapted)
for what, says, options in [
    ("init_lora_weights pissa", "pissa", dict(init_lora_weights="pissa")),
    ("use_dora", "dora", dict(use_dora=True)),
    ("alora_invocation_tokens", "alora_invocation_tokens", dict(alora_invocation_tokens=[5, 6])),
    ("modules_to_save", "modules_to_save", dict(modules_to_save=["lm_head"])),
]:
    case("peft, transformers", f"adapter: {what}", "refused", says, **options)(adapted)


@case("peft, transformers", "llmore's adapter in peft")
def ours_in_peft(folder):
    model = base(folder)
    out = tensors(folder, f'out["logits"] = load("ours").llm.logits({ids(12)});')
    plain = logits(model, 12)
    with_adapter = logits(peft.PeftModel.from_pretrained(model, folder / "ours").eval(), 12)
    if (with_adapter - plain).abs().max() < 1e-3:
        raise Wrong("the adapter changes nothing")
    return close(out["logits"], with_adapter)
