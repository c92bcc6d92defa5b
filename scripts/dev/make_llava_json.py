"""Writes a LLaVA JSON of made-up conversations as long as those of llava_v1_5_mix665k.json, to measure reading at full size.

    python3 scripts/dev/make_llava_json.py big.json             # 665,298 samples, about 1 GB
    python3 scripts/dev/make_llava_json.py small.json 1000 --images names.txt

Six of a hundred samples have no picture; names.txt holds picture names, one a line, that samples take in turn.
"""

import argparse
import json
import random

WORDS = (
    "the a of in is and to with on are image what that picture which can person there near color red white table "
    "street standing behind train caf\u00e9 \u201csign\u201d answer question using single word or phrase region"
).split()


def text(rng, mean):
    return " ".join(rng.choices(WORDS, k=max(1, int(rng.expovariate(1 / mean)))))


def sample(rng, number, images):
    image = rng.random() < 0.94
    turns = []
    for turn in range(rng.randint(1, 9)):
        question = text(rng, 12)
        if turn == 0 and image:
            question = "<image>\n" + question
        turns.append({"from": "human", "value": question})
        turns.append({"from": "gpt", "value": text(rng, 32)})
    # Ids are strings in most parts of the published file and numbers in others.
    item = {"id": f"{number:012d}" if number % 5 else number}
    if image:
        item["image"] = images[number % len(images)] if images else f"coco/train2017/{number:012d}.jpg"
    return {**item, "conversations": turns}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("samples", nargs="?", type=int, default=665_298)
    parser.add_argument("--images")
    arguments = parser.parse_args()
    images = open(arguments.images, encoding="utf-8").read().split("\n")[:-1] if arguments.images else []
    rng = random.Random(0)
    with open(arguments.path, "w", encoding="utf-8") as file:
        for number in range(arguments.samples):
            file.write("[\n" if number == 0 else ",\n")
            file.write(json.dumps(sample(rng, number, images), indent=2))
        file.write("\n]\n")


main()
