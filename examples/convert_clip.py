#!/usr/bin/env python3
"""Turns the weights of a CLIP that come as a pickle (.pt, .pth, .bin, .ckpt) into a safetensors file, which gatefold reads:

    pip install torch safetensors numpy
    python3 convert_clip.py ViT-B-32.pt clip/model.safetensors

Takes OpenAI's archives (TorchScript), state dicts of open_clip and CLIP-MoE, training checkpoints that hold one, and
pytorch_model.bin of transformers. Names stay as they are. Only TorchScript archives can run code of the file; ask for
that with --trust. A vocabulary belongs beside the weights: vocab.json and merges.txt, or OpenAI's
bpe_simple_vocab_16e6.txt.
"""
import argparse
import pathlib

import torch
from safetensors.torch import save_file


def state_dict(path, trust):
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:
        if not trust:
            raise SystemExit(f"{path}: is no plain file of weights ({reason}).\n"
                             "If it is OpenAI's archive and you trust it, add --trust.")
        content = torch.jit.load(path, map_location="cpu").state_dict()
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return content


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=pathlib.Path)
    parser.add_argument("safetensors", type=pathlib.Path)
    parser.add_argument("--trust", action="store_true", help="load TorchScript archives, which may run code")
    arguments = parser.parse_args()
    tensors = {
        name.removeprefix("module."): value.detach().clone().contiguous()
        for name, value in state_dict(arguments.weights, arguments.trust).items()
        if isinstance(value, torch.Tensor)
    }
    if not tensors:
        raise SystemExit(f"{arguments.weights}: holds no tensors")
    arguments.safetensors.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, arguments.safetensors)
    print(f"{arguments.safetensors}: {len(tensors)} tensors")


main()
