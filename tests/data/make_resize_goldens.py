#!/usr/bin/env python3
"""Writes resize_goldens.txt: what Pillow makes of small random RGB images.

Made with Python 3 and Pillow 11.3.0:
    python3 -m venv venv && venv/bin/pip install pillow==11.3.0 && venv/bin/python make_resize_goldens.py
Pillow 13 resizes the rows of tall images before their columns (python-pillow/Pillow#9549), which rounds differently;
the models' published results come from the older order, columns first.

The source pixels come from a linear congruence that the test computes as well, so only results are stored. A line:
kernel, seed, source width, source height, target width, target height, then the target's RGB bytes in hexadecimal.
"""
import pathlib
from PIL import Image

CASES = [
    # kernel, seed, source, target
    ("bicubic", 1, (17, 13), (5, 4)),
    ("bicubic", 2, (5, 4), (17, 13)),
    ("bicubic", 3, (16, 16), (8, 8)),
    ("bicubic", 4, (9, 7), (9, 3)),  # only rows
    ("bicubic", 5, (9, 7), (4, 7)),  # only columns
    ("bicubic", 6, (64, 3), (7, 9)),
    ("bicubic", 11, (4, 37), (6, 5)),  # tall: Pillow 13 differs
    ("bicubic", 7, (1, 1), (3, 2)),
    ("bicubic", 8, (23, 31), (22, 30)),
    ("bilinear", 9, (17, 13), (5, 4)),
    ("bilinear", 10, (6, 5), (11, 9)),
]
KERNELS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def pixels(seed, count):
    """Mostly extreme bytes, so that the kernel's overshoot is clipped between the passes."""
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        byte, choice = state >> 24, state >> 16 & 3
        out.append(0 if choice == 0 else 255 if choice == 1 else byte)
    return bytes(out)


lines = []
for kernel, seed, source, target in CASES:
    image = Image.frombytes("RGB", source, pixels(seed, source[0] * source[1] * 3))
    result = image.resize(target, KERNELS[kernel])
    lines.append(f"{kernel} {seed} {source[0]} {source[1]} {target[0]} {target[1]} {result.tobytes().hex()}\n")
pathlib.Path(__file__).with_name("resize_goldens.txt").write_text("".join(lines))
