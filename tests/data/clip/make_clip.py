#!/usr/bin/env python3
"""Writes tiny CLIPs with random weights, as transformers saves them, and what transformers makes of some pictures and
texts with them:
    CASE/config.json, CASE/model.safetensors (or shards)    the model
    CASE/expected.safetensors                               images [B, H, W, C], ids [B', T], embeddings, hidden states
The same under the names of OpenAI (checked against transformers) and of CLIP-MoE (whose feed-forward mixtures are
written here after the paper, arXiv 2409.19291, equations 3 to 5, since it is in no library).

Made with Python 3.11, torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6:
    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make_clip.py
All is computed in double (but transformers' softmax, which is in float) from the weights as they are stored.
"""
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from open_ai_clip import open_ai_forward

HERE = pathlib.Path(__file__).parent
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def fresh(name):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def random_model(seed, *, vision, text, embedding, eos):
    torch.manual_seed(seed)
    config = CLIPConfig(
        vision_config=vision,
        text_config={"bos_token_id": text["vocab_size"] - 2, "eos_token_id": eos, "pad_token_id": 1} | text,
        projection_dim=embedding,
        attn_implementation="eager",
    )
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # no zero, no one, no two alike
            parameter += 0.3 * torch.randn_like(parameter)
        model.logit_scale.fill_(1.5)
    return model


def save(model, folder, dtype, **options):
    """The weights lose digits in the file, so the model that the goldens are of loses them as well."""
    model.to(DTYPES[dtype]).save_pretrained(folder, **options)
    return model.double()


def inputs(model, seed, texts=3):
    vision, text = model.config.vision_config, model.config.text_config
    torch.manual_seed(seed)
    images = torch.randn(2, 3, vision.image_size, vision.image_size).float().double()
    largest = text.vocab_size - 1
    end = largest if text.eos_token_id == 2 else text.eos_token_id
    ids = torch.full((texts, text.max_position_embeddings), end)  # padded with the end, as transformers does
    for row in range(texts):
        length = (text.max_position_embeddings - 2) * (row + 1) // texts
        ids[row, 0] = largest - 1 if end == largest else largest
        ids[row, 1 : 1 + length] = torch.randint(0, min(end, largest - 1), (length,))
    return images, ids


def expect(folder, model, images, ids):
    with torch.no_grad():
        vision = model.vision_model(pixel_values=images, output_hidden_states=True)
        text = model.text_model(input_ids=ids, output_hidden_states=True)
        out = model(pixel_values=images, input_ids=ids)
        result = {
            "image": model.visual_projection(vision.pooler_output),
            "text": model.text_projection(text.pooler_output),
            "logits_per_image": out.logits_per_image,
        }
    for tower, hidden, config in (("vision", vision.hidden_states, model.config.vision_config),
                                  ("text", text.hidden_states, model.config.text_config)):
        assert len(hidden) == config.num_hidden_layers + 1
        result |= {f"{tower}.hidden.{layer}": state for layer, state in enumerate(hidden)}
    write(folder, images, ids, result)
    return result


def write(folder, images, ids, result):
    tensors = {name: value.detach().float().contiguous() for name, value in result.items()}
    tensors["images"] = images.float().permute(0, 2, 3, 1).contiguous()
    tensors["ids"] = ids
    save_file(tensors, folder / "expected.safetensors")


def gradients(model, folder, images, ids):
    """Of the contrastive loss, under the names of the weights."""
    model.zero_grad()
    loss = model(pixel_values=images, input_ids=ids, return_loss=True).loss
    loss.backward()
    grads = {name: p.grad.float().contiguous() for name, p in model.named_parameters()}
    grads["logit_scale"] = grads["logit_scale"].reshape(())
    save_file(grads, folder / "model.safetensors", metadata={"loss": repr(loss.item())})
    shutil.copy(folder.parent / "quick" / "config.json", folder)


def open_ai_names(model):
    state, out = model.state_dict(), {}
    for ours, theirs in (("vision_model.", "visual."), ("text_model.", "")):
        embeddings = ours + "embeddings."
        if theirs:
            out["visual.class_embedding"] = state[embeddings + "class_embedding"]
            out["visual.conv1.weight"] = state[embeddings + "patch_embedding.weight"]
            out["visual.proj"] = state["visual_projection.weight"].T
            norms = {"pre_layrnorm": "visual.ln_pre", "post_layernorm": "visual.ln_post"}
        else:
            out["token_embedding.weight"] = state[embeddings + "token_embedding.weight"]
            out["text_projection"] = state["text_projection.weight"].T
            norms = {"final_layer_norm": "ln_final"}
        out[theirs + "positional_embedding"] = state[embeddings + "position_embedding.weight"]
        for kind in ("weight", "bias"):
            for norm, name in norms.items():
                out[f"{name}.{kind}"] = state[f"{ours}{norm}.{kind}"]
            layer = 0
            while f"{ours}encoder.layers.{layer}.layer_norm1.weight" in state:
                old, new = f"{ours}encoder.layers.{layer}.", f"{theirs}transformer.resblocks.{layer}."
                out[f"{new}attn.in_proj_{kind}"] = torch.cat([state[f"{old}self_attn.{x}_proj.{kind}"] for x in "qkv"])
                for a, b in (("self_attn.out_proj", "attn.out_proj"), ("layer_norm1", "ln_1"), ("layer_norm2", "ln_2"),
                             ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj")):
                    out[f"{new}{b}.{kind}"] = state[f"{old}{a}.{kind}"]
                layer += 1
    out["logit_scale"] = state["logit_scale"].reshape(())
    return {name: value.detach().clone().contiguous() for name, value in out.items()}


def mixtures(state, layers, experts):
    """Experts that differ, in the last blocks of both towers."""
    torch.manual_seed(77)
    for name in [n for n in state if ".mlp.c_fc.weight" in n and int(n.split("resblocks.")[1].split(".")[0]) in layers]:
        block = name.removesuffix("mlp.c_fc.weight")
        for part in ("c_fc.weight", "c_fc.bias", "c_proj.weight", "c_proj.bias"):
            base = state.pop(f"{block}mlp.{part}")
            for e in range(experts):
                state[f"{block}experts.{e}.{part}"] = base + (0.5 * torch.randn_like(base) if e else 0)
        width = state[block + "ln_2.weight"].shape[0]
        state[block + "gate.weight"] = torch.randn(experts, width, dtype=torch.float64)
    state["positional_embedding_res"] = state["positional_embedding"] + 0.5 * torch.randn_like(
        state["positional_embedding"])


def stored(state, dtype):
    return {name: value.to(DTYPES[dtype]).contiguous() for name, value in state.items()}


def main():
    vision = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3, image_size=8,
                  patch_size=4, hidden_act="quick_gelu")
    text = dict(hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=40,
                max_position_embeddings=10, hidden_act="quick_gelu")

    folder = fresh("quick")  # F32, the end of a text by the largest id, as in the files of openai/clip-vit-*
    model = save(random_model(1, vision=vision, text=text, embedding=6, eos=2), folder, "F32")
    images, ids = inputs(model, 2, texts=2)
    expect(folder, model, images, ids)
    gradients(model, fresh("gradients"), images, ids)

    folder = fresh("gelu")  # F16, sharded, other epsilons, an end that is not the largest id
    model = random_model(3, vision=vision | dict(hidden_act="gelu", image_size=12, patch_size=3, layer_norm_eps=1e-2),
                         text=text | dict(hidden_act="gelu", layer_norm_eps=1e-3), embedding=5, eos=37)
    model = save(model, folder, "F16", max_shard_size="6KB")
    assert (folder / "model.safetensors.index.json").exists()
    expect(folder, model, *inputs(model, 4))

    folder = fresh("bf16")  # BF16, one tower of each activation, patches of one pixel
    model = random_model(5, vision=vision | dict(image_size=4, patch_size=1, num_attention_heads=1),
                         text=text | dict(hidden_act="gelu", num_hidden_layers=3), embedding=7, eos=39)
    model = save(model, folder, "BF16")
    expect(folder, model, *inputs(model, 6))

    folder = fresh("openai")  # heads of 64, as OpenAI's code takes for granted
    wide = dict(hidden_size=64, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1)
    model = random_model(7, vision=vision | wide, text=text | wide, embedding=6, eos=2)
    model = model.to(torch.float16).double()
    state = open_ai_names(model)
    images, ids = inputs(model, 8)
    expected = expect(folder, model, images, ids)
    for name, value in open_ai_forward(state, images, ids, 64, 0)[0].items():
        # transformers takes softmax in float, whatever the model's type.
        assert (value - expected[name]).abs().max() < 1e-6 * expected[name].abs().max(), (name, (value - expected[name]).abs().max())
    extra = {"input_resolution": torch.tensor(8), "context_length": torch.tensor(10), "vocab_size": torch.tensor(40)}
    save_file(stored(state, "F16") | extra, folder / "model.safetensors")

    folder = fresh("clip_moe")  # 3 experts in the last block of each tower, 30 positions in two tables
    model = random_model(9, vision=vision | dict(num_attention_heads=3), text=text | dict(max_position_embeddings=30),
                         embedding=6, eos=2)
    state = open_ai_names(model.double())
    mixtures(state, {1}, experts=3)
    state = {name: value.double() for name, value in stored(state, "F32").items()}
    images, ids = inputs(model, 10)
    write(folder, images, ids, open_ai_forward(state, images, ids, 4, 2)[0])
    save_file(stored(state, "F32"), folder / "model.safetensors")

    for path in sorted(HERE.glob("*/config.json")):
        config = json.loads(path.read_text())
        assert config["model_type"] == "clip", path


main()
