#!/usr/bin/env python3
"""Writes exif_goldens.txt: small JPEGs and PNGs that say in any of the ways that Pillow follows how the camera was held,
and some that say it badly. A line: name, the orientation that Pillow's ImageOps.exif_transpose follows (1 where it
follows none), the file in hexadecimal.

Made with Python 3.11 and Pillow 13.0.0:
    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 && venv/bin/python make_exif_goldens.py
"""
import io
import pathlib
import struct
import zlib

from PIL import Image, ImageOps

W, H = 3, 2
XMP = "http://ns.adobe.com/xap/1.0/\0"


def tiff(orientation, tag=0x112):
    return struct.pack(">2sHIHHHIHHI", b"MM", 42, 8, 1, tag, 3, 1, orientation, 0, 0)


def attribute(orientation):
    return (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{orientation}"/>'
            f'</rdf:RDF></x:xmpmeta>').encode()


def element(orientation):
    return f"<rdf:Description><tiff:Orientation>{orientation}</tiff:Orientation></rdf:Description>".encode()


def jpeg(*segments):
    stream = io.BytesIO()
    Image.new("L", (W, H), 100).save(stream, "JPEG", optimize=True)
    data = stream.getvalue()
    apps = b"".join(b"\xff\xe1" + struct.pack(">H", 2 + len(segment)) + segment for segment in segments)
    return data[:2] + apps + data[2:]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks, behind=()):
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, 8, 0, 0, 0, 0)) +
            b"".join(chunk(*c) for c in chunks) + chunk(b"IDAT", zlib.compress((b"\0" + bytes(range(W))) * H)) +
            b"".join(chunk(*c) for c in behind) + chunk(b"IEND", b""))


def raw(data, upper=False):
    digits = data.hex()
    digits = digits.upper() if upper else digits
    lines = "\n".join(digits[i:i + 72] for i in range(0, len(digits), 72))
    return f"\nexif\n{len(data):8}\n{lines}\n".encode()


def text(data, key=b"Raw profile type exif"):
    return b"tEXt", key + b"\0" + data


def packed(data, key=b"Raw profile type exif"):
    return b"zTXt", key + b"\0\0" + zlib.compress(data)


def international(data, pack=False, key=b"XML:com.adobe.xmp"):
    return b"iTXt", key + b"\0" + bytes([pack, 0]) + b"en\0key\0" + (zlib.compress(data) if pack else data)


EXIF = b"Exif\0\0"
xmp = XMP.encode()
CASES = {}
for o in range(1, 9):
    CASES[f"jpeg_exif_{o}"] = jpeg(EXIF + tiff(o))
    CASES[f"jpeg_xmp_attribute_{o}"] = jpeg(xmp + attribute(o))
    CASES[f"png_exif_{o}"] = png((b"eXIf", tiff(o)))
    CASES[f"png_raw_{o}"] = png(packed(raw(EXIF + tiff(o))))
    CASES[f"png_xmp_{o}"] = png(international(attribute(o)))
CASES |= {
    "jpeg_nothing": jpeg(),
    "jpeg_xmp_element": jpeg(xmp + element(6)),
    "jpeg_xmp_zero": jpeg(xmp + attribute(0)),
    "jpeg_xmp_nine": jpeg(xmp + attribute(9)),
    "jpeg_xmp_two_digits": jpeg(xmp + attribute(61)),
    "jpeg_xmp_minus": jpeg(xmp + attribute(-6)),
    "jpeg_xmp_apostrophes": jpeg(xmp + attribute(6).replace(b'Orientation="6"', b"Orientation='6'")),
    "jpeg_xmp_spaces": jpeg(xmp + attribute(6).replace(b'Orientation="6"', b'Orientation = "6"')),
    "jpeg_xmp_second_is_sound": jpeg(xmp + b"tiff:Orientation=x tiff:Orientation>" + attribute(5)),
    "jpeg_xmp_cut": jpeg(xmp + b'<a tiff:Orientation="'),
    "jpeg_xmp_no_utf8": jpeg(xmp + b"\xff\xfe\x80" + attribute(8)),
    "jpeg_xmp_last_counts": jpeg(xmp + attribute(3), xmp + attribute(8)),
    "jpeg_xmp_extension": jpeg(b"http://ns.adobe.com/xmp/extension/\0" + attribute(8)),
    "jpeg_exif_above_xmp": jpeg(xmp + attribute(3), EXIF + tiff(8)),
    "jpeg_exif_of_one_above_xmp": jpeg(EXIF + tiff(1), xmp + attribute(3)),
    "jpeg_exif_of_zero_above_xmp": jpeg(EXIF + tiff(0), xmp + attribute(3)),
    "jpeg_exif_without_it": jpeg(EXIF + tiff(7, tag=0x110), xmp + attribute(3)),
    "jpeg_exif_in_two_segments": jpeg(EXIF + tiff(6)[:14], EXIF + tiff(6)[14:]),
    "jpeg_exif_twice_exif": jpeg(EXIF + EXIF + tiff(6)),
    "png_nothing": png(),
    "png_raw_as_text": png(text(raw(EXIF + tiff(6)))),
    "png_raw_international": png(international(raw(EXIF + tiff(6)), key=b"Raw profile type exif")),
    "png_raw_upper": png(packed(raw(EXIF + tiff(6), upper=True))),
    "png_raw_long": png(packed(raw(EXIF + tiff(6) + bytes(300)))),
    "png_raw_behind": png(behind=[packed(raw(EXIF + tiff(6)))]),
    "png_raw_of_app1": png(packed(raw(EXIF + tiff(6)), key=b"Raw profile type APP1")),
    "png_raw_packed_badly": png((b"zTXt", b"Raw profile type exif\0\0no zlib")),
    "png_exif_above_raw": png((b"eXIf", tiff(3)), packed(raw(EXIF + tiff(6)))),
    "png_exif_behind_raw": png(packed(raw(EXIF + tiff(6))), (b"eXIf", tiff(3))),
    "png_exif_without_it_above_raw": png(packed(raw(EXIF + tiff(6))), (b"eXIf", tiff(3, tag=0x110))),
    "png_xmp_packed": png(international(attribute(6), pack=True)),
    "png_xmp_behind": png(behind=[international(element(7))]),
    "png_xmp_text": png(text(attribute(6), key=b"XML:com.adobe.xmp")),
    "png_xmp_below_raw": png(international(attribute(6)), packed(raw(EXIF + tiff(8)))),
    "png_xmp_below_exif_without_it": png(international(attribute(6)), (b"eXIf", tiff(8, tag=0x110))),
    "png_xmp_last_counts": png(international(attribute(6)), international(attribute(8))),
}


def main():
    lines = []
    for name, data in CASES.items():
        image = Image.open(io.BytesIO(data))
        image.load()
        orientation = image.getexif().get(0x112, 1)
        orientation = orientation if 1 <= orientation <= 8 else 1
        assert (ImageOps.exif_transpose(image).size == (H, W)) == (orientation >= 5), name
        lines.append(f"{name} {orientation} {data.hex()}\n")
    (pathlib.Path(__file__).parent / "exif_goldens.txt").write_text("".join(lines))


main()
