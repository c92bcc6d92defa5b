"""Make stdlib/models/tiny-llama: train the tokenizer on the embedded data, write it and the configuration files.

    python3 -m venv .venv && .venv/bin/pip install -r scripts/dev/requirements.txt
    .venv/bin/python scripts/dev/make_tokenizer.py           # no network, a few seconds, byte-identical every time
    .venv/bin/python scripts/dev/make_tokenizer.py --check   # train again, compare with the files, write nothing

A byte-level BPE of 1,024 tokens. Every easy-VQA word is one token, with a space before it and without; "\\n" is always
a token of its own. The weights of the model are not made here.
"""

import argparse
import collections
import itertools
import json
import os
import sys

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from packages import ROOT, read_safetensors

MODELS = ROOT / "stdlib" / "models"
DATA = ROOT / "stdlib" / "data"
SPECIAL = ["<pad>", "<s>", "</s>"]
# A line break, a word, a digit, a run of punctuation (each but the first with the space before it), other white space.
PIECES = r"\n| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|[^\S\n]+(?!\S)|[^\S\n]"

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "head_dim": 32,
    "hidden_act": "silu",
    "hidden_size": 128,
    "initializer_range": 0.08,
    "intermediate_size": 344,
    "max_position_embeddings": 1024,
    "mlp_bias": False,
    "model_type": "llama",
    "num_attention_heads": 4,
    "num_hidden_layers": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
    "use_cache": True,
    "vocab_size": 1024,
}

TOKENIZER_CONFIG = {
    "add_bos_token": True,
    "add_eos_token": False,
    "added_tokens_decoder": {
        str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                 "special": True}
        for i, token in enumerate(SPECIAL)
    },
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "</s>",
    "model_max_length": 1024,
    "pad_token": "<pad>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def texts():
    """(easy-VQA questions, answers, captions for its pictures, emoji captions)."""
    _, vqa = read_safetensors(DATA / "easy-vqa-train.safetensors")
    _, emoji = read_safetensors(DATA / "emoji.safetensors")
    answers = json.loads(vqa["answers"])
    shapes = [a for a in answers if a in ("circle", "rectangle", "triangle")]
    colors = [a for a in answers if a not in shapes and a not in ("yes", "no")]
    captions = [form.format(f"{color} {shape}") for color, shape in itertools.product(colors, shapes)
                for form in ("a {}", "a picture of a {}", "an image of a {}", "the image shows a {}", "there is a {}")]
    return json.loads(vqa["questions"]), answers, captions, json.loads(emoji["captions"])


def words(lines):
    return sorted({word.strip("?") for line in lines for word in line.split()})


def corpus():
    """Lines to train on. A word is repeated so often that each of its merges outranks those of the emoji captions."""
    questions, answers, captions, emoji = texts()
    ours = words(questions + answers + captions + ["USER: ASSISTANT: Question: Answer: Describe the image."])
    for word in ours:
        for text in (word, f" {word}"):
            yield from itertools.repeat(text, 2000)
    for line in questions + captions:
        yield from itertools.repeat(line + "\n", 20)
    yield from emoji
    yield from (f" {line}" for line in emoji)
    # Ordinary requests, so that a question outside easy-VQA does not fall apart into letters.
    yield from itertools.repeat("What is in this picture? Describe the image. How many are there? Which one? "
                                "What color is it? Can you see it? Where is it? What do you see? Please answer.\n", 40)


def train():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PIECES), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=LLAMA["vocab_size"], special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", SPECIAL.index("<s>"))])
    return tokenizer


def verify(tokenizer):
    """What the module text promises."""
    assert tokenizer.get_vocab_size() == LLAMA["vocab_size"]
    assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2]
    questions, answers, captions, emoji = texts()

    def ids(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    for word in words(questions + answers + captions):
        assert len(ids(word)) == len(ids(f" {word}")) == 1, word
    for question in questions:
        assert len(ids(question)) == len(question.split()) + 1, question
    assert ids("shape?\n") == ids("shape") + ids("?") + ids("\n") and len(ids("?\n\n")) == 3
    assert tokenizer.encode("a").ids[0] == 1
    samples = questions + captions + emoji + [
        "", " ", "  a   b \t\tc\r\n\n d ", "Caf\u00e9 na\u00efve \u00df e\u0301\u0302",
        "\u4f60\u597d\uff0c\u4e16\u754c", "\U0001f34e\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "\u0645\u0631\u062d\u0628\u0627 1234.5e-6 != $%^&*()",
        "\u0000\u0001\ufeff\uffff\u00a0\u3000x\u2028y", "".join(map(chr, range(1, 0x2FF)))]
    for text in samples:
        assert tokenizer.decode(ids(text)) == text, repr(text)


def parameters(config):
    """Parameters of a Llama with tied embeddings and no biases."""
    width, head = config["hidden_size"], config["head_dim"]
    attention = 2 * width * head * (config["num_attention_heads"] + config["num_key_value_heads"])
    layer = attention + 3 * width * config["intermediate_size"] + 2 * width
    return config["vocab_size"] * width + config["num_hidden_layers"] * layer + width


def report(tokenizer):
    tensors, vqa = read_safetensors(DATA / "easy-vqa-train.safetensors")
    questions, _, captions, emoji = texts()
    length = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in questions]
    per_image = collections.Counter()
    for question, image in zip(tensors["question"], tensors["image"]):
        per_image[image] += length[question]
    mean = sum(length[question] for question in tensors["question"]) / len(tensors["question"])
    print(f"easy-VQA train questions: {mean:.2f} tokens each ({min(length)} to {max(length)}), "
          f"{sum(per_image.values()) / len(per_image):.1f} for all questions of an image "
          f"({len(tensors['question']) / len(per_image):.2f} on average); an answer: 1")
    for name, lines in (("emoji", emoji), ("easy-VQA", captions)):
        counts = [len(tokenizer.encode(line, add_special_tokens=False).ids) for line in lines]
        print(f"{name} captions: {sum(counts) / len(counts):.2f} tokens, at most {max(counts)}")
    print("what color is the shape? ->", tokenizer.encode("what color is the shape?").tokens)
    print(f"tiny-llama: {parameters(LLAMA):,} parameters")
    assert parameters(LLAMA) <= 1_000_000


def main():
    parser = argparse.ArgumentParser(description="Make or check stdlib/models/tiny-llama.")
    parser.add_argument("--check", action="store_true", help="compare with the files instead of writing them")
    check = parser.parse_args().check
    tokenizer = train()
    verify(tokenizer)
    files = {
        "tokenizer.json": tokenizer.to_str(pretty=True) + "\n",
        "tokenizer_config.json": json.dumps(TOKENIZER_CONFIG, indent=2) + "\n",
        "config.json": json.dumps(LLAMA, indent=2) + "\n",
    }
    for name, text in files.items():
        path = MODELS / "tiny-llama" / name
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path} differs from what this script makes")
    report(tokenizer)


if __name__ == "__main__":
    main()
