#!/usr/bin/env bash
# datasets 5.2.0: an `Image()` column holds a picture made in memory as PNG only where its mode is 1, L, LA, RGB or RGBA. Palettes,
# CMYK, YCbCr, LAB, 16-bit, 32-bit and float pictures become TIFF, uncompressed. So a parquet file of
# quantized or scanned pictures needs a TIFF reader, though nobody ever saw a TIFF.
# Guess it corrects: the bytes are PNG, as for every picture one tries first.
# Output seen: PNG: 1 L LA RGB RGBA; TIFF: CMYK F I I;16 LAB P YCbCr.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pillow==13.0.0 pyarrow==26.0.1
"$folder/venv/bin/python" -W ignore - <<'PY'
import io
import pathlib
import tempfile

import datasets
import pyarrow.parquet
from PIL import Image

datasets.disable_progress_bars()
base = Image.frombytes("RGB", (4, 4), bytes(range(48)))
stored = {}
with tempfile.TemporaryDirectory() as folder:
    for mode in ["1", "L", "LA", "RGB", "RGBA", "P", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"]:
        picture = base.convert("I").convert("I;16") if mode == "I;16" else base.convert(mode)
        features = datasets.Features({"image": datasets.Image()})
        file = pathlib.Path(folder) / "set.parquet"
        datasets.Dataset.from_dict({"image": [picture]}, features=features).to_parquet(file)
        data = pyarrow.parquet.read_table(file)["image"][0]["bytes"].as_py()
        stored.setdefault(Image.open(io.BytesIO(data)).format, []).append(mode)
for kind, modes in stored.items():
    print(f"{kind}: {' '.join(sorted(modes))}")
assert stored == {"PNG": ["1", "L", "LA", "RGB", "RGBA"], "TIFF": ["P", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"]}, stored
PY
