"""Training data and benchmarks as datasets, polars, duckdb, pandas and pyarrow write them."""

import io
import json

import datasets
import duckdb
import pandas
import polars
import pyarrow
import pyarrow.parquet
from PIL import Image

from . import harness
from .harness import Wrong, case, equal

TURNS = [{"from": "human", "value": "<image>\nWhat color?"}, {"from": "gpt", "value": "red"}]
QUESTIONS = [
    {"question_id": str(i), "question": f"Is there a dog, {i}?", "answer": "yes" if i % 2 else "no", "category": "popular",
     "image_source": f"picture-{i // 2}"} for i in range(6)
]


def picture(mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A small picture with every value different; palettes and CMYK are made in memory, as augmentation leaves them."""
    image = Image.frombytes("RGB", (9, 7), bytes((i * 37 + seed * 11) % 256 for i in range(9 * 7 * 3)))
    return image.convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def read_samples(folder, file: str, expected: list[Image.Image]):
    """Every sample opens, and its picture has Pillow's pixels."""
    lines = [f'let d = dataset("{file}"); print(d.len);']
    for i, image in enumerate(expected):
        image.convert("RGB").save(folder / f"expected-{i}.png")
        lines.append(f'''let a = encoder("tiny-clip", #{{ weights: "none" }});
            print(max_abs_diff(a.preprocess(d[{i}].image), a.preprocess(image("expected-{i}.png"))));''')
    lines.append("print(d[0].turns.len());")
    said = harness.llmore(folder, "\n".join(lines)).split()
    return equal([float(x) for x in said], [float(len(expected)), *[0.0] * len(expected), 2.0])


def datasets_parquet(folder, modes):
    images = [picture(mode, seed) for seed, mode in enumerate(modes)]
    features = datasets.Features({
        "id": datasets.Value("string"), "image": datasets.Image(),
        "conversations": datasets.List({"from": datasets.Value("string"), "value": datasets.Value("string")}),
    })
    rows = {"id": [str(i) for i in range(len(images))], "image": images, "conversations": [TURNS] * len(images)}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "set.parquet")
    return read_samples(folder, "set.parquet", images)


case("datasets, pillow", "parquet with pictures of modes RGB, L, RGBA, LA (PNG in the file)",
     modes=["RGB", "L", "RGBA", "LA"])(datasets_parquet)
case("datasets, pillow", "parquet with pictures of modes P, CMYK, I;16 (TIFF in the file)",
     modes=["P", "CMYK", "I;16"])(datasets_parquet)


@case("datasets", "parquet with a list of pictures in `images`")
def several_pictures(folder):
    features = datasets.Features({
        "images": datasets.List(datasets.Image()),
        "conversations": datasets.List({"from": datasets.Value("string"), "value": datasets.Value("string")}),
    })
    images = [picture("RGB", seed) for seed in range(2)]
    rows = {"images": [[image] for image in images], "conversations": [TURNS] * 2}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "set.parquet")
    return read_samples(folder, "set.parquet", images)


def pictures_beside(folder, count: int = 3):
    images = [picture("RGB", seed) for seed in range(count)]
    for i, image in enumerate(images):
        image.save(folder / f"{i}.png")
    return images, [{"id": str(i), "image": f"{i}.png", "conversations": TURNS} for i in range(count)]


@case("datasets", "to_json: one object a line in a .json")
def datasets_json(folder):
    images, rows = pictures_beside(folder)
    datasets.Dataset.from_list(rows).to_json(folder / "set.json")
    return read_samples(folder, "set.json", images)


@case("duckdb", "COPY .. TO a .json: one object a line")
def duckdb_json(folder):
    images, rows = pictures_beside(folder)
    (folder / "rows.json").write_text(json.dumps(rows))
    duckdb.sql(f"COPY (SELECT * FROM read_json('{folder}/rows.json') ORDER BY id) TO '{folder}/set.json'")
    return read_samples(folder, "set.json", images)


@case("pandas", "to_json, records")
def pandas_json(folder):
    images, rows = pictures_beside(folder)
    pandas.DataFrame(rows).to_json(folder / "set.json", orient="records")
    return read_samples(folder, "set.json", images)


@case("polars", "write_parquet with its defaults (zstd), pictures as a struct")
def polars_parquet(folder):
    images = [picture("RGB", seed) for seed in range(3)]
    rows = [{"id": str(i), "image": {"bytes": png(image), "path": None}, "conversations": TURNS} for i, image in enumerate(images)]
    polars.DataFrame(rows).write_parquet(folder / "set.parquet")
    return read_samples(folder, "set.parquet", images)


def benchmark(folder, file: str):
    """All six questions, in order, with their golds."""
    golds = json.dumps([row["answer"] for row in QUESTIONS])
    said = harness.llmore(folder, f'let b = benchmark("pope", #{{ data: "{file}" }}); print(b.len); print(b.score({golds}).metrics.accuracy);')
    return equal([float(x) for x in said.split()], [6.0, 1.0])


def pyarrow_codec(folder, compression):
    rows = [row | {"image": {"bytes": png(picture()), "path": None}} for row in QUESTIONS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "pope.parquet", compression=compression)
    return benchmark(folder, "pope.parquet")


for codec in ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]:
    case("pyarrow", f"benchmark as parquet with {codec}", compression=codec)(pyarrow_codec)


@case("polars", "benchmark as parquet with its defaults")
def polars_benchmark(folder):
    polars.DataFrame(QUESTIONS).write_parquet(folder / "pope.parquet")
    return benchmark(folder, "pope.parquet")


@case("duckdb", "benchmark as parquet, version 2 pages")
def duckdb_benchmark(folder):
    polars.DataFrame(QUESTIONS).write_csv(folder / "pope.csv")
    duckdb.sql(f"COPY (SELECT * FROM read_csv('{folder}/pope.csv', all_varchar=true) ORDER BY question_id) "
               f"TO '{folder}/pope.parquet' (FORMAT parquet, PARQUET_VERSION v2)")
    return benchmark(folder, "pope.parquet")


@case("polars", "benchmark as NDJSON")
def polars_ndjson(folder):
    polars.DataFrame(QUESTIONS).write_ndjson(folder / "pope.jsonl")
    return benchmark(folder, "pope.jsonl")


def saved(folder, names):
    table = pyarrow.Table.from_pylist([row | {"image": {"bytes": png(picture()), "path": None}} for row in QUESTIONS])
    half = table.slice(0, 3), table.slice(3)
    (folder / "set/data").mkdir(parents=True)
    for name, part in zip(names, half):
        pyarrow.parquet.write_table(part, folder / "set/data" / name)
    return benchmark(folder, "set")


case("pyarrow", "benchmark in shards as on the hub", names=["test-00000-of-00002.parquet", "test-00001-of-00002.parquet"])(saved)
case("pyarrow", "benchmark with a shard missing", "refused", "00001-of-00003", names=["test-00000-of-00003.parquet", "test-00002-of-00003.parquet"])(saved)
