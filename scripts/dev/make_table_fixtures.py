"""Writes the tables of tests/fixtures/data/tables with the libraries people write them with.

Made with polars 2.1.0, pyarrow 26.0.1, datasets 5.2.0, duckdb 2.0.1 and Pillow 13.0.0:
    python scripts/dev/make_table_fixtures.py
"""

import io
import json
import os
import pathlib

import datasets
import duckdb
import polars
import pyarrow
import pyarrow.parquet
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests/fixtures/data/tables"
RED, BLUE = Image.new("RGB", (6, 4), (200, 10, 20)), Image.new("RGB", (3, 5), (10, 20, 200))


def png(image):
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def turns(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


ROWS = [
    {"id": "a", "conversations": turns("<image>\nWhat color?", "red"), "image": {"bytes": png(RED), "path": None}},
    {"id": "b", "conversations": turns("2 + 2?", "4"), "image": None},
]


def codecs():
    for codec in ["zstd", "lz4", "brotli", "gzip", "snappy", "none"]:
        table = pyarrow.Table.from_pylist(ROWS)
        pyarrow.parquet.write_table(table, ROOT / f"pyarrow-{codec}.parquet", compression=codec)
    for codec in ["zstd", "lz4", "brotli", "gzip", "snappy", "uncompressed"]:
        polars.DataFrame(ROWS).write_parquet(ROOT / f"polars-{codec}.parquet", compression=codec)


def several():
    """Two pictures in one row, one in another, none in a third."""
    features = datasets.Features(
        images=datasets.List(datasets.Image()),
        conversations=datasets.List({"from": datasets.Value("string"), "value": datasets.Value("string")}),
    )
    rows = {
        "images": [[RED, BLUE], [BLUE], []],
        "conversations": [
            turns("Compare <image> with <image>.", "red, blue"),
            turns("<image>\nWhat color?", "blue"),
            turns("2 + 2?", "4"),
        ],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(ROOT / "datasets-images.parquet")


def sequence():
    """`Sequence` is a struct of lists; flags of turns beside the texts."""
    text = datasets.Value("string")
    features = datasets.Features(
        id=datasets.Value("int64"),
        system=text,
        conversations=datasets.Features(
            {"from": datasets.List(text), "value": datasets.List(text), "weight": datasets.List(datasets.Value("float32"))}
        ),
    )
    talk = {"from": ["human", "gpt"] * 2, "value": ["a?", "b", "c?", "d"], "weight": [None, 0.0, None, 1.0]}
    rows = {"id": [3, 4], "system": ["Be brief.", None], "conversations": [talk, talk]}
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(ROOT / "datasets-sequence.parquet")
    data.to_json(ROOT / "datasets-lines.json")


def paths():
    """Pictures given by path: the bytes stay null."""
    (ROOT / "pics").mkdir(exist_ok=True)
    (ROOT / "pics/red.png").write_bytes(png(RED))
    os.chdir(ROOT)
    text = datasets.Value("string")
    features = datasets.Features(image=datasets.Image(), conversations=datasets.List({"from": text, "value": text}))
    rows = {"image": ["pics/red.png", None], "conversations": [ROWS[0]["conversations"], ROWS[1]["conversations"]]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(ROOT / "datasets-paths.parquet")


def texts():
    """Turns as JSON in a text column, and as chat messages."""
    frame = polars.DataFrame(
        [{"image": png(RED), "conversations": json.dumps(ROWS[0]["conversations"]), "quality": 3},
         {"image": None, "conversations": json.dumps(ROWS[1]["conversations"]), "quality": None}]
    )
    frame.write_parquet(ROOT / "polars-json-text.parquet")
    chat = [{"role": "user", "content": "<image>\nWhat color?"}, {"role": "assistant", "content": "red"}]
    polars.DataFrame([{"images": [png(RED)], "messages": chat}]).write_parquet(ROOT / "polars-messages.parquet")
    parts = [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What color?"}]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"messages": parts}]), ROOT / "pyarrow-parts.parquet")


def duck():
    talk = json.dumps(turns("2 + 2?", "4"))
    duckdb.sql(f"COPY (SELECT 7 AS id, '{talk}'::JSON AS conversations UNION ALL SELECT 8, '{talk}'::JSON) TO '{ROOT}/duckdb-lines.json'")


if __name__ == "__main__":
    ROOT.mkdir(parents=True, exist_ok=True)
    for make in [codecs, several, sequence, paths, texts, duck]:
        make()
