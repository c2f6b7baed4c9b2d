"""A mixture of experts that all contenders of moe_peers.py read: one safetensors file, which is mapped, so that many
processes share it. Weights and tokens are representable in bf16, and y is computed in float64."""
import json
import os
import pathlib
from dataclasses import dataclass

import numpy as np

KINDS = {"F32": np.float32, "F64": np.float64, "I64": np.int64}


@dataclass(frozen=True)
class Case:
    activation: str  # of the experts: «swiglu», down(silu(gate x) * up x), or «gelu», down(gelu(up x)) by its tanh form
    experts: int
    selected: int
    width: int = 1024
    hidden: int = 2048
    tokens: int = 2048  # of which a call takes a window

    @property
    def name(self):
        return f"{self.activation}/experts:{self.experts}/selected:{self.selected}/{self.width}x{self.hidden}"

    @property
    def weights(self):
        return self.experts * self.width * self.hidden * (3 if self.activation == "swiglu" else 2)


def bf16(a):
    """Rounded to the nearest bf16, half to even, as float32."""
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def activate(case, a, b):
    if case.activation == "swiglu":
        return a / (1 + np.exp(-a)) * b
    return 0.5 * b * (1 + np.tanh(np.sqrt(2 / np.pi) * (b + 0.044715 * b**3)))


def make(case):
    """The tensors of a case: gate and up [E, H, D], down [E, D, H], router [E, D], x and y [S, D], and the experts that
    the router chooses with their weights, ids and combine [S, K]."""
    g = np.random.default_rng(1)
    normal = lambda *shape: bf16(g.standard_normal(shape, np.float32) / np.float32(shape[-1] ** 0.5))
    e, d, h, s = case.experts, case.width, case.hidden, case.tokens
    t = {"up": normal(e, h, d), "down": normal(e, d, h), "router": normal(e, d)}
    if case.activation == "swiglu":
        t["gate"] = normal(e, h, d)
    x = t["x"] = bf16(g.standard_normal((s, d), np.float32))
    logits = x.astype(np.float64) @ t["router"].T.astype(np.float64)
    ids = t["ids"] = np.argsort(-logits, axis=1, kind="stable")[:, : case.selected].astype(np.int64)
    top = np.take_along_axis(logits, ids, 1)
    combine = np.exp(top - top[:, :1])
    t["combine"] = (combine / combine.sum(1, keepdims=True)).astype(np.float32)
    y = t["y"] = np.zeros((s, d))
    for each in range(e):
        token, rank = np.nonzero(ids == each)
        of = lambda name: t[name][each].T.astype(np.float64)
        seen = x[token].astype(np.float64)
        gate = seen @ of("gate") if "gate" in t else None
        y[token] += activate(case, gate, seen @ of("up")) @ of("down") * t["combine"][token, rank, None]
    return t


def write(case, path):
    """Whole or not at all."""
    tensors = make(case)
    header, end = {"__metadata__": {"case": case.name, "activation": case.activation}}, 0
    for name, a in tensors.items():
        kind = next(kind for kind, of in KINDS.items() if a.dtype == of)
        header[name] = {"dtype": kind, "shape": list(a.shape), "data_offsets": [end, end + a.nbytes]}
        end += a.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64 + 56)  # tensors begin at a multiple of 64
    part = pathlib.Path(f"{path}.{os.getpid()}")
    with open(part, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for a in tensors.values():
            a.tofile(file)
    part.rename(path)


def load(path):
    """Name -> array that is mapped from the file and must not be written."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    header.pop("__metadata__")
    return {name: np.memmap(path, KINDS[t["dtype"]], "c", 8 + size + t["data_offsets"][0], tuple(t["shape"]))
            for name, t in header.items()}
