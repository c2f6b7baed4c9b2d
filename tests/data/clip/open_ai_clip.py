"""CLIP-MoE's forward pass in torch, for the scripts beside it."""
import torch


def open_ai_forward(state, images, ids, head_width, selected):
    """OpenAI's model.py over its state dict; blocks with `experts` as CLIP-MoE has them. Returns embeddings and
    hidden states, and of each mixture its block, the softmax and the experts chosen."""
    result, routing = {}, []

    def linear(x, name):
        return x @ state[name + ".weight"].T + state[name + ".bias"]

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, x.shape[-1:], state[name + ".weight"], state[name + ".bias"], 1e-5)

    def mlp(x, name):
        hidden = linear(x, name + "c_fc")
        return linear(hidden * torch.sigmoid(1.702 * hidden), name + "c_proj")

    def mixture(x, name):
        gates = torch.softmax(x @ state[name + "gate.weight"].T, -1)
        top, chosen = gates.topk(selected, -1)
        routing.append((name, gates, chosen))
        weight = torch.zeros_like(gates).scatter(-1, chosen, top / top.sum(-1, keepdim=True))
        return sum(weight[..., e : e + 1] * mlp(x, f"{name}experts.{e}.") for e in range(gates.shape[-1]))

    def blocks(x, name, tower, causal):
        batch, length, width = x.shape
        layer = 0
        result[f"{tower}.hidden.0"] = x
        while f"{name}{layer}.ln_1.weight" in state:
            block = f"{name}{layer}."
            h = norm(x, block + "ln_1")
            qkv = h @ state[block + "attn.in_proj_weight"].T + state[block + "attn.in_proj_bias"]
            q, k, v = (p.reshape(batch, length, -1, head_width).transpose(1, 2) for p in qkv.chunk(3, -1))
            scores = q @ k.transpose(-1, -2) / head_width**0.5
            if causal:
                scores += torch.full((length, length), float("-inf")).triu(1)
            attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
            x = x + linear(attended, block + "attn.out_proj")
            h = norm(x, block + "ln_2")
            x = x + (mixture(h, block) if block + "gate.weight" in state else mlp(h, block + "mlp."))
            layer += 1
            result[f"{tower}.hidden.{layer}"] = x
        return x

    x = torch.nn.functional.conv2d(images, state["visual.conv1.weight"], stride=state["visual.conv1.weight"].shape[-1])
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], 1) + state["visual.positional_embedding"]
    x = blocks(norm(x, "visual.ln_pre"), "visual.transformer.resblocks.", "vision", False)
    result["image"] = norm(x[:, 0], "visual.ln_post") @ state["visual.proj"]
    position = state["positional_embedding"].clone()
    if "positional_embedding_res" in state:
        position[20:] = state["positional_embedding_res"][20:]
    x = state["token_embedding.weight"][ids] + position
    x = norm(blocks(x, "transformer.resblocks.", "text", True), "ln_final")
    result["text"] = x[torch.arange(len(x)), ids.argmax(-1)] @ state["text_projection"]
    return result, routing
