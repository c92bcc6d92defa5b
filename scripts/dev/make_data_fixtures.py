"""Make tests/fixtures/data: archives of the pictures in tests/fixtures/images, written by Python's zipfile and tarfile in the
ways they know, and a data set in parquet.

    python3 -m venv .venv && .venv/bin/pip install pyarrow==26.0.1
    .venv/bin/python scripts/dev/make_data_fixtures.py
"""

import io
import pathlib
import tarfile
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = ROOT / "tests" / "fixtures" / "images"
OUT = ROOT / "tests" / "fixtures" / "data"
PICTURES = ["red-circle.png", "noise-14x9.png", "narrow-1x37.png"]
LONG = "train2017/" + "/".join(f"a-rather-long-folder-name-{i}" for i in range(6)) + "/noise-14x9.png"
DATE = (2024, 1, 1, 0, 0, 0)


def members():
    """(name, bytes): plain, with `./`, reaching outside, with a long path, not ASCII, twice."""
    circle, noise, narrow = (IMAGES.joinpath(name).read_bytes() for name in PICTURES)
    return [
        ("coco/red-circle.png", circle),
        ("./coco/noise-14x9.png", noise),
        ("../outside.png", narrow),
        (LONG, noise),
        ("caf\u00e9.png", narrow),
        ("twice.png", circle),
        ("twice.png", narrow),
    ]


class Unseekable(io.RawIOBase):
    """Makes zipfile write data descriptors."""

    def __init__(self):
        self.written = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.written += data
        return len(data)


def write_zip(target, wide=False):
    limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    if wide:  # the 64-bit fields of large archives, in a small one
        zipfile.ZIP64_LIMIT = zipfile.ZIP_FILECOUNT_LIMIT = 1
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(zipfile.ZipInfo("coco/", DATE), b"")
        for number, (name, data) in enumerate(members()):
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            archive.writestr(info, data)
        info = zipfile.ZipInfo("packed-otherwise.png", DATE)
        info.compress_type = zipfile.ZIP_BZIP2
        archive.writestr(info, members()[0][1])
        archive.comment = b"a comment"
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits


def write_tar(path, kind):
    with tarfile.open(path, "w", format=kind) as archive:
        folder = tarfile.TarInfo("coco")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def write_parquet():
    turns = lambda question, answer: [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    picture = lambda name: {"bytes": IMAGES.joinpath(name).read_bytes(), "path": name}
    rows = [
        {"id": "a", "image": picture(PICTURES[0]), "conversations": turns("<image>\nWhat is it?", "A circle.")},
        {"id": "b", "image": None, "conversations": turns("What is 2 + 2?", "4")},
        {"id": "c", "image": picture(PICTURES[1]), "conversations": turns("<image>\nAnd this?", "")},
    ]
    turn = pa.struct([("from", pa.string()), ("value", pa.string())])
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("id", pa.string()), ("image", image), ("conversations", pa.list_(turn))])
    pq.write_table(pa.Table.from_pylist(rows, schema), OUT / "samples.parquet", row_group_size=2)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    write_zip(OUT / "pictures.zip")
    write_zip(OUT / "wide.zip", wide=True)
    # Python writes what fits into the 32-bit end record; larger archives have all ones there.
    wide = bytearray((OUT / "wide.zip").read_bytes())
    end = wide.rindex(b"PK\x05\x06")
    wide[end + 8 : end + 20] = b"\xff" * 12
    (OUT / "wide.zip").write_bytes(bytes(wide))
    stream = Unseekable()
    write_zip(stream)
    (OUT / "streamed.zip").write_bytes(bytes(stream.written))
    write_tar(OUT / "gnu.tar", tarfile.GNU_FORMAT)
    write_tar(OUT / "pax.tar", tarfile.PAX_FORMAT)
    write_parquet()


main()
