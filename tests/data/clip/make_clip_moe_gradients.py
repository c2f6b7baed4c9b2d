#!/usr/bin/env python3
"""Writes clip_moe_gradients/: a tiny CLIP-MoE with random weights, mixtures in all blocks, and the gradients of its
training loss under the names of the weights, by torch's autograd in double:
    model.safetensors, expected.safetensors     the model; images [B, H, W, C], ids [B, T]
    block/model.safetensors                     contrastive loss with label smoothing + balance as the paper has it
    tower/model.safetensors                     the same with the balance of the published code
Paper (arXiv 2409.19291, equations 6 to 9): E sum_e f_e P_e of each mixture, f of first choices, the mean over a tower's
mixtures. Code (clipmoe/model_clipmoe.py): all mixtures of a tower stacked, f summed over the K choices. Text tokens
behind the end are left out of both, as gatefold does not compute them. metadata: loss, and the balance of each tower.

Made with Python 3.11, torch 1.13.1 and numpy 1.24.2 of Debian 12 (python3-torch), without safetensors:
    /usr/bin/python3 make_clip_moe_gradients.py
"""
import json
import pathlib
import struct

import torch

from open_ai_clip import open_ai_forward

HERE = pathlib.Path(__file__).parent / "clip_moe_gradients"
WIDTH, HIDDEN, LAYERS, HEAD, EXPERTS, SELECTED, EMBEDDING = 8, 12, 2, 4, 3, 2, 6
IMAGE, PATCH, VOCABULARY, CONTEXT, BATCH = 8, 4, 20, 24, 3
SMOOTHING, COEFFICIENT = 0.1, 0.3


def save_file(tensors, path, metadata=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, tensor in tensors.items():
        raw = tensor.detach().contiguous().numpy().tobytes()
        kind = {torch.float32: "F32", torch.int64: "I64"}[tensor.dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def random_state():
    torch.manual_seed(12)
    # As stored, in float.
    draw = lambda *shape, scale=0.4, mean=0.0: (mean + scale * torch.randn(*shape)).double()
    state = {
        "visual.conv1.weight": draw(WIDTH, 3, PATCH, PATCH),
        "visual.class_embedding": draw(WIDTH),
        "visual.positional_embedding": draw((IMAGE // PATCH) ** 2 + 1, WIDTH),
        "visual.proj": draw(WIDTH, EMBEDDING),
        "token_embedding.weight": draw(VOCABULARY, WIDTH),
        "positional_embedding": draw(CONTEXT, WIDTH),
        "positional_embedding_res": draw(CONTEXT, WIDTH),
        "text_projection": draw(WIDTH, EMBEDDING),
        "logit_scale": torch.tensor(1.5).double(),
    }
    norms = ["visual.ln_pre", "visual.ln_post", "ln_final"]
    for tower in ("visual.transformer", "transformer"):
        for layer in range(LAYERS):
            block = f"{tower}.resblocks.{layer}."
            norms += [block + "ln_1", block + "ln_2"]
            state[block + "attn.in_proj_weight"] = draw(3 * WIDTH, WIDTH)
            state[block + "attn.in_proj_bias"] = draw(3 * WIDTH)
            state[block + "attn.out_proj.weight"] = draw(WIDTH, WIDTH)
            state[block + "attn.out_proj.bias"] = draw(WIDTH)
            state[block + "gate.weight"] = draw(EXPERTS, WIDTH)
            for e in range(EXPERTS):
                state[f"{block}experts.{e}.c_fc.weight"] = draw(HIDDEN, WIDTH)
                state[f"{block}experts.{e}.c_fc.bias"] = draw(HIDDEN)
                state[f"{block}experts.{e}.c_proj.weight"] = draw(WIDTH, HIDDEN)
                state[f"{block}experts.{e}.c_proj.bias"] = draw(WIDTH)
    for name in norms:
        state[name + ".weight"] = draw(WIDTH, scale=0.3, mean=1.0)
        state[name + ".bias"] = draw(WIDTH)
    return state


def balance(routing, tower, seen, over):
    """routing of a tower's mixtures; seen [B, T]: the tokens that count."""
    probs = [gates[seen] for name, gates, _ in routing if name.startswith(tower)]
    chosen = [choice[seen] for name, _, choice in routing if name.startswith(tower)]
    assert len(probs) == LAYERS
    count = lambda c: torch.nn.functional.one_hot(c, EXPERTS).double().mean(0)
    if over == "tower":
        probs, chosen = torch.cat(probs), torch.cat(chosen)
        shares = sum(count(chosen[:, slot]) for slot in range(SELECTED))
        return EXPERTS * (shares * probs.mean(0)).sum()
    return sum(EXPERTS * (count(c[:, 0]) * p.mean(0)).sum() for p, c in zip(probs, chosen)) / LAYERS


def main():
    state = random_state()
    images = torch.randn(BATCH, 3, IMAGE, IMAGE).double()
    ids = torch.randint(1, VOCABULARY - 1, (BATCH, CONTEXT))
    ids[0, 22:] = ids[1, 5:] = ids[2, 23:] = VOCABULARY - 1  # ends; one text needs no position of the second table
    save_file({name: value.float() for name, value in state.items()}, HERE / "model.safetensors")
    save_file({"images": images.float().permute(0, 2, 3, 1), "ids": ids}, HERE / "expected.safetensors")

    for over in ("block", "tower"):
        for value in state.values():
            value.requires_grad_()
            value.grad = None
        result, routing = open_ai_forward(state, images, ids, HEAD, SELECTED)
        unit = {kind: torch.nn.functional.normalize(result[kind], dim=-1) for kind in ("image", "text")}
        logits = state["logit_scale"].exp() * unit["image"] @ unit["text"].T
        target = torch.arange(BATCH)
        loss = sum(torch.nn.functional.cross_entropy(l, target, label_smoothing=SMOOTHING) for l in (logits, logits.T)) / 2
        in_text = torch.arange(CONTEXT)[None] <= ids.argmax(-1)[:, None]
        in_image = torch.ones(BATCH, (IMAGE // PATCH) ** 2 + 1, dtype=torch.bool)
        parts = {"vision": balance(routing, "visual.", in_image, over), "text": balance(routing, "transformer.", in_text, over)}
        (loss + COEFFICIENT * sum(parts.values())).backward()
        assert all(value.grad.abs().max() > 1e-3 for value in state.values())  # each expert is chosen, and matters
        metadata = {"loss": repr(loss.item())} | {tower: repr(value.item()) for tower, value in parts.items()}
        print(over, metadata)
        save_file({name: value.grad.float() for name, value in state.items()}, HERE / over / "model.safetensors", metadata)


main()
