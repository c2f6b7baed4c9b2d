#!/usr/bin/env python3
"""Writes export/expected.safetensors: what transformers makes of a CLIP that gatefold exported.

export/model.safetensors and config.json are what train_clip wrote, by save_clip and config_of_clip, in
    train_clip --stage base --batch 16 --width 8 --heads 2 --vision-layers 1 --text-layers 2 --embedding 8 --patch 16
               --steps 30 --warmup 1 --pairs 100 --merges 0 --context 12 --threads 1 --evaluation 0 --out export
No weight may be missing or left over, nor have another shape.

Made with Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0, numpy 2.4.6:
    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 && venv/bin/python read_export.py
"""
import pathlib

import torch
from safetensors.torch import save_file
from transformers import CLIPModel

FOLDER = pathlib.Path(__file__).parent / "export"


def main():
    model, told = CLIPModel.from_pretrained(FOLDER, output_loading_info=True, attn_implementation="eager")
    assert not any(told.values()), told
    model = model.double().eval()
    text = model.config.text_config
    torch.manual_seed(1)
    images = torch.randn(1, 48, 48, 3)
    end = text.eos_token_id
    ids = torch.randint(0, end - 1, (2, text.max_position_embeddings))
    ids[:, 0] = end - 1
    ids[0, -1], ids[1, 5:] = end, end  # full, and padded
    with torch.no_grad():
        vision = model.vision_model(pixel_values=images.permute(0, 3, 1, 2).double()).pooler_output
        image = model.visual_projection(vision)
        text = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    save_file({"images": images, "ids": ids, "image": image.float(), "text": text.float()},
              FOLDER / "expected.safetensors")


main()
