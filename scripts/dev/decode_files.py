"""Image files of every kind that llmore decodes, with what Pillow's `open(...).convert("RGB")` makes of them.

What Pillow cannot write (subsampling 4:4:0 and 4:1:1, YCCK, frames that do not cover a GIF's screen, most BMP and
PNG variants) is put together here byte by byte.
"""

import hashlib
import io
import json
import random
import struct
import warnings
import zlib

from PIL import Image

RANDOM = random.Random(11)


def noise(count):
    return RANDOM.randbytes(count)


def encoded(picture, kind, **options):
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


class Pictures:
    """Crops of a photograph; every third is roughened with noise."""

    def __init__(self, photograph):
        self.photograph = photograph
        self.count = 0

    def rgb(self, width=None, height=None):
        width, height = width or RANDOM.randint(1, 60), height or RANDOM.randint(1, 60)
        left, top = RANDOM.randint(0, 336 - width), RANDOM.randint(0, 336 - height)
        crop = self.photograph.crop((left, top, left + width, top + height))
        self.count += 1
        if self.count % 3:
            return crop
        return Image.blend(crop, Image.frombytes("RGB", crop.size, noise(width * height * 3)), 0.4)

    def with_fourth(self, mode, **size):
        picture = self.rgb(**size)
        fourth = self.rgb(*picture.size).convert("L")
        return Image.merge(mode, [*picture.split(), fourth])


def jpegs(pictures):
    for sampling, name in enumerate(["444", "422", "420"]):
        for quality in (30, 75, 95, 100):
            yield f"{name}-{quality}.jpg", encoded(pictures.rgb(), "JPEG", quality=quality, subsampling=sampling)
        options = dict(quality=85, subsampling=sampling)
        yield f"{name}-progressive.jpg", encoded(pictures.rgb(), "JPEG", progressive=True, **options)
        yield f"{name}-restart.jpg", encoded(pictures.rgb(), "JPEG", restart_marker_blocks=2, **options)
        yield f"{name}-tables.jpg", encoded(pictures.rgb(), "JPEG", optimize=True, **options)
        for edge in (1, 2, 5):
            yield f"{name}-{edge}x{edge}.jpg", encoded(pictures.rgb(edge, edge), "JPEG", **options)
    exif = Image.Exif()
    exif[0x112] = 6
    yield "exif.jpg", encoded(pictures.rgb(), "JPEG", exif=exif)
    yield "rgb.jpg", encoded(pictures.rgb(), "JPEG", keep_rgb=True)
    yield "gray.jpg", encoded(pictures.rgb().convert("L"), "JPEG")
    cmyk = encoded(pictures.with_fourth("CMYK"), "JPEG", quality=90)
    yield "cmyk.jpg", cmyk
    ycck = bytearray(cmyk)
    ycck[ycck.index(b"Adobe") + 11] = 2
    yield "ycck.jpg", bytes(ycck)
    # The blocks of 4:2:2 and 4:2:0 told to lie otherwise; the size follows.
    for name, sampling, declared, block in [("440", 1, 0x12, (8, 16)), ("411", 2, 0x41, (32, 8))]:
        for progressive in (False, True):
            mcu = (16, 8 * sampling)
            picture = pictures.rgb(3 * mcu[0], 2 * mcu[1])
            data = bytearray(encoded(picture, "JPEG", subsampling=sampling, progressive=progressive))
            frame = data.index(b"\xff\xc2" if progressive else b"\xff\xc0")
            data[frame + 11] = declared
            data[frame + 5:frame + 9] = struct.pack(">HH", 2 * block[1] - 3, 3 * block[0] - 5)
            yield f"{name}{'-progressive' * progressive}.jpg", bytes(data)
    whole = encoded(pictures.rgb(50, 40), "JPEG")
    progressive = encoded(pictures.rgb(50, 40), "JPEG", progressive=True)
    yield "jpeg.png", whole
    yield "trailing.jpg", whole + b"more"
    for cut in (1, 2, 200):
        yield f"cut-{cut}.jpg", whole[:-cut]
    yield "cut-progressive.jpg", progressive[:-300]


def png(width, height, bits, color, interlaced, extra=b""):
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    adam7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b""
    for left, top, right, down in adam7 if interlaced else [(0, 0, 1, 1)]:
        columns, lines = len(range(left, width, right)), len(range(top, height, down))
        for _ in range(lines if columns else 0):
            rows += bytes([RANDOM.randrange(5)]) + noise((columns * bits * samples + 7) // 8)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pngs(pictures):
    depths = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
    for color, bits in [(color, bits) for color, all_bits in depths.items() for bits in all_bits]:
        palette = chunk(b"PLTE", noise(3 << bits)) if color == 3 else b""
        for interlaced in (0, 1):
            yield f"{color}-{bits}{'-interlaced' * interlaced}.png", png(19, 11, bits, color, interlaced, palette)
        transparent = {0: struct.pack(">H", 1), 2: struct.pack(">HHH", 1, 2, 3), 3: bytes([0, 128])}
        if color in transparent:
            yield f"{color}-{bits}-transparent.png", png(9, 8, bits, color, 0, palette + chunk(b"tRNS", transparent[color]))
    yield "short-palette.png", png(9, 8, 4, 3, 0, chunk(b"PLTE", noise(15)))
    yield "gray16-dark.png", encoded(Image.frombytes("I;16", (16, 16), struct.pack("<256H", *range(128, 384))), "PNG")
    frames = [pictures.rgb(20, 15) for _ in range(2)]
    yield "animated.png", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "png.jpg", encoded(frames[0], "PNG")
    yield "cut.png", encoded(frames[0], "PNG")[:-60]


def gif(screen, place, palette, local=b"", transparent=None, background=0, interlaced=False):
    def flags(colors):
        return 0x80 | ((len(colors) // 3 - 1).bit_length() - 1) if colors else 0

    data = b"GIF89a" + struct.pack("<HHBBB", *screen, flags(palette), background, 0) + palette
    if transparent is not None:
        data += b"!\xf9\x04" + bytes([9, 0, 0, transparent, 0])
    data += b"," + struct.pack("<HHHHB", *place, flags(local) | 64 * interlaced) + local
    # Codes of 9 bits, cleared before they would need 10.
    bits, length = 0, 0
    pixels = [byte % (len(local or palette) // 3) for byte in noise(place[2] * place[3])]
    codes = [code for first in range(0, len(pixels), 200) for code in [256, *pixels[first:first + 200]]] + [257]
    for code in codes:
        bits, length = bits | code << length, length + 9
    packed = bits.to_bytes((length + 7) // 8, "little")
    blocks = [packed[first:first + 255] for first in range(0, len(packed), 255)]
    return data + b"\x08" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;"


def gifs(pictures):
    colors, local = noise(48), noise(384)
    inside, outside = (5, 7, 20, 10), (9, 4, 20, 10)
    yield "part.gif", gif((40, 30), inside, colors, background=9)
    yield "part-transparent.gif", gif((40, 30), inside, colors, transparent=6, background=9)
    yield "part-local.gif", gif((40, 30), inside, colors, local)
    yield "part-only-local.gif", gif((40, 30), inside, b"", local, background=3)
    yield "beyond-screen.gif", gif((20, 10), outside, colors)
    yield "no-screen.gif", gif((0, 0), outside, colors, transparent=2)
    yield "beyond-palette.gif", gif((40, 30), inside, colors, transparent=77)
    wedge = bytes(level for gray in range(16) for level in [gray] * 3)
    yield "wedge.gif", gif((40, 30), inside, wedge, transparent=77)
    yield "interlaced.gif", gif((20, 33), (0, 0, 20, 33), colors, interlaced=True)
    yield "gray.gif", encoded(pictures.rgb().convert("L"), "GIF")
    frames = [pictures.rgb(30, 20).quantize(16) for _ in range(3)]
    yield "animated.gif", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], disposal=2)
    yield "cut.gif", gif((40, 30), inside, colors)[:-60]


def bmp(width, height, bits, data, compression=0, masks=(), colors=b"", header=40):
    info = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    packed = b"".join(struct.pack("<I", mask) for mask in masks)
    info = (info + packed).ljust(header, b"\0") if header > 40 else info + packed
    first = 14 + len(info) + len(colors)
    return b"BM" + struct.pack("<IHHI", first + len(data), 0, 0, first) + info + colors + data


def run_lengths(width, height, bits):
    data = b""
    for _ in range(height):
        data += bytes([4, 0x9c, 0, 5]) + noise(5 if bits == 8 else 3) + b"\0" + bytes([width - 9, 0x31, 0, 0])
    return data + b"\0\1"


def bmps():
    width, height = 19, 7

    def rows(bits):
        return noise((width * bits + 31) // 32 * 4 * height)

    def colors(bits):
        return b"".join(noise(3) + b"\0" for _ in range(1 << bits))

    for bits in (1, 4, 8):
        yield f"palette-{bits}.bmp", bmp(width, height, bits, rows(bits), colors=colors(bits))
    for bits in (16, 24, 32):
        yield f"rgb-{bits}.bmp", bmp(width, height, bits, rows(bits))
        yield f"down-{bits}.bmp", bmp(width, -height, bits, rows(bits))
    yield "565.bmp", bmp(width, height, 16, rows(16), 3, (0xf800, 0x7e0, 0x1f))
    yield "555.bmp", bmp(width, height, 16, rows(16), 3, (0x7c00, 0x3e0, 0x1f))
    yield "565-v4.bmp", bmp(width, height, 16, rows(16), 3, (0xf800, 0x7e0, 0x1f), header=108)
    yield "masks.bmp", bmp(width, height, 32, rows(32), 3, (0xff000000, 0xff0000, 0xff00))
    yield "alpha.bmp", bmp(width, height, 32, rows(32), 3, (0xff0000, 0xff00, 0xff, 0xff000000), header=124)
    for bits, compression in ((8, 1), (4, 2)):
        data = run_lengths(width, height, bits)
        yield f"run-lengths-{bits}.bmp", bmp(width, height, bits, data, compression, colors=colors(bits))
    core = struct.pack("<IHHHH", 12, width, height, 1, 4)
    yield "os2.bmp", b"BM" + struct.pack("<IHHI", 0, 0, 0, 74) + core + noise(48) + rows(4)
    yield "cut.bmp", bmp(width, height, 24, rows(24))[:-50]


def webps(pictures):
    for quality in (20, 75, 100):
        yield f"lossy-{quality}.webp", encoded(pictures.rgb(), "WEBP", quality=quality)
    yield "lossless.webp", encoded(pictures.rgb(), "WEBP", lossless=True)
    yield "lossy-alpha.webp", encoded(pictures.with_fourth("RGBA"), "WEBP", quality=70)
    yield "lossless-alpha.webp", encoded(pictures.with_fourth("RGBA"), "WEBP", lossless=True, exact=True)
    frames = [pictures.rgb(30, 20) for _ in range(2)]
    yield "animated.webp", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], quality=80)
    yield "cut.webp", encoded(frames[0], "WEBP", quality=80)[:-100]


def expected(name, data):
    try:
        with warnings.catch_warnings(action="ignore"):
            picture = Image.open(io.BytesIO(data)).convert("RGB")
    except OSError:
        return {"file": name}
    width, height = picture.size
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    return {"file": name, "width": width, "height": height, "sha256": digest}


def write(folder, photograph):
    """Writes the files and `expected.json`, where a file that Pillow refuses has no size."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(photograph)
    found = []
    for files in (jpegs(pictures), pngs(pictures), gifs(pictures), bmps(), webps(pictures)):
        for name, data in files:
            (folder / name).write_bytes(data)
            found.append(expected(name, data))
    lines = ",\n".join(json.dumps(case) for case in found)
    (folder / "expected.json").write_text(f"[\n{lines}\n]\n")
