#!/usr/bin/env python3
"""Writes webp_heif_goldens.txt: tiny WebP, HEIC and AVIF files in hexadecimal with the RGB pixels that they decode to.

Made with Pillow 13.0.0 and pillow_heif 1.8.1. A line: name, tolerance per byte, width, height, the expected RGB bytes,
the file; the last two in hexadecimal. Expected is ImageOps.exif_transpose(image).convert("RGB"): upright, with the
colours that stand beneath transparent pixels. HEIC and AVIF are 4:4:4, so that no library interpolates colours its own
way; what is left is rounding.
"""
import io
import pathlib

import pillow_heif
from PIL import Image, ImageOps

pillow_heif.register_heif_opener()
W, H = 20, 12


def picture(channels):
    """A gradient with a corner, so that each way to hold it looks different."""
    pixels = bytearray()
    for y in range(H):
        for x in range(W):
            corner = x < 6 and y < 4
            value = (255, 40, 20) if corner else (10 * x, 15 * y, 120)
            pixels += bytes(value) + (bytes([255 if x < 10 else 128]) if channels == 4 else b"")
    return Image.frombytes("RGBA" if channels == 4 else "RGB", (W, H), bytes(pixels))


def saved(image, orientation=None, **options):
    stream = io.BytesIO()
    if orientation:
        exif = Image.Exif()
        exif[0x112] = orientation
        options["exif"] = exif.tobytes() if options["format"] == "WEBP" else exif
    image.save(stream, **options)
    return stream.getvalue()


lines = []


def add(name, tolerance, data):
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    lines.append(f"{name} {tolerance} {upright.width} {upright.height} {upright.tobytes().hex()} {data.hex()}\n")


rgb, rgba = picture(3), picture(4)
add("webp_lossy", 0, saved(rgb, format="WEBP", quality=80))
add("webp_lossless", 0, saved(rgb, format="WEBP", lossless=True))
add("webp_lossless_alpha", 0, saved(rgba, format="WEBP", lossless=True, exact=True))
add("webp_lossy_alpha", 0, saved(rgba, format="WEBP", quality=80, exact=True))
add("webp_orientation_6", 0, saved(rgb, 6, format="WEBP", lossless=True))
add("webp_orientation_2", 0, saved(rgb, 2, format="WEBP", lossless=True))
packet = (b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
          b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>')
add("webp_xmp_orientation_6", 0, saved(rgb, format="WEBP", lossless=True, xmp=packet))
add("heic", 2, saved(rgb, format="HEIF", quality=90, chroma=444))
add("heic_alpha", 2, saved(rgba, format="HEIF", quality=90, chroma=444))
add("avif", 2, saved(rgb, format="AVIF", quality=90, subsampling="4:4:4"))
add("avif_orientation_6", 2, saved(rgb, 6, format="AVIF", quality=90, subsampling="4:4:4"))
add("avif_orientation_2", 2, saved(rgb, 2, format="AVIF", quality=90, subsampling="4:4:4"))
frames = [rgb, ImageOps.flip(rgb)]
lines.append(f"webp_animated 0 0 0 - {saved(frames[0], format='WEBP', save_all=True, append_images=frames[1:]).hex()}\n")
pathlib.Path(__file__).with_name("webp_heif_goldens.txt").write_text("".join(lines))
