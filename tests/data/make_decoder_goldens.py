#!/usr/bin/env python3
"""Writes decoder_goldens.txt: attention of tiny random decoders by transformers, with a cache: some tokens at once, then
one by one; and the gradients of the pass over all of them, computed in float64. What goes in, parameters too, is made by
a formula (drawn) on both sides.

    python3 make_decoder_goldens.py > decoder_goldens.txt     # needs torch and transformers
"""
import torch
import transformers
from transformers import DynamicCache
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.granite import modeling_granite as granite
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen2 import modeling_qwen2 as qwen2
from transformers.models.qwen3 import modeling_qwen3 as qwen3

TOKENS, AT_ONCE, WIDTH = 9, 5, 8
ORDER = ["x", "dy", *(f"{name}_proj.{kind}" for name in "qkvo" for kind in ("weight", "bias")), "q_norm.weight",
         "k_norm.weight", "sinks"]
COMMON = dict(hidden_size=WIDTH, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=1, vocab_size=8,
              intermediate_size=8, attn_implementation="eager", max_position_embeddings=64)


def rope(theta, **more):
    return dict(rope_theta=theta, **(more or dict(rope_type="default")))


CASES = {
    "llama": (llama.LlamaAttention, llama.LlamaRotaryEmbedding, transformers.LlamaConfig, dict(
        head_dim=4, rope_parameters=rope(30.0))),
    "llama3_scaling": (llama.LlamaAttention, llama.LlamaRotaryEmbedding, transformers.LlamaConfig, dict(
        head_dim=4, rope_parameters=rope(30.0, rope_type="llama3", factor=8.0, low_freq_factor=1.0,
                                         high_freq_factor=4.0, original_max_position_embeddings=40))),
    "linear_scaling": (llama.LlamaAttention, llama.LlamaRotaryEmbedding, transformers.LlamaConfig, dict(
        head_dim=4, rope_parameters=rope(30.0, rope_type="linear", factor=3.0))),
    "yarn_whole": (llama.LlamaAttention, llama.LlamaRotaryEmbedding, transformers.LlamaConfig, dict(
        num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        rope_parameters=rope(50.0, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0,
                                         original_max_position_embeddings=32))),
    "granite": (granite.GraniteAttention, granite.GraniteRotaryEmbedding, transformers.GraniteConfig, dict(
        num_attention_heads=2, num_key_value_heads=1, attention_multiplier=0.2, rope_parameters=rope(30.0))),
    "qwen2": (qwen2.Qwen2Attention, qwen2.Qwen2RotaryEmbedding, transformers.Qwen2Config, dict(
        num_attention_heads=2, num_key_value_heads=1, rope_parameters=rope(100.0))),
    "qwen3": (qwen3.Qwen3Attention, qwen3.Qwen3RotaryEmbedding, transformers.Qwen3Config, dict(
        head_dim=4, rope_parameters=rope(100.0))),
    # Layer 0 has a window, as every second of GPT-OSS.
    "gpt_oss": (gpt_oss.GptOssAttention, gpt_oss.GptOssRotaryEmbedding, transformers.GptOssConfig, dict(
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, sliding_window=4, layer_types=["sliding_attention"], num_local_experts=2,
        rope_parameters=rope(50.0, rope_type="yarn", factor=4.0, beta_fast=4.0, beta_slow=1.0, truncate=False,
                             original_max_position_embeddings=32))),
}


def drawn(name, shape):
    """Numbers in [-1, 1), [0.5, 1.5) of norms, that float holds exactly; they differ by name and place."""
    count = torch.Size(shape).numel()
    hashes = [(((i * 7919 + ORDER.index(name) * 104729 + 12345) * 2654435761) % 2**32) >> 12 for i in range(count)]
    values = torch.tensor(hashes, dtype=torch.float64) / 2**19 - 1
    return (1 + values / 2 if "norm" in name else values).reshape(shape)


def show(name, tensor):
    values = tensor.detach().reshape(-1).tolist()
    print(name, len(values), " ".join(f"{v:.7g}" for v in values))


def mask(first, count, window):
    query = torch.arange(first, first + count)[:, None]
    key = torch.arange(first + count)[None, :]
    seen = (key <= query) & ((query - key < window) if window else torch.ones_like(key, dtype=torch.bool))
    return torch.where(seen, 0.0, float("-inf"))[None, None]


def main():
    print(f"# torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}")
    print("# case: tokens, tokens at once, width; y, dx, then the gradient of each parameter: how many numbers, numbers")
    torch.set_default_dtype(torch.float64)
    for name, (attention, rotary, config, more) in CASES.items():
        config = config(**(COMMON | more))
        config._attn_implementation = "eager"
        layer, turn = attention(config, layer_idx=0).eval(), rotary(config)
        for path, parameter in layer.named_parameters():
            parameter.data = drawn(path, parameter.shape)
        x, dy = drawn("x", (1, TOKENS, WIDTH)).requires_grad_(), drawn("dy", (1, TOKENS, WIDTH))
        window = getattr(config, "sliding_window", None) if name == "gpt_oss" else None

        def run(begin, end, cache):
            place = torch.arange(begin, end)[None]
            more = dict(cache=cache) if cache is not None else {}
            return layer(hidden_states=x[:, begin:end], position_embeddings=turn(x, place),
                         attention_mask=mask(begin, end - begin, window), **more)[0]

        whole = run(0, TOKENS, None)
        (whole * dy).sum().backward()
        cache = DynamicCache()  # without a config it keeps all; the mask makes the window
        steps = [run(0, AT_ONCE, cache)] + [run(i, i + 1, cache) for i in range(AT_ONCE, TOKENS)]
        decoded = torch.cat(steps, dim=1)
        assert (decoded - whole).abs().max() < 1e-6, name  # transformers has softmaxes and angles in float32
        print("case", name, TOKENS, AT_ONCE, WIDTH)
        show("y", decoded)
        show("dx", x.grad)
        for path, parameter in layer.named_parameters():
            show(path, parameter.grad)


main()
