#!/usr/bin/env python3
"""Writes open_clip_preprocess_goldens.txt: checksums of what open_clip's transforms make of random images, for each
resize_mode, interpolation and fill_color that its configurations may ask for.

Made with Python 3.11, open_clip_torch 3.3.0, torch 2.15.0, torchvision 0.29.2, Pillow 11.3.0, numpy 2.4.6:
    python3 -m venv venv
    venv/bin/pip install open_clip_torch==3.3.0 torch==2.15.0 torchvision==0.29.2 pillow==11.3.0 numpy==2.4.6
    venv/bin/python make_open_clip_preprocess_goldens.py
The source pixels are those of make_clip_preprocess_goldens.py. A line: resize_mode, interpolation, fill_color, image
size, seed, source width and height, zlib's crc32 of the bytes on the way [size, size, 3], and of the result, float32
[3, size, size], little-endian.
"""
import pathlib
import random
import zlib

import numpy as np
import PIL
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

assert PIL.__version__ == "11.3.0"


def pixels(seed, count):
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        byte, choice = state >> 24, state >> 16 & 3
        out.append(0 if choice == 0 else 255 if choice == 1 else byte)
    return bytes(out)


def cases():
    rng = random.Random(9)
    for mode in ("shortest", "longest", "squash"):
        for interpolation in ("bicubic", "bilinear"):
            for size in (224, 32, 17):
                yield mode, interpolation, 0, size, (300, 211)
            for _ in range(20):
                yield (mode, interpolation, rng.choice((0, 128, 255)), rng.choice((7, 16, 24)),
                       (rng.randint(3, 90), rng.randint(3, 90)))


lines = []
for seed, (mode, interpolation, fill, edge, size) in enumerate(cases(), 1):
    image = Image.frombytes("RGB", size, pixels(seed, size[0] * size[1] * 3))
    transform = image_transform_v2(
        PreprocessCfg(size=edge, resize_mode=mode, interpolation=interpolation, fill_color=fill), is_train=False)
    raw = image
    for step in transform.transforms:
        if type(step).__name__ in ("MaybeToTensor", "ToTensor"):
            break
        raw = step(raw)
    planes = transform(image).numpy()
    assert raw.size == (edge, edge) and planes.dtype == np.float32, (mode, raw.size)
    lines.append(f"{mode} {interpolation} {fill} {edge} {seed} {size[0]} {size[1]} {zlib.crc32(raw.tobytes()):08x} "
                 f"{zlib.crc32(np.ascontiguousarray(planes).tobytes()):08x}\n")
pathlib.Path(__file__).with_name("open_clip_preprocess_goldens.txt").write_text("".join(lines))
