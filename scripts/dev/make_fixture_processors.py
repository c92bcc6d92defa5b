"""Writes tests/fixtures/images/processors.json: pixels of image processors with every key (transformers 5.24.0, Pillow 13.0.0)."""
import hashlib
import json
from pathlib import Path
import numpy as np
import torch
import transformers as t
from PIL import Image
t.logging.set_verbosity_error()
F = str(Path(__file__).parents[2] / 'tests/fixtures/images') + '/'
imgs = ['jpeg420-230x151.jpg', 'rgb-137x191.png', 'wide-640x11.png', 'noise-14x9.png']
C = 'CLIPImageProcessor'
S = 'SiglipImageProcessor'
V = 'ViTImageProcessor'
B = 'BitImageProcessor'
L = 'LlavaImageProcessor'
cfgs = [(S, {'size': {'height': 56, 'width': 56}, 'do_center_crop': True, 'crop_size': {'height': 28, 'width': 28}}), (V, {'size': 40, 'do_center_crop': True, 'crop_size': 28}), (S, {'size': 40}), (V, {'size': 40}), (C, {'size': 40, 'crop_size': 28}), (B, {'size': 40, 'crop_size': 56}), (S, {'size': 40, 'default_to_square': True}), (V, {'size': 40, 'default_to_square': False}), (C, {'size': {'shortest_edge': 40, 'longest_edge': 50}, 'do_center_crop': False}), (V, {'size': {'shortest_edge': 20, 'longest_edge': 333}}), (S, {'size': {'max_height': 30, 'max_width': 40}}), (C, {'size': 28, 'crop_size': 28, 'do_rescale': False}), (C, {'size': 28, 'crop_size': 28, 'do_normalize': False}), (C, {'size': 28, 'crop_size': 28, 'do_rescale': False, 'do_normalize': False}), (C, {'do_resize': False, 'crop_size': 28}), (C, {'size': 28, 'crop_size': 28, 'rescale_factor': 0.5}), (C, {'size': 28, 'crop_size': 28, 'do_convert_rgb': False}), (C, {'size': 28, 'crop_size': 28, 'image_mean': 0.25, 'image_std': 0.5}), (L, {'size': 28, 'crop_size': 28, 'do_pad': True}), (L, {'size': 28, 'crop_size': 28, 'do_pad': True, 'do_normalize': False}), (L, {'size': 28, 'crop_size': 28, 'do_pad': True, 'image_mean': [0.5, 0.25, 0.1]}), (L, {'size': 28, 'crop_size': 28}), (C, {'size': 28, 'crop_size': 28, 'do_pad': True, 'pad_size': 28})]
for r in (0, 1, 2, 3, 4, 5):
    cfgs.append((S, {'size': {'height': 33, 'width': 29}, 'resample': r}))
    cfgs.append((C, {'size': 200, 'crop_size': 180, 'resample': r}))
out = []
for cls, kw in cfgs:
    p = getattr(t, cls + 'Pil')(**kw)
    for i in imgs:
        im = Image.open(F + i).convert('RGB')
        if i.startswith('wide') and kw.get('size') in (200, 40) and ('resample' in kw):
            continue
        try:
            x = np.asarray(p(im, return_tensors='np')['pixel_values'][0])
        except Exception as e:
            print(cls, kw, i, repr(e)[:80])
            continue
        x = x.astype('<f4')
        out.append(dict(config={'image_processor_type': cls, **kw}, image=i, shape=list(x.shape), sha256=hashlib.sha256(x.tobytes()).hexdigest(), near=None))
mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
for kw, size, mode, crop in [({'size': {'height': 40, 'width': 48}}, (40, 48), 'bilinear', None), ({'size': 40, 'resample': 3}, (40, 40), 'bicubic', None), ({'size': {'height': 56, 'width': 56}, 'do_center_crop': True, 'crop_size': 28}, (56, 56), 'bilinear', 28)]:
    for i in imgs:
        im = torch.from_numpy(np.array(Image.open(F + i).convert('RGB'))).permute(2, 0, 1)
        x = im * (1 / 255)
        x = torch.nn.functional.interpolate(x[None], size=size, mode=mode, antialias=True, align_corners=False)[0]
        if crop:
            a = (size[0] - crop) // 2
            x = x[:, a:a + crop, a:a + crop]
        x = (x - mean) / std
        x = x.numpy().astype('<f4')
        f = x.reshape(-1)
        out.append(dict(config={'image_processor_type': 'DINOv3ViTImageProcessorFast', **kw}, image=i, shape=list(x.shape), sha256=None, near=[round(float(v), 6) for v in f[::max(1, len(f) // 40)]]))
json.dump(out, open(F + 'processors.json', 'w'), indent=None, separators=(',', ':'))
s = open(F + 'processors.json').read().replace('},{"config"', '},\n{"config"')
open(F + 'processors.json', 'w').write(s + '\n')
print(len(out), len(s))
