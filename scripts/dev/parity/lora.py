"""Parity cases of the group `lora`; see make_parity.py. Needs peft==0.14.0 (and accelerate, psutil) beside transformers 4.49.0.

A case is a tiny LLM as in the group `llms`, and in `adapter/` what PEFT's `save_pretrained` writes: A as PEFT draws it, B
random too (a fresh one is zero and would show nothing). `expected.safetensors`: `ids`, `logits` and `loss` with the adapter, no
dropout, `gradient.<tensor>` of every A and B under the names of the adapter file, and `merged.logits` after PEFT's
`merge_and_unload`.
"""

import json

import torch
import transformers
from safetensors.torch import save_file

from .llms import SMALL, randomize, write_checkpoint


def case(kind, seed, r, alpha, targets, **changes):
    def make(folder):
        import peft

        config = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes})
        config._attn_implementation = "eager"
        base = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
        randomize(base, seed)
        base.tie_weights()
        write_checkpoint(base, folder, True)
        torch.manual_seed(seed)
        lora = peft.LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.05, target_modules=targets, task_type="CAUSAL_LM")
        model = peft.get_peft_model(base, lora)
        generator = torch.Generator().manual_seed(seed + 1)
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.data = torch.randn(tensor.shape, generator=generator) * 0.1
        model.eval()
        model.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink()
        tidy(folder / "adapter" / "adapter_config.json")
        write_expected(model, folder)

    return make


def tidy(file):
    """Sets come in any order, and the path of the base is that of this machine."""
    config = json.loads(file.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = None
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_expected(model, folder):
    ids = torch.randint(3, model.config.vocab_size, (24,), generator=torch.Generator().manual_seed(24))
    logits = model(ids[None], use_cache=False).logits[0]
    loss = torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:])
    loss.backward()
    tensors = {"ids": ids.to(torch.uint32), "logits": logits, "loss": loss.reshape(1)}
    for name, tensor in model.named_parameters():
        if tensor.requires_grad:
            tensors[f"gradient.{name.replace('.default', '')}"] = tensor.grad
    tensors["merged.logits"] = model.merge_and_unload()(ids[None], use_cache=False).logits[0]
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, folder / "expected.safetensors")


ALL_CASES = {
    "llama": case(
        "Llama",
        seed=51,
        r=4,
        alpha=8,
        targets=["q_proj", "v_proj"],
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
    ),
    "phi3-all": case(
        "Phi3",
        seed=52,
        r=3,
        alpha=5,
        targets="all-linear",
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=2,
    ),
}

# One version of transformers makes them.
CASES = ALL_CASES if transformers.__version__ == "4.49.0" else {}
