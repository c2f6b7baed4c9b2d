"""Writes the safetensors_*.safetensors files beside this script with the reference implementation.

Made with Python 3.11, safetensors 0.8.0, numpy 2.4.6, ml_dtypes 0.6.0 (bfloat16 for numpy), xxhash 4.1.0:
    pip install safetensors==0.8.0 numpy==2.4.6 ml_dtypes==0.6.0 xxhash==4.1.0 && python make_safetensors_goldens.py
*_checksum.safetensors: the same with the checksum as gatefold's writer has it.
"""
from pathlib import Path

import ml_dtypes
import numpy as np
import xxhash
from safetensors.numpy import save

here = Path(__file__).parent


def floats(*bits):
    return np.array(bits, np.uint32).view(np.float32)


# Every exponent of a half with a few fractions, both signs: zeros, subnormals, normals, infinities (NaN apart: its
# payload is not part of any promise).
fractions = [0, 1, 2, 3, 0x155, 0x200, 0x3FE, 0x3FF]
half_bits = [s << 15 | e << 10 | f for s in (0, 1) for e in (0, 1, 2, 14, 15, 16, 29, 30) for f in fractions]
halves = np.array(half_bits + [0x7C00, 0xFC00], np.uint16).view(np.float16)

# Ties to even and their neighbours, the overflow to infinity, subnormals of float and of bfloat16.
rounding = floats(
    0x00000000, 0x80000000, 0x00000001, 0x00007FFF, 0x00008000, 0x00008001, 0x00018000, 0x007FFFFF, 0x00800000,
    0x3F800000, 0x3F807FFF, 0x3F808000, 0x3F808001, 0x3F817FFF, 0x3F818000, 0x3F818001, 0xBF808000, 0xBF818000,
    0x3DCCCCCD, 0xC2F6E979, 0x7F7F0000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000,
)

mixed = {
    "matrix": (np.arange(6, dtype=np.float32) / 4 - 1).reshape(2, 3),
    "double": np.array([np.pi, -5e-324, 1e300]),
    "half": halves,
    "half_as_float": halves.astype(np.float32),
    "rounding": rounding,
    "rounding_as_bf16": rounding.astype(ml_dtypes.bfloat16),
    "i64": np.array([-(2**63), 2**63 - 1]),
    "i32": np.array([-(2**31), 2**31 - 1], np.int32),
    "i16": np.array([-(2**15), 2**15 - 1], np.int16),
    "i8": np.array([-128, 127, 5], np.int8),
    "u64": np.array([2**64 - 1], np.uint64),
    "u32": np.array([2**32 - 1], np.uint32),
    "u16": np.array([2**16 - 1], np.uint16),
    "u8": np.arange(5, dtype=np.uint8),
    "bool": np.array([True, False, True]),
    "c64": np.array([1 + 2j], np.complex64),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
    'quoted "name" \\ / \t\n\x01 \u00e9 \u2603': np.array([1], np.uint8),
}



def with_checksum(tensors, metadata):
    zeros, file = b"xxh3-64:" + b"0" * 16, b""
    notes = {**metadata, "gatefold.checksum": zeros.decode()}
    while file.find(b"gatefold.checksum") < file.find(b'"format"') or not file:
        file = save(tensors, notes)  # several keys come in an order that changes from time to time; we want it sorted
    assert file.count(zeros) == 1
    return file.replace(zeros, b"xxh3-64:" + xxhash.xxh3_64(file).hexdigest().encode())


matrix = {"a": mixed["matrix"], "b.c": mixed["matrix"].T.copy()}
for name, tensors, metadata in [("mixed", mixed, {"format": 'np "quoted"\n'}), ("matrix", matrix, {}), ("empty", {}, {})]:
    (here / f"safetensors_{name}.safetensors").write_bytes(save(tensors, metadata or None))
    (here / f"safetensors_{name}_checksum.safetensors").write_bytes(with_checksum(tensors, metadata))
