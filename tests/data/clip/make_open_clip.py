#!/usr/bin/env python3
"""Writes what open_clip makes of some pictures and texts with tiny CLIPs of random weights, for each way in which its
configurations change the computation:
    open_clip/CASE.safetensors         the weights, under open_clip's names; several variants share a case
    open_clip/variants.json            NAME -> {"case": CASE, "model_cfg": …}
    open_clip/expected.safetensors     images [B, H, W, C], ids [B', T], NAME.image and NAME.text [B, P]
    open_clip/model_configs.json       NAME -> {"model_cfg": …, "facts": …}: those of open_clip's own configurations
                                       that are no timm model and no ResNet, and what open_clip builds of them

Made with Python 3.11, torch 2.15.0, open_clip_torch 3.3.0, safetensors 0.8.0, numpy 2.4.6:
    python3 -m venv venv && venv/bin/pip install torch==2.15.0 open_clip_torch==3.3.0 safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make_open_clip.py
All is computed in double from the weights as they are stored, in float.
"""
import copy
import json
import pathlib

import open_clip
import torch
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).parent / "open_clip"
END, MIDDLE = 39, 5  # the largest id, which argmax finds, and another that pool_type «eos» may find

PLAIN = {
    "embed_dim": 6,
    "vision_cfg": {"image_size": 8, "layers": 2, "width": 12, "patch_size": 4, "head_width": 4},
    "text_cfg": {"context_length": 10, "vocab_size": 40, "width": 8, "heads": 2, "layers": 2},
}


def changed(vision=None, text=None, **top):
    config = copy.deepcopy(PLAIN) | top
    config["vision_cfg"] |= vision or {}
    config["text_cfg"] |= text or {}
    return config


CLIPA = changed(
    {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True, "mlp_ratio": 2.6, "ls_init_value": 0.5},
    {"pool_type": "last", "no_causal_mask": True, "mlp_ratio": 3.0},
    custom_text=True,
)
VARIANTS = {
    "plain": ("plain", PLAIN),
    "quick_gelu": ("plain", changed(quick_gelu=True)),
    "vision_head_width": ("plain", changed({"head_width": 6})),
    "text_heads": ("plain", changed(text={"heads": 4})),
    "pool_avg": ("plain", changed({"pool_type": "avg"})),
    "pool_avg_then_norm": ("plain", changed({"pool_type": "avg", "final_ln_after_pool": True})),
    "pool_tok_then_norm": ("plain", changed({"final_ln_after_pool": True}, {"final_ln_after_pool": True})),
    "text_pool_first": ("plain", changed(text={"pool_type": "first"})),
    "text_pool_last": ("plain", changed(text={"pool_type": "last"})),
    "text_pool_eos": ("plain", changed(text={"pool_type": "eos", "eos_id": MIDDLE})),
    "no_causal_mask": ("plain", changed(text={"no_causal_mask": True})),
    "no_causal_mask_first": ("plain", changed(text={"no_causal_mask": True, "pool_type": "first"})),
    "norm_eps": ("plain", changed({"norm_kwargs": {"eps": 1e-2}}, {"norm_kwargs": {"eps": 1e-1}})),
    "act_kwargs_none": ("plain", changed({"act_kwargs": {"approximate": "none"}})),
    "custom_block": ("plain", changed({"block_type": "custom"}, {"block_type": "custom", "qk_norm": False})),
    "layer_scale": ("layer_scale", changed({"ls_init_value": 1e-4}, {"ls_init_value": 0.1}, quick_gelu=True)),
    "clipa": ("clipa", CLIPA),
}


def build(config):
    config = copy.deepcopy(config)
    custom = config.pop("custom_text", False)
    return (CustomTextCLIP if custom else CLIP)(**config)


def weights(config, seed):
    torch.manual_seed(seed)
    state = build(config).state_dict()
    for name, value in state.items():  # no zero, no one, no two alike
        value += 0.3 * torch.randn_like(value)
    state["logit_scale"].fill_(1.5)
    return {name: value.contiguous() for name, value in state.items()}


def inputs():
    torch.manual_seed(2)
    images = torch.randn(2, 3, 8, 8)
    ids = torch.zeros(3, 10, dtype=torch.long)  # open_clip pads with 0
    for row, length in enumerate((3, 5, 8)):
        ids[row, 0] = END - 1
        ids[row, 1 : 1 + length] = torch.randint(6, END - 1, (length,))
        ids[row, 1 + row] = MIDDLE
        ids[row, 1 + length] = END
    return images, ids


def tower_facts(transformer, norm):
    block = transformer.resblocks[0]
    act = block.mlp.gelu
    return {
        "width": transformer.width,
        "layers": transformer.layers,
        "heads": block.attn.num_heads,
        "hidden": block.mlp.c_fc.out_features,
        "epsilon": block.ln_1.eps,
        "last_epsilon": norm.eps,
        "activation": {"QuickGELU": "quick_gelu", "GELU": "gelu"}[type(act).__name__],
        "layer_scale": not isinstance(block.ls_1, torch.nn.Identity),
    }


def facts(config):
    with torch.device("meta"):
        model = build(config)
    visual = model.visual
    return {
        "vision": tower_facts(visual.transformer, visual.ln_post)
        | {
            "pre_norm": not isinstance(visual.ln_pre, torch.nn.Identity),
            "pool": visual.pool_type,
            "norm_after_pool": visual.final_ln_after_pool,
            "image_size": visual.image_size[0],
            "patch": visual.patch_size[0],
        },
        "text": tower_facts(model.transformer, model.ln_final)
        | {
            "pool": model.text_pool_type,
            "eos": model.text_eos_id,
            "causal": model.attn_mask is not None,
            "context": model.context_length,
            "vocabulary": model.vocab_size,
        },
        "embedding": visual.output_dim,
    }


def main():
    FOLDER.mkdir(exist_ok=True)
    states = {}
    for seed, (case, config) in enumerate({case: config for case, config in VARIANTS.values()}.items()):
        states[case] = weights(config, seed + 1)
        save_file(states[case], FOLDER / f"{case}.safetensors")
    images, ids = inputs()
    expected = {"images": images.permute(0, 2, 3, 1).contiguous(), "ids": ids}
    for name, (case, config) in VARIANTS.items():
        model = build(config).eval()
        model.load_state_dict(states[case])
        model = model.double()
        with torch.no_grad():
            expected[f"{name}.image"] = model.encode_image(images.double()).float().contiguous()
            expected[f"{name}.text"] = model.encode_text(ids).float().contiguous()
    for a in VARIANTS:  # each variant changes something, but those that only say it in another way
        alike = [b for b in VARIANTS if VARIANTS[a][0] == VARIANTS[b][0] and all(
            torch.allclose(expected[f"{a}.{kind}"], expected[f"{b}.{kind}"], atol=1e-6) for kind in ("image", "text"))]
        same = {"plain", "pool_tok_then_norm", "act_kwargs_none", "custom_block"}
        assert set(alike) == (same if a in same else {a}), (a, alike)
    save_file(expected, FOLDER / "expected.safetensors")
    variants = {name: {"case": case, "model_cfg": config} for name, (case, config) in VARIANTS.items()}
    (FOLDER / "variants.json").write_text(json.dumps(variants, indent=1) + "\n")

    table = {}
    for path in sorted((pathlib.Path(open_clip.__file__).parent / "model_configs").glob("*.json")):
        config = json.loads(path.read_text())
        vision, text = config["vision_cfg"], config["text_cfg"]
        if "timm_model_name" in vision or isinstance(vision.get("layers"), list):
            continue
        entry = {"model_cfg": config}
        if not (text.get("hf_model_name") or "multimodal_cfg" in config):
            entry["facts"] = facts(config)
        table[path.stem] = entry
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in table.items())
    (FOLDER / "model_configs.json").write_text("{\n" + lines + "\n}\n")


main()
