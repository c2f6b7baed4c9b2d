#!/usr/bin/env python3
"""Writes clip_image_goldens.txt: tiny files of every kind that CLIP is shown, and the RGB pixels it should see, which
are Pillow's: ImageOps.exif_transpose, then convert("RGB"), as Hugging Face's load_image has it.

Made with Python 3.11 and Pillow 11.3.0:
    python3 -m venv venv && venv/bin/pip install pillow==11.3.0 && venv/bin/python make_clip_image_goldens.py
A line: name, width, height, the RGB bytes, the file; the last two in hexadecimal, `-` for pixels of a file to be
refused. One kind is not Pillow's: of 16-bit grey it keeps the lower values and makes the rest white, so the upper bytes
are expected instead.
"""
import io
import pathlib
import struct
import zlib

from PIL import Image, ImageOps

W, H = 7, 5


def noise(count, seed=7):
    state, out = seed, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return bytes(out)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(color, depth, raw, extra=b"", interlace=0):
    header = struct.pack(">IIBBBBB", W, H, depth, color, 0, 0, interlace)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw)) +
            chunk(b"IEND", b""))


def rows(data):
    stride = len(data) // H
    return b"".join(b"\0" + data[y * stride:(y + 1) * stride] for y in range(H))


def saved(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return stream.getvalue()


def adam7(pixels, channels):
    """The seven passes of an interlaced PNG."""
    out = b""
    for left, top, across, down in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
                                    (0, 1, 1, 2)):
        for y in range(top, H, down):
            row = b"".join(pixels[(y * W + x) * channels:(y * W + x + 1) * channels] for x in range(left, W, across))
            if row:
                out += b"\0" + row
    return out


lines = []


def add(name, data, expected=None):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    lines.append(f"{name} {image.width} {image.height} {(expected or image.tobytes()).hex()} {data.hex()}\n")


rgb, rgba, la, grey, wide = noise(3 * W * H), noise(4 * W * H), noise(2 * W * H), noise(W * H), noise(8 * W * H)
image = Image.frombytes("RGB", (W, H), rgb)
add("png_rgb", saved(image, format="PNG"))
add("png_rgb_interlaced", png(2, 8, adam7(rgb, 3), interlace=1))
add("png_rgba", saved(Image.frombytes("RGBA", (W, H), rgba), format="PNG"))
add("png_grey", saved(Image.frombytes("L", (W, H), grey), format="PNG"))
add("png_grey_alpha", saved(Image.frombytes("LA", (W, H), la), format="PNG"))
add("png_grey_interlaced", png(0, 8, adam7(grey, 1), interlace=1))
add("png_1bit", png(0, 1, rows(noise(H))))
add("png_grey_2bit", png(0, 2, rows(noise(2 * H))))
add("png_grey_4bit", png(0, 4, rows(noise(4 * H))))
palette = image.quantize(16)
add("png_palette", saved(palette, format="PNG"))
add("png_palette_transparent", saved(palette, format="PNG", transparency=bytes(range(0, 256, 16))))
colors = chunk(b"PLTE", noise(12, 3))
add("png_palette_2bit", png(3, 2, rows(noise(2 * H)), colors + chunk(b"tRNS", b"\0\x80")))
add("png_key_colour", png(2, 8, rows(rgb), chunk(b"tRNS", struct.pack(">HHH", *rgb[6:9]))))
add("png_grey_key", png(0, 8, rows(grey), chunk(b"tRNS", struct.pack(">H", grey[4]))))
add("png_rgb16", png(2, 16, rows(wide[:6 * W * H])))
add("png_rgba16", png(6, 16, rows(wide)))
add("png_grey_alpha16", png(4, 16, rows(wide[:4 * W * H])))
add("png_grey16", png(0, 16, rows(wide[:2 * W * H])), expected=bytes(v for v in wide[0:2 * W * H:2] for _ in range(3)))

smooth = Image.new("RGB", (W, H))
smooth.putdata([(30 * x + 10, 40 * y + 20, 255 - 30 * x) for y in range(H) for x in range(W)])
for orientation in range(1, 9):
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif[0x0112] = orientation
    add(f"jpeg_orientation_{orientation}", saved(smooth, format="JPEG", quality=95, subsampling=0, exif=exif))
    add(f"png_orientation_{orientation}", saved(image, format="PNG", exif=exif))
little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
add("png_orientation_little_endian", png(2, 8, rows(rgb), chunk(b"eXIf", little)))
add("png_orientation_9", png(2, 8, rows(rgb), chunk(b"eXIf", little.replace(b"\x06", b"\x09"))))
add("png_exif_cut_short", png(2, 8, rows(rgb), chunk(b"eXIf", little[:18])))

add("jpeg_progressive", saved(smooth, format="JPEG", quality=95, subsampling=0, progressive=True))
for subsampling, kind in enumerate(("444", "422", "420")):
    for quality in (20, 90):
        add(f"jpeg_{kind}_{quality}", saved(image, format="JPEG", quality=quality, subsampling=subsampling))
narrow = image.crop((0, 0, 3, H))  # chroma of two columns, which are not interpolated
add("jpeg_420_narrow", saved(narrow, format="JPEG", quality=90, subsampling=2))
add("jpeg_422_narrow", saved(narrow, format="JPEG", quality=90, subsampling=1))
add("jpeg_rgb", saved(image, format="JPEG", quality=90, keep_rgb=True))
add("jpeg_grey", saved(smooth.convert("L"), format="JPEG", quality=95))
cmyk = saved(smooth.convert("CMYK"), format="JPEG", quality=95)
add("jpeg_cmyk", cmyk)
start = cmyk.index(b"\xff\xee")
bare = cmyk[:start] + cmyk[start + 2 + struct.unpack(">H", cmyk[start + 2:start + 4])[0]:]
lines.append(f"jpeg_cmyk_without_adobe 0 0 - {bare.hex()}\n")

pathlib.Path(__file__).with_name("clip_image_goldens.txt").write_text("".join(lines))
