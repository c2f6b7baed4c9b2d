#!/usr/bin/env python3
"""Writes vision_language_goldens.txt: tiny language models of transformers behind a picture, with random weights. For
each the logits of all words of three sequences of unlike lengths, what greedy generation with a cache makes of the
beginnings of them, and some of each parameter's gradient of the mean cross entropy of the answers. What goes in,
parameters too, is made by a formula (drawn) on both sides; the vision encoder is written out below.

    python3 make_vision_language_goldens.py > vision_language_goldens.txt     # needs torch and transformers
"""
import torch
import torch.nn.functional as F
import transformers

SIZE, PATCH, CHANNELS, SEEN, SEEN_HIDDEN, SEEN_HEADS = 4, 2, 2, 8, 12, 2
WIDTH, HIDDEN, HEADS, KEY_HEADS, HEAD_WIDTH, LAYERS, VOCABULARY = 16, 24, 4, 2, 4, 2, 23
TEXTS = [[3, 5, 8, 1], [2, 6], [7, 1, 4, 9, 10, 0, 2]]
ANSWERS = [2, 1, 4]  # where each answer begins
NEW_TOKENS, KEPT = 9, 5  # words that are generated; numbers of each gradient that are kept
CASES = {  # model, config, biases of q, k and v, norms of q and k, projector, tied head, base
    "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, False, False, "linear", False, 30.0),
    "llama_tied": (transformers.LlamaForCausalLM, transformers.LlamaConfig, False, False, "mlp", True, 10000.0),
    "qwen2": (transformers.Qwen2ForCausalLM, transformers.Qwen2Config, True, False, "linear", True, 100.0),
    "qwen3": (transformers.Qwen3ForCausalLM, transformers.Qwen3Config, False, True, "mlp", False, 100.0),
}


def drawn(name, shape):
    """Numbers that float holds exactly: about in [-2, 2) over the root of what they are summed over, in [-1/4, 1/4) of tables, in
    [0.5, 1.5) of gains."""
    key = 0x811C9DC5
    for c in name.encode():
        key = (key ^ c) * 0x01000193 % 2**32
    count = torch.Size(shape).numel()
    hashes = [(((i * 7919 + key) * 2654435761) % 2**32) >> 12 for i in range(count)]
    values = torch.tensor(hashes, dtype=torch.float64) / 2**19 - 1
    if name.endswith("gain"):
        values = 1 + values / 2
    elif name.endswith("weight"):
        values = values * 2.0 ** (1 - (int(shape[-1]).bit_length() - 1) // 2)
    elif name.endswith("table"):
        values = values / 4
    return values.reshape(shape)


class Parameters(dict):
    def __call__(self, name, *shape):
        if name not in self:
            self[name] = drawn(name, shape).requires_grad_()
        return self[name]


def linear(p, name, x, out, bias=True):
    return F.linear(x, p(name + ".weight", out, x.shape[-1]), p(name + ".bias", out) if bias else None)


def norm(p, name, x):
    return F.layer_norm(x, x.shape[-1:], p(name + ".gain", x.shape[-1]), p(name + ".bias", x.shape[-1]), 1e-5)


def see(p, images, projector):
    """A vision transformer of one block, and the projector. [B, 4, WIDTH]"""
    across = SIZE // PATCH
    cut = images.reshape(-1, across, PATCH, across, PATCH, CHANNELS).transpose(2, 3)
    x = linear(p, "vision.patch_embed.projection", cut.reshape(-1, across**2, PATCH * PATCH * CHANNELS), SEEN)
    x = x + p("vision.position.table", across**2, SEEN)
    at = "vision.trunk.blocks.0."
    q, k, v = (part.reshape(*x.shape[:2], SEEN_HEADS, -1).transpose(1, 2) for part in linear(
        p, at + "attention.inner.qkv", norm(p, at + "attention.norm", x), 3 * SEEN).chunk(3, dim=-1))
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
    x = x + linear(p, at + "attention.inner.out", mixed, SEEN)
    hidden = linear(p, at + "ffn.inner.up", norm(p, at + "ffn.norm", x), SEEN_HIDDEN)
    x = x + linear(p, at + "ffn.inner.down", F.gelu(hidden, approximate="tanh"), SEEN)
    x = norm(p, "vision.trunk.norm", x)
    if projector == "linear":
        return linear(p, "projector", x, WIDTH)
    return linear(p, "projector.down", F.gelu(linear(p, "projector.up", x, WIDTH)), WIDTH)


def fill(model, p, bias, head_norms):
    """Our parameters into those of transformers, q, k and v from one."""
    def put(module, attribute, value):
        delattr(module, attribute)
        setattr(module, attribute, value)  # no parameter any more, so that gradients go on to ours

    put(model.model.embed_tokens, "weight", p("words.table", VOCABULARY, WIDTH))
    put(model.model.norm, "weight", p("decoder.norm.gain", WIDTH))
    tied = model.config.tie_word_embeddings
    put(model.lm_head, "weight", p("words.table") if tied else p("head.weight", VOCABULARY, WIDTH))
    heads = [HEADS * HEAD_WIDTH, KEY_HEADS * HEAD_WIDTH, KEY_HEADS * HEAD_WIDTH]
    for i, layer in enumerate(model.model.layers):
        at = f"decoder.blocks.{i}."
        put(layer.input_layernorm, "weight", p(at + "attention.norm.gain", WIDTH))
        put(layer.post_attention_layernorm, "weight", p(at + "ffn.norm.gain", WIDTH))
        attention = layer.self_attn
        parts = p(at + "attention.inner.qkv.weight", sum(heads), WIDTH).split(heads)
        biases = p(at + "attention.inner.qkv.bias", sum(heads)).split(heads) if bias else [None] * 3
        for module, weight, offset in zip((attention.q_proj, attention.k_proj, attention.v_proj), parts, biases):
            put(module, "weight", weight)
            if bias:
                put(module, "bias", offset)
        put(attention.o_proj, "weight", p(at + "attention.inner.out.weight", WIDTH, heads[0]))
        if head_norms:
            put(attention.q_norm, "weight", p(at + "attention.inner.query_norm.gain", HEAD_WIDTH))
            put(attention.k_norm, "weight", p(at + "attention.inner.key_norm.gain", HEAD_WIDTH))
        for name in ("gate", "up"):
            put(getattr(layer.mlp, name + "_proj"), "weight", p(at + f"ffn.inner.{name}.weight", HIDDEN, WIDTH))
        put(layer.mlp.down_proj, "weight", p(at + "ffn.inner.down.weight", WIDTH, HIDDEN))


def show(name, tensor):
    values = tensor.detach().reshape(-1).tolist()
    print(name, len(values), " ".join(f"{v:.8g}" for v in values))


def main():
    print(f"# torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}")
    print("# case: projector, tied, biases, norms of heads, base; then logits, loss, words of each sequence, and of each")
    print("# parameter's gradient every so many numbers")
    torch.set_default_dtype(torch.float64)
    images = drawn("images", (len(TEXTS), SIZE, SIZE, CHANNELS))
    for name, (model, config, bias, head_norms, projector, tied, base) in CASES.items():
        config = config(hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=LAYERS, vocab_size=VOCABULARY,
                        num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, head_dim=HEAD_WIDTH,
                        tie_word_embeddings=tied, rms_norm_eps=1e-6, max_position_embeddings=64,
                        rope_parameters=dict(rope_type="default", rope_theta=base), attn_implementation="eager",
                        bos_token_id=None, eos_token_id=None, pad_token_id=0)
        p = Parameters()
        model = model(config).eval().double()
        fill(model, p, bias, head_norms)
        model.register_parameter("none_left", torch.nn.Parameter(torch.zeros(1)))  # which generate asks for a device
        print("case", name, projector, int(tied), int(bias), int(head_norms), base)
        seen = see(p, images, projector)
        logits, losses, words = [], [], []
        for b, (text, answer) in enumerate(zip(TEXTS, ANSWERS)):
            rows = torch.cat([seen[b], p["words.table"][torch.tensor(text)]])[None]
            all_logits = model(inputs_embeds=rows).logits[0]
            before = all_logits[seen.shape[1] - 1:-1]  # of each word of the text, from what comes before it
            logits.append(before)
            losses.append(F.cross_entropy(before[answer:], torch.tensor(text[answer:]), reduction="none"))
            prompt = rows[:, :seen.shape[1] + answer]
            with torch.no_grad():
                out = model.generate(inputs_embeds=prompt, attention_mask=torch.ones(prompt.shape[:2], dtype=torch.long),
                                     max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False,
                                     use_cache=True, return_dict_in_generate=True, output_scores=True)
            margin = min((s[0].topk(2).values[0] - s[0].topk(2).values[1]).item() for s in out.scores)
            assert margin > 1e-4, (name, b, margin)  # the same words in float
            words += out.sequences[0].tolist()
        loss = torch.cat(losses).mean()
        loss.backward()
        show("logits", torch.cat(logits))
        show("loss", loss)
        show("words", torch.tensor(words))
        for path in sorted(p):
            flat = p[path].grad.reshape(-1)
            show(path, flat[::max(1, flat.numel() // KEPT)][:KEPT])


main()
