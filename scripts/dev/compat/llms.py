"""LLMs and towers that transformers writes, and what it computes with them."""

import math
import shutil

import torch
import transformers

from . import harness
from .harness import TOKENIZER, case, close, tensors

SMALL = dict(
    vocab_size=288, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=256, bos_token_id=281, eos_token_id=287, pad_token_id=283,
)
GEMMA = dict(head_dim=8, query_pre_attn_scalar=16, sliding_window=8)
LONGROPE = dict(rope_type="longrope", rope_theta=2e4, partial_rotary_factor=0.75, original_max_position_embeddings=16,
                short_factor=[1.0, 1.1, 1.2], long_factor=[1.0, 2.0, 4.0])
LLAMA_3 = dict(rope_type="llama3", rope_theta=5e5, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
               original_max_position_embeddings=32)
GEMMA_3 = dict(full_attention=dict(rope_type="linear", rope_theta=2e5, factor=8.0),
               sliding_attention=dict(rope_type="default", rope_theta=5e3))
LAYERS = ["full_attention", "sliding_attention", "full_attention"]

FAMILIES = {
    "Llama": ("Llama", {}),
    "Llama, llama3 rope, tied": ("Llama", dict(rope_parameters=LLAMA_3, tie_word_embeddings=True)),
    "Llama, linear rope, biases": (
        "Llama", dict(rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=4.0), attention_bias=True, mlp_bias=True)
    ),
    "Mistral with a window": ("Mistral", dict(sliding_window=8)),
    "Phi-3, longrope": ("Phi3", dict(rope_parameters=LONGROPE, original_max_position_embeddings=16)),
    "Gemma 2": ("Gemma2", GEMMA),
    "Gemma 3, two ropes": ("Gemma3Text", GEMMA | dict(rope_parameters=GEMMA_3, layer_types=LAYERS)),
    "Qwen 2, tied": ("Qwen2", dict(tie_word_embeddings=True)),
}
TEXT = "The picture shows a red circle and a blue square beside it; what is on the left of them? " * 2


def randomize(model, seed: int = 0):
    """Every tensor matters: no norm is the identity, no bias zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            if tensor.ndim == 1:
                centered = ("norm" in name and name.endswith("weight") and "Gemma" not in type(model).__name__)
                tensor.copy_(0.2 * noise + (1.0 if centered or "lambda1" in name else 0.0))
            elif "position" in name or "token" in name.split(".")[-1]:
                tensor.copy_(0.2 * noise)
            else:
                tensor.copy_(noise / math.sqrt(tensor[0].numel()))
    return model.eval()


def language_model(kind: str, changes: dict):
    config = getattr(transformers, f"{kind}Config")(**{**SMALL, **changes})
    config._attn_implementation = "eager"
    model = randomize(getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config))
    model.tie_weights()
    return model


def save_language_model(folder, kind: str, changes: dict):
    model = language_model(kind, changes)
    model.save_pretrained(folder / "model")
    transformers.PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER)).save_pretrained(folder / "model")
    return model


def ids(count: int) -> list[int]:
    return [(i * 37 + 11) % 280 for i in range(count)]


def logits(model, count: int) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids(count)]), use_cache=False).logits[0]


def open_and_compare(folder, kind, changes):
    model = save_language_model(folder, kind, changes)
    out = tensors(folder, f'let lm = llm("model"); out["short"] = lm.logits({ids(12)}); out["long"] = lm.logits({ids(60)});')
    return max(close(out["short"], logits(model, 12)), close(out["long"], logits(model, 60)), key=float)


for name, (kind, changes) in FAMILIES.items():
    case("transformers", f"LLM folder: {name}", kind=kind, changes=changes)(open_and_compare)


@case("transformers", "LLM folder in bf16, four shards")
def shards(folder):
    model = language_model("Llama", {}).to(torch.bfloat16)
    model.save_pretrained(folder / "model", max_shard_size="12KB")
    shutil.copy(TOKENIZER, folder / "model")
    assert len(list((folder / "model").glob("*.safetensors"))) > 3
    out = tensors(folder, f'out["logits"] = llm("model").logits({ids(12)});')
    # Opened again: `.to(bfloat16)` rounds the rotary frequencies, which are in no file.
    again = transformers.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager")
    return close(out["logits"], logits(again.eval(), 12))


@case("transformers", "greedy generation, 24 tokens")
def generation(folder):
    model = save_language_model(folder, "Llama", {})
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "model")
    given = tokenizer(TEXT[:60], return_tensors="pt")
    with torch.no_grad():
        new = model.generate(given.input_ids, max_new_tokens=24, do_sample=False, pad_token_id=283)[0, given.input_ids.shape[1]:]
    said = harness.llmore(folder, f'print(llm("model").generate("{TEXT[:60]}", #{{ max_new_tokens: 24 }}));')
    return harness.equal(said.strip(), tokenizer.decode(new, skip_special_tokens=True).strip())


@case("transformers, tokenizers", "tokenizer folder: ids of a text")
def tokenizer(folder):
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(TOKENIZER))
    theirs.add_tokens(["<image>", "<extra>"], special_tokens=True)
    theirs.save_pretrained(folder / "tok")
    theirs = transformers.AutoTokenizer.from_pretrained(folder / "tok")
    text = "a <image> of <extra> things, 42 of them"
    ours = harness.llmore(folder, f'print(tokenizer("tok").encode("{text}"));')
    return harness.equal([int(x) for x in ours.strip(" []\n").split(",")], theirs(text).input_ids)


for kind in ["Qwen3", "SmolLM3", "Olmo2"]:

    def unknown(folder, kind):
        save_language_model(folder, kind, {})
        tensors(folder, f'out["logits"] = llm("model").logits({ids(4)});')

    case("transformers", f"LLM folder of another family: {kind}", "refused", kind.lower(), kind=kind)(unknown)
