"""Writes tests/fixtures/images/tiff: small TIFF files and what Pillow's convert("RGB") makes of them (Pillow 13.0.0)."""
import hashlib
import io
import json
import struct
from pathlib import Path
import numpy as np
from PIL import Image
rng = np.random.default_rng(13)
OUT = Path(__file__).parents[2] / 'tests/fixtures/images/tiff'
cases = {}

def rgb(b):
    return Image.open(io.BytesIO(b)).convert('RGB')

def add(name, b):
    (OUT / f'{name}.tif').write_bytes(b)
    try:
        im = rgb(b)
        cases[name] = dict(file=name + '.tif', width=im.width, height=im.height, sha256=hashlib.sha256(im.tobytes()).hexdigest())
    except Exception as e:
        cases[name] = dict(file=name + '.tif')
        print(name, repr(e)[:90])
w, h = (21, 13)

def pic(mode):
    if mode == '1':
        return Image.fromarray(rng.integers(0, 2, (h, w), dtype=np.uint8) * 255).convert('1')
    if mode == 'P':
        im = Image.fromarray(rng.integers(0, 256, (h, w), dtype=np.uint8))
        im = im.convert('L')
        p = Image.new('P', (w, h))
        p.putdata(list(im.getdata()))
        p.putpalette(list(rng.integers(0, 256, 768)))
        return p
    if mode == 'I;16':
        return Image.fromarray(rng.choice([0, 5, 128, 255, 256, 40000, 65535], (h, w)).astype(np.uint16))
    if mode == 'I':
        return Image.fromarray(rng.integers(-300, 600, (h, w)).astype(np.int32))
    if mode == 'F':
        return Image.fromarray(rng.uniform(-50, 300, (h, w)).astype(np.float32))
    n = {'L': 1, 'LA': 2, 'RGB': 3, 'RGBA': 4, 'CMYK': 4}[mode]
    a = rng.integers(0, 256, (h, w, n), dtype=np.uint8)
    return Image.frombytes(mode, (w, h), a.tobytes())
for m in ['1', 'L', 'LA', 'P', 'RGB', 'RGBA', 'CMYK', 'I;16', 'I', 'F']:
    im = pic(m)
    for comp in [None, 'tiff_lzw', 'tiff_adobe_deflate', 'packbits']:
        b = io.BytesIO()
        try:
            im.save(b, 'TIFF', compression=comp)
        except Exception as e:
            print(m, comp, e)
            continue
        add(f"{m.replace(';', '')}-{(comp or 'raw').replace('tiff_', '')}", b.getvalue())
    b = io.BytesIO()
    try:
        im.save(b, 'TIFF', big_tiff=True)
        add(f"{m.replace(';', '')}-big", b.getvalue())
    except Exception as e:
        print('big', m, e)
im = pic('RGB')
for comp in ['jpeg', 'zstd', 'tiff_lzma', 'group4', 'group3']:
    b = io.BytesIO()
    (pic('1') if comp.startswith('group') else im).save(b, 'TIFF', compression=comp)
    add('un-' + comp, b.getvalue())
b = io.BytesIO()
for m in ['L', 'RGB', 'RGBA']:
    b = io.BytesIO()
    pic(m).save(b, 'TIFF', compression='tiff_lzw', tiffinfo={317: 2})
    add(f'{m}-predictor', b.getvalue())
for o in range(1, 9):
    b = io.BytesIO()
    pic('RGB').save(b, 'TIFF', tiffinfo={274: o})
    add(f'orient-{o}', b.getvalue())
b = io.BytesIO()
pic('L').save(b, 'TIFF', compression='tiff_lzw', tiffinfo={274: 6})
add('orient-lzw', b.getvalue())

def make(end, photo, bits, data, w, h, fmt=None, extra=None, tile=None, planar=1, strips=None, rows=None, cmap=None, comp=1, fill=None):
    E = '<' if end == 'II' else '>'
    n = len(bits)
    ents = []

    def ent(tag, typ, vals):
        ents.append((tag, typ, vals))
    ent(256, 3, [w])
    ent(257, 3, [h])
    ent(258, 3, bits)
    ent(259, 3, [comp])
    ent(262, 3, [photo])
    if fill:
        ent(266, 3, [fill])
    ent(277, 3, [n])
    chunks = strips if strips else [data]
    ent(284, 3, [planar])
    if extra is not None:
        ent(338, 3, extra)
    if fmt:
        ent(339, 3, [fmt] * n)
    if cmap:
        ent(320, 3, cmap)
    if tile:
        ent(322, 3, [tile[0]])
        ent(323, 3, [tile[1]])
        to, tb = (324, 325)
    else:
        ent(278, 3, [rows or h])
        to, tb = (273, 279)
    ent(to, 4, [0] * len(chunks))
    ent(tb, 4, [len(c) for c in chunks])
    ents.sort()
    size = {3: 2, 4: 4}
    off = 8 + 2 + 12 * len(ents) + 4
    blob = b''
    pos = {}
    for t, ty, v in ents:
        L = size[ty] * len(v)
        if L > 4:
            pos[t] = off + len(blob)
            blob += b'\x00' * L
    data0 = off + len(blob)
    offs = []
    p = data0
    for c in chunks:
        offs.append(p)
        p += len(c)
    blob = bytearray(blob)
    head = struct.pack(E + '2sHI', end.encode(), 42, 8) + struct.pack(E + 'H', len(ents))
    for t, ty, v in ents:
        if t == to:
            v = offs
        enc = struct.pack(E + {3: 'H', 4: 'I'}[ty] * len(v), *v)
        if len(enc) > 4:
            blob[pos[t] - off:pos[t] - off + len(enc)] = enc
            val = struct.pack(E + 'I', pos[t])
        else:
            val = enc.ljust(4, b'\x00')
        head += struct.pack(E + 'HHI', t, ty, len(v)) + val
    return head + struct.pack(E + 'I', 0) + bytes(blob) + b''.join(chunks)

def arr(n, dt='u1', lo=0, hi=256):
    return rng.integers(lo, hi, (h, w, n)).astype(dt).tobytes()
for e in ['II', 'MM']:
    o = '<' if e == 'II' else '>'
    add(f'{e}-gray16', make(e, 1, [16], arr(1, o + 'u2', 0, 700), w, h))
    add(f'{e}-white16', make(e, 0, [16], arr(1, o + 'u2', 0, 700), w, h))
    add(f'{e}-int16', make(e, 1, [16], arr(1, o + 'i2', -300, 700), w, h, fmt=2))
    add(f'{e}-int32', make(e, 1, [32], arr(1, o + 'i4', -300, 700), w, h, fmt=2))
    add(f'{e}-uint32', make(e, 1, [32], arr(1, o + 'u4', 0, 700), w, h))
    add(f'{e}-float', make(e, 1, [32], rng.uniform(-50, 300, (h, w)).astype(o + 'f4').tobytes(), w, h, fmt=3))
    add(f'{e}-white8', make(e, 0, [8], arr(1), w, h))
    add(f'{e}-white1', make(e, 0, [1], rng.integers(0, 256, 3 * h).astype('u1').tobytes(), w, h))
    add(f'{e}-gray2', make(e, 1, [2], rng.integers(0, 256, 6 * h).astype('u1').tobytes(), w, h))
    add(f'{e}-gray4', make(e, 0, [4], rng.integers(0, 256, 11 * h).astype('u1').tobytes(), w, h))
    add(f'{e}-rgb16', make(e, 2, [16] * 3, arr(3, o + 'u2', 0, 65536), w, h))
    add(f'{e}-rgba16', make(e, 2, [16] * 4, arr(4, o + 'u2', 0, 65536), w, h, extra=[2]))
    add(f'{e}-rgbx16', make(e, 2, [16] * 4, arr(4, o + 'u2', 0, 65536), w, h, extra=[0]))
    add(f'{e}-rgbpre16', make(e, 2, [16] * 4, arr(4, o + 'u2', 0, 65536), w, h, extra=[1]))
    add(f'{e}-cmyk16', make(e, 5, [16] * 4, arr(4, o + 'u2', 0, 65536), w, h))
    add(f'{e}-rgbpre', make(e, 2, [8] * 4, arr(4), w, h, extra=[1]))
    add(f'{e}-rgbx', make(e, 2, [8] * 4, arr(4), w, h, extra=[0]))
    add(f'{e}-rgba-none', make(e, 2, [8] * 4, arr(4), w, h))
    add(f'{e}-rgb6', make(e, 2, [8] * 6, arr(6), w, h, extra=[0, 0, 0]))
    add(f'{e}-cmykx', make(e, 5, [8] * 5, arr(5), w, h, extra=[0]))
    add(f'{e}-lx', make(e, 1, [8] * 2, arr(2), w, h, extra=[0]))
    add(f'{e}-la', make(e, 1, [8] * 2, arr(2), w, h, extra=[2]))
    add(f'{e}-lpre', make(e, 1, [8] * 2, arr(2), w, h, extra=[1]))
    cm = [int(v) for v in rng.integers(0, 65536, 768)]
    add(f'{e}-p8', make(e, 3, [8], arr(1), w, h, cmap=cm))
    add(f'{e}-pa', make(e, 3, [8] * 2, arr(2), w, h, cmap=cm, extra=[2]))
    add(f'{e}-p4', make(e, 3, [4], rng.integers(0, 256, 11 * h).astype('u1').tobytes(), w, h, cmap=cm[:48]))
    add(f'{e}-p2', make(e, 3, [2], rng.integers(0, 256, 6 * h).astype('u1').tobytes(), w, h, cmap=cm[:12]))
    add(f'{e}-p1', make(e, 3, [1], rng.integers(0, 256, 3 * h).astype('u1').tobytes(), w, h, cmap=cm[:6]))
    add(f'{e}-tiles', make(e, 2, [8] * 3, None, w, h, tile=(16, 16), strips=[rng.integers(0, 256, 16 * 16 * 3).astype('u1').tobytes() for _ in range(2)]))
    add(f'{e}-tiles16', make(e, 1, [16], None, w, h, tile=(16, 16), strips=[rng.integers(0, 700, 16 * 16).astype(o + 'u2').tobytes() for _ in range(2)]))
    add(f'{e}-tiles1', make(e, 1, [1], None, w, h, tile=(16, 16), strips=[rng.integers(0, 256, 32).astype('u1').tobytes() for _ in range(2)]))
    add(f'{e}-strips', make(e, 2, [8] * 3, None, w, h, rows=5, strips=[rng.integers(0, 256, w * r * 3).astype('u1').tobytes() for r in (5, 5, 3)]))
    add(f'{e}-planar', make(e, 2, [8] * 3, None, w, h, planar=2, strips=[rng.integers(0, 256, w * h).astype('u1').tobytes() for r in range(3)]))
    add(f'{e}-planar-strips', make(e, 5, [8] * 4, None, w, h, planar=2, rows=7, strips=[rng.integers(0, 256, w * r).astype('u1').tobytes() for _ in range(4) for r in (7, 6)]))
    add(f'{e}-bits12', make(e, 1, [12], rng.integers(0, 256, 32 * h).astype('u1').tobytes(), w, h))
    add(f'{e}-lab', make(e, 8, [8] * 3, arr(3), w, h))
    add(f'{e}-ycbcr', make(e, 6, [8] * 3, arr(3), w, h))
    add(f'{e}-double', make(e, 1, [64], rng.uniform(0, 255, (h, w)).astype(o + 'f8').tobytes(), w, h, fmt=3))
    add(f'{e}-fill', make(e, 1, [8], arr(1), w, h, fill=2))
good = make('II', 2, [8] * 3, arr(3), w, h)
for cut in (1, 40, 400):
    add(f'cut-{cut}', good[:-cut])
lz = (OUT / 'RGB-lzw.tif').read_bytes()
add('cut-lzw', lz[:len(lz) // 2])
df = (OUT / 'P-adobe_deflate.tif').read_bytes()
add('cut-deflate', df[:len(df) // 3])
lines = ',\n'.join((json.dumps(case) for case in cases.values()))
(OUT / 'expected.json').write_text(f'[\n{lines}\n]\n')
