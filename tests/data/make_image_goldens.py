#!/usr/bin/env python3
"""Writes image_goldens.txt: tiny PNG and JPEG files in hexadecimal with the RGB pixels that they must decode to.

Made with Python 3 and Pillow 11.3.0 (see make_resize_goldens.py). A line: name, tolerance per byte, width, height, the
expected RGB bytes, the file; the last two in hexadecimal. Alpha is composited over white by this script's own
arithmetic; JPEG pixels are Pillow's (libjpeg-turbo).
"""
import io
import pathlib
import struct
import zlib
from PIL import Image

W, H = 5, 3


def ramp(count):
    state, out = 7, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return bytes(out)


def over_white(value, alpha):
    return (value * alpha + 255 * (255 - alpha) + 127) // 255


def saved(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def png(color, depth, rows, extra=b""):
    """A PNG by hand, for the kinds that Pillow does not write."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", W, H, depth, color, 0, 0, 0)
    raw = b"".join(b"\0" + row for row in rows)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) +
            chunk(b"IEND", b""))


lines = []


def add(name, tolerance, expected, data):
    lines.append(f"{name} {tolerance} {W} {H} {bytes(expected).hex()} {data.hex()}\n")


rgb = ramp(W * H * 3)
image = Image.frombytes("RGB", (W, H), rgb)
add("png_rgb", 0, rgb, saved(image, format="PNG"))

grey = ramp(W * H)
add("png_grey", 0, [v for v in grey for _ in range(3)], saved(Image.frombytes("L", (W, H), grey), format="PNG"))

rgba = ramp(W * H * 4)
add("png_rgba", 0, [over_white(rgba[4 * i + c], rgba[4 * i + 3]) for i in range(W * H) for c in range(3)],
    saved(Image.frombytes("RGBA", (W, H), rgba), format="PNG"))

la = ramp(W * H * 2)
add("png_grey_alpha", 0, [over_white(la[2 * i], la[2 * i + 1]) for i in range(W * H) for _ in range(3)],
    saved(Image.frombytes("LA", (W, H), la), format="PNG"))

palette = image.quantize(4)
add("png_palette", 0, palette.convert("RGB").tobytes(), saved(palette, format="PNG"))

wide = ramp(W * H * 6)
add("png_rgb16", 0, wide[0::2], png(2, 16, [wide[6 * W * y:6 * W * (y + 1)] for y in range(H)]))

key = rgb[6:9]  # tRNS: pixels of this colour are transparent
trns = struct.pack(">HHH", *key)
trns = struct.pack(">I", 6) + b"tRNS" + trns + struct.pack(">I", zlib.crc32(b"tRNS" + trns))
keyed = bytearray(rgb)
for i in range(W * H):
    if rgb[3 * i:3 * i + 3] == key:
        keyed[3 * i:3 * i + 3] = b"\xff\xff\xff"
assert bytes(keyed) != rgb
add("png_key_colour", 0, keyed, png(2, 8, [rgb[3 * W * y:3 * W * (y + 1)] for y in range(H)], trns))

smooth = Image.new("RGB", (W, H))
smooth.putdata([(40 * x + 10, 60 * y + 20, 255 - 30 * x) for y in range(H) for x in range(W)])
for name, options in {"jpeg": {}, "jpeg_progressive": {"progressive": True}}.items():
    data = saved(smooth, format="JPEG", quality=95, subsampling=0, **options)
    add(name, 0, Image.open(io.BytesIO(data)).convert("RGB").tobytes(), data)
data = saved(smooth.convert("L"), format="JPEG", quality=95)
add("jpeg_grey", 0, Image.open(io.BytesIO(data)).convert("RGB").tobytes(), data)

pathlib.Path(__file__).with_name("image_goldens.txt").write_text("".join(lines))
