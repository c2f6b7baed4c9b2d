#!/usr/bin/env python3
"""Writes clip_transparency_goldens.txt: tiny PNGs of each kind of transparency, and the RGB pixels that transformers'
CLIPImageProcessor sees (over white) and that OpenAI's and open_clip's convert("RGB") sees (what stands beneath).

Made with Python 3.11, transformers 5.24.0, Pillow 13.0.0, numpy 2.4.6 (and torch and torchvision, which transformers'
image processors load):
    python3 -m venv venv && venv/bin/pip install transformers==5.24.0 pillow==13.0.0 numpy==2.4.6 torch torchvision
    venv/bin/python make_clip_transparency_goldens.py
A line: name, width, height, the bytes over white, the bytes beneath, the file; in hexadecimal.
"""
import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image
from transformers import CLIPImageProcessor

W, H = 7, 5


def noise(count, seed=7):
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return bytes(out)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(color, depth, data, extra=b"", width=W, height=H):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    stride = len(data) // height
    raw = b"".join(b"\0" + data[y * stride:(y + 1) * stride] for y in range(height))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) +
            chunk(b"IEND", b""))


def every_alpha():
    """Each alpha with each of some colours."""
    return bytes(v for alpha in range(256) for value in (0, 1, 77, 128, 254, 255) for v in (value, 255 - value, 99, alpha))


rgb, rgba, la, grey, wide = noise(3 * W * H), noise(4 * W * H), noise(2 * W * H), noise(W * H), noise(8 * W * H)
palette = chunk(b"PLTE", noise(12, 3))
cases = {
    "rgb": png(2, 8, rgb),
    "rgba": png(6, 8, rgba),
    "rgba_every": png(6, 8, every_alpha(), width=96, height=16),
    "grey_alpha": png(4, 8, la),
    "key_colour": png(2, 8, rgb, chunk(b"tRNS", struct.pack(">HHH", *rgb[6:9]))),
    "grey_key": png(0, 8, grey, chunk(b"tRNS", struct.pack(">H", grey[4]))),
    "palette_alpha": png(3, 2, noise(2 * H), palette + chunk(b"tRNS", b"\0\x80\xfe")),
    "palette_opaque": png(3, 2, noise(2 * H), palette),
    "rgba16": png(6, 16, wide),
}
lines = []
processor = CLIPImageProcessor(do_resize=False, do_center_crop=False, do_rescale=False, do_normalize=False)
for name, data in cases.items():
    image = Image.open(io.BytesIO(data))
    white = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    assert np.array_equal(white, white.astype(np.uint8))
    beneath = Image.open(io.BytesIO(data)).convert("RGB").tobytes()
    white = np.ascontiguousarray(white.astype(np.uint8)).tobytes()
    lines.append(f"{name} {image.width} {image.height} {white.hex()} {beneath.hex()} {data.hex()}\n")
pathlib.Path(__file__).with_name("clip_transparency_goldens.txt").write_text("".join(lines))
