#!/usr/bin/env python3
"""Writes clip_preprocess_goldens.txt: checksums of what the references make of random images of many sizes.

Made with Python 3.11, Pillow 11.3.0, transformers 4.57.6, numpy 2.4.6 (no torch needed):
    python3 -m venv venv && venv/bin/pip install pillow==11.3.0 transformers==4.57.6 numpy==2.4.6
    venv/bin/python make_clip_preprocess_goldens.py
`hugging_face` lines come from transformers' CLIPImageProcessor. `torchvision` lines come from Pillow and the few lines
below, which do as torchvision 0.15 to 0.24 does on a Pillow image: Resize, CenterCrop, ToTensor, Normalize.

The source pixels come from a linear congruence that the test computes as well. A line: reference, short edge (or
WIDTHxHEIGHT, or - for no resize), crop (WIDTHxHEIGHT or -), Pillow's number of the filter, seed, source width and
height, result width and height, zlib's crc32 of the bytes on the way, and of the result, float32 [3, height, width],
little-endian.
"""
import pathlib
import random
import zlib

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def pixels(seed, count):
    """Mostly extreme bytes, so that the kernel's overshoot is clipped between the passes."""
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        byte, choice = state >> 24, state >> 16 & 3
        out.append(0 if choice == 0 else 255 if choice == 1 else byte)
    return bytes(out)


def hugging_face(image, resize, crop, filter):
    size = {"shortest_edge": resize} if isinstance(resize, int) else resize and {"width": resize[0], "height": resize[1]}
    options = dict(do_resize=resize is not None, resample=filter, do_center_crop=crop is not None)
    if size:
        options["size"] = size
    if crop:
        options["crop_size"] = {"width": crop[0], "height": crop[1]}
    processor = CLIPImageProcessor(**options)
    call = dict(return_tensors="np", input_data_format="channels_last")  # it would take 1 or 3 rows for channels
    planes = processor(image, **call)["pixel_values"][0]
    raw = processor(image, **call, do_rescale=False, do_normalize=False)["pixel_values"][0]
    return raw, planes


def torchvision(image, resize, crop, filter):
    w, h = image.size
    if isinstance(resize, int):
        short, long = min(w, h), max(w, h)
        new_long = int(resize * long / short)
        image = image.resize((resize, new_long) if w <= h else (new_long, resize), filter)
    elif resize:
        image = image.resize(resize, filter)
    if crop:
        (w, h), (cw, ch) = image.size, crop
        if cw > w or ch > h:
            left, top = (cw - w) // 2 if cw > w else 0, (ch - h) // 2 if ch > h else 0
            framed = Image.new("RGB", (max(w, cw), max(h, ch)))
            framed.paste(image, (left, top))
            image = framed
            w, h = image.size
        top, left = int(round((h - ch) / 2.0)), int(round((w - cw) / 2.0))
        image = image.crop((left, top, left + cw, top + ch))
    raw = np.asarray(image).transpose(2, 0, 1)
    tensor = raw.astype(np.float32) / np.float32(255)
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (MEAN, STD))
    return raw, (tensor - mean) / std


def cases():
    rng = random.Random(16)
    real = [(224, 224), (225, 224), (224, 227), (640, 480), (333, 500), (480, 641), (301, 167), (97, 211), (256, 256)]
    for size in real:
        yield 224, (224, 224), 3, size
    yield 336, (336, 336), 3, (400, 351)
    for _ in range(150):  # small targets, any ratio
        edge = rng.choice([7, 16, 24, 32])
        yield edge, (edge, edge), 3, (rng.randint(1, 90), rng.randint(1, 90))
    for _ in range(30):
        yield 16, (16, 16), 2, (rng.randint(1, 60), rng.randint(1, 60))
    for _ in range(30):  # crops smaller than the edge, and larger: black around
        yield rng.randint(9, 30), (rng.randint(5, 40), rng.randint(5, 40)), 3, (rng.randint(5, 60), rng.randint(5, 60))
    for _ in range(15):
        yield (rng.randint(4, 30), rng.randint(4, 30)), rng.choice([None, (9, 9)]), 3, (rng.randint(4, 60), rng.randint(4, 60))
    for _ in range(10):
        yield None, (12, 13), 3, (rng.randint(4, 40), rng.randint(4, 40))
    yield 16, None, 3, (50, 31)
    yield 8, (8, 8), 3, (1500, 2)  # elongated
    yield 8, (8, 8), 3, (3, 1000)


def shown(size):
    return "-" if size is None else str(size) if isinstance(size, int) else f"{size[0]}x{size[1]}"


lines = []
for seed, (resize, crop, filter, size) in enumerate(cases(), 1):
    image = Image.frombytes("RGB", size, pixels(seed, size[0] * size[1] * 3))
    for reference in (hugging_face, torchvision):
        raw, planes = reference(image, resize, crop, filter)
        assert planes.dtype == np.float32 and raw.dtype == np.uint8
        crc = [zlib.crc32(np.ascontiguousarray(array).tobytes()) for array in (raw.transpose(1, 2, 0), planes)]
        lines.append(f"{reference.__name__} {shown(resize)} {shown(crop)} {filter} {seed} {size[0]} {size[1]} "
                     f"{raw.shape[2]} {raw.shape[1]} {crc[0]:08x} {crc[1]:08x}\n")
pathlib.Path(__file__).with_name("clip_preprocess_goldens.txt").write_text("".join(lines))
