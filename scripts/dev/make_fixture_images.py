"""Make what is generated of tests/fixtures/images: a picture in the style of easy-VQA, a truncated PNG, a text file
called .png, and decode/: small files of every kind with the pixels Pillow makes of them.

    python3 -m venv .venv && .venv/bin/pip install -r scripts/dev/requirements.txt
    .venv/bin/python scripts/dev/make_fixture_images.py

The style, read off the training pictures: 64x64, a pale background of one color, one plain shape with a smooth edge.
The picture is drawn here and is not in the data set.
"""

import io

from PIL import Image, ImageDraw

import decode_files
from packages import ROOT

IMAGES = ROOT / "tests" / "fixtures" / "images"
SCALE = 8  # drawn larger and box-averaged, which gives the edge its smooth pixels


def red_circle():
    picture = Image.new("RGB", (64 * SCALE, 64 * SCALE), (240, 246, 250))
    draw = ImageDraw.Draw(picture)
    draw.ellipse([20 * SCALE, 16 * SCALE, 46 * SCALE - 1, 42 * SCALE - 1], fill=(255, 0, 0))
    file = io.BytesIO()
    picture.resize((64, 64), Image.Resampling.BOX).save(file, "PNG", optimize=True)
    return file.getvalue()


def main():
    IMAGES.mkdir(parents=True, exist_ok=True)
    png = red_circle()
    (IMAGES / "red-circle.png").write_bytes(png)
    (IMAGES / "corrupt.png").write_bytes(png[:len(png) // 2])
    (IMAGES / "not-an-image.png").write_text("This is a text file, whatever its name says.\n")
    decode_files.write(IMAGES / "decode", Image.open(IMAGES / "rgb-336x336.png").convert("RGB"))


if __name__ == "__main__":
    main()
