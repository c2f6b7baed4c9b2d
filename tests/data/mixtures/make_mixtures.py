#!/usr/bin/env python3
"""Writes mixture blocks of published families with random weights, as transformers saves them, and what transformers
makes of some rows with them:
    CASE/config.json                the configuration of the whole model
    CASE/model.safetensors          the tensors of one layer's mixture, under the names of the hub
    CASE/gradients.safetensors      the gradients of all its parameters, under the same names (not of packed weights)
    CASE/expected.safetensors       x [S, D], y [S, D], dy [S, D], dx [S, D]

Made with Python 3.11, torch 2.15.0, transformers 5.24.0, safetensors 0.8.0, numpy 2.4.6:
    python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 safetensors==0.8.0 numpy==2.4.6
    venv/bin/python make_mixtures.py
All is computed in double (but for routers that cast to float) from the weights as they are stored.
"""
import json
import pathlib
import shutil
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize
from transformers.integrations.mxfp4 import _convert_moe_packed_tensors

HERE = pathlib.Path(__file__).parent
ROWS = 11
ATTENTION = dict(num_attention_heads=2, num_key_value_heads=2, vocab_size=8, max_position_embeddings=16,
                 pad_token_id=0, bos_token_id=1, eos_token_id=2)
DEEPSEEK = dict(kv_lora_rank=4, q_lora_rank=4, qk_nope_head_dim=4, qk_rope_head_dim=4, v_head_dim=4)


def model_of(kind, seed, std=0.4, **config):
    """A causal model of two layers, all parameters and the biases of its routers random."""
    torch.manual_seed(seed)
    layers = config.pop("num_hidden_layers", 2)
    config_kind = "Llama4TextConfig" if kind == "Llama4" else kind + "Config"
    config = getattr(transformers, config_kind)(**(ATTENTION | config), num_hidden_layers=layers,
                                                    experts_implementation="eager")
    model = getattr(transformers, kind + "ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(std * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith(("e_score_correction_bias", "expert_bias")):
                buffer.copy_(0.2 * torch.randn_like(buffer))
    return model


def saved(model):
    """As save_pretrained writes it: tensors and configuration."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return load_file(pathlib.Path(folder) / "model.safetensors"), json.loads(
            (pathlib.Path(folder) / "config.json").read_text())


def of_block(tensors, at):
    return {name: tensor.contiguous() for name, tensor in tensors.items() if name.startswith(at)}


def pass_through(model, block, x):
    model.double()
    x = x.double().requires_grad_()
    out = block(x[None] * 1)  # a copy: some blocks write into what they get
    out = (out[0] if isinstance(out, tuple) else out).reshape(x.shape)
    dy = torch.randn(x.shape).float().double()
    out.backward(dy)
    return {"x": x, "y": out, "dy": dy, "dx": x.grad}


def case(name, model, at, find, dtype=torch.float32, x=None, gradients=True, rewrite=None):
    """`at`: what the names of the mixture's tensors begin with; `find`: the block in the model."""
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.to(dtype)
    tensors, config = saved(model)
    tensors = of_block(tensors, at)
    assert tensors, name
    if rewrite:
        rewrite(model, tensors, config)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, separators=(",", ":"), sort_keys=True) + "\n")
    block = find(model)
    if x is None:
        x = torch.randn(ROWS, model.config.hidden_size)
    expected = pass_through(model, block, x)
    save_file({key: value.detach().float().contiguous() for key, value in expected.items()},
              folder / "expected.safetensors")
    if not gradients:
        return
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith(("e_score_correction_bias", "expert_bias")):
                buffer.zero_()
    gradients, _ = saved(model.float())
    save_file(of_block(gradients, at), folder / "gradients.safetensors")


def mlp(model):
    return model.model.layers[1].mlp


def feed_forward(model):
    return model.model.layers[1].feed_forward


def granite(model):
    """The mixture beside the expert that all tokens share, as the decoder layer adds them."""
    layer = model.model.layers[1]
    shared = getattr(layer, "shared_mlp", None)
    return layer.block_sparse_moe if shared is None else lambda x: layer.block_sparse_moe(x) + shared(x)


def pack_mxfp4(model, tensors, config):
    """Random packed weights in the place of the experts' float ones."""
    experts = mlp(model).experts
    for name in ("gate_up_proj", "down_proj"):
        weight = getattr(experts, name)  # [E, in, out]
        count, inputs, outputs = weight.shape
        blocks = torch.randint(0, 256, (count, outputs, inputs // 32, 16), dtype=torch.uint8)
        scales = torch.randint(122, 127, (count, outputs, inputs // 32), dtype=torch.uint8)
        with torch.no_grad():
            weight.copy_(_convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
        at = "model.layers.1.mlp.experts." + name
        del tensors[at]
        tensors |= {at + "_blocks": blocks, at + "_scales": scales}
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}


def to_fp8(model, tensors, config):
    """The experts' weights in blocks of 2 x 4 with a scale each (the hub's have 128 x 128)."""
    rows, columns = 2, 4
    block = mlp(model)
    dense = {}
    for name, weight in list(tensors.items()):
        if "expert" not in name or not name.endswith("_proj.weight"):
            continue
        out, width = weight.shape
        tiles = weight.reshape(out // rows, rows, width // columns, columns)
        scale = tiles.abs().amax((1, 3)) / 448
        packed = (tiles / scale[:, None, :, None]).reshape(out, width).to(torch.float8_e4m3fn)
        tensors |= {name: packed, name + "_scale_inv": scale}
        dense[name.removeprefix("model.layers.1.mlp.")] = Fp8Dequantize(None)._dequantize_one(
            packed, scale, torch.float32)
    with torch.no_grad():
        for e in range(block.experts.num_experts):
            gate, up, down = (dense[f"experts.{e}.{kind}_proj.weight"] for kind in ("gate", "up", "down"))
            block.experts.gate_up_proj[e] = torch.cat([gate, up])
            block.experts.down_proj[e] = down
        for kind in ("gate_proj", "up_proj", "down_proj"):
            getattr(block.shared_experts, kind).weight.copy_(dense[f"shared_experts.{kind}.weight"])
    config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                     "weight_block_size": [rows, columns]}


def main():
    layer = "model.layers.1."
    case("mixtral", model_of("Mixtral", 1, hidden_size=8, intermediate_size=6, num_local_experts=4,
                             num_experts_per_tok=2), layer + "block_sparse_moe.", mlp)
    case("qwen2_moe", model_of("Qwen2Moe", 2, hidden_size=8, moe_intermediate_size=6, num_experts=5,
                               num_experts_per_tok=2, shared_expert_intermediate_size=10, norm_topk_prob=False,
                               intermediate_size=7), layer + "mlp.", mlp)
    case("qwen3_moe", model_of("Qwen3Moe", 3, hidden_size=8, moe_intermediate_size=5, num_experts=6,
                               num_experts_per_tok=3, norm_topk_prob=True, intermediate_size=7, head_dim=8),
         layer + "mlp.", mlp)
    case("olmoe", model_of("Olmoe", 4, hidden_size=8, intermediate_size=5, num_experts=6, num_experts_per_tok=3),
         layer + "mlp.", mlp)
    case("deepseek_v2", model_of("DeepseekV2", 5, **DEEPSEEK, hidden_size=8, moe_intermediate_size=4,
                                 n_routed_experts=8, num_experts_per_tok=3, n_shared_experts=2, n_group=4,
                                 topk_group=2, topk_method="group_limited_greedy", routed_scaling_factor=3.5,
                                 mlp_bias=True, first_k_dense_replace=1, intermediate_size=7), layer + "mlp.", mlp)
    case("deepseek_v2_lite", model_of("DeepseekV2", 6, **DEEPSEEK, hidden_size=8, moe_intermediate_size=4,
                                      n_routed_experts=5, num_experts_per_tok=3, n_shared_experts=1,
                                      topk_method="greedy", first_k_dense_replace=1, intermediate_size=7),
         layer + "mlp.", mlp)
    v3 = dict(**DEEPSEEK, hidden_size=8, moe_intermediate_size=4, n_routed_experts=8, num_experts_per_tok=3,
              n_shared_experts=1, n_group=4, topk_group=2, routed_scaling_factor=2.5, first_k_dense_replace=1,
              intermediate_size=7)
    case("deepseek_v3", model_of("DeepseekV3", 7, **v3), layer + "mlp.", mlp)
    case("deepseek_v3_fp8", model_of("DeepseekV3", 8, **v3), layer + "mlp.", mlp, gradients=False, rewrite=to_fp8)
    case("granitemoe", model_of("GraniteMoe", 9, hidden_size=8, intermediate_size=6, num_local_experts=5,
                                num_experts_per_tok=2), layer + "block_sparse_moe.", granite)
    case("granitemoeshared", model_of("GraniteMoeShared", 10, hidden_size=8, intermediate_size=6, num_local_experts=5,
                                      num_experts_per_tok=2, shared_intermediate_size=9),
         (layer + "block_sparse_moe.", layer + "shared_mlp."), granite)
    gpt = dict(num_local_experts=4, num_experts_per_tok=2, head_dim=8, std=1.5)
    case("gpt_oss", model_of("GptOss", 11, hidden_size=8, intermediate_size=6, **gpt), layer + "mlp.", mlp,
         dtype=torch.bfloat16)
    case("gpt_oss_mxfp4", model_of("GptOss", 12, hidden_size=64, intermediate_size=32, **(gpt | {"num_local_experts": 3})), layer + "mlp.", mlp,
         gradients=False, rewrite=pack_mxfp4)
    case("lfm2_moe", model_of("Lfm2Moe", 13, hidden_size=8, moe_intermediate_size=6, num_experts=6,
                              num_experts_per_tok=3, routed_scaling_factor=1.5, num_dense_layers=1,
                              intermediate_size=7, layer_types=["full_attention", "conv"]), layer + "feed_forward.",
         feed_forward)
    for top in (1, 2):
        case("llama4" if top == 1 else "llama4_two",
             model_of("Llama4", 14, hidden_size=8, intermediate_size=6, intermediate_size_mlp=7, num_local_experts=4,
                      num_experts_per_tok=top, head_dim=8), layer + "feed_forward.", feed_forward)
    # Logits that lie close to each other, or one expert alone would survive the rule's threshold.
    phi = model_of("Phimoe", 15, hidden_size=8, intermediate_size=6, num_local_experts=6, num_experts_per_tok=2,
                   router_jitter_noise=0.05, input_jitter_noise=0.01)
    x = torch.randn(16, 8)
    x[:, 0] = torch.where(torch.arange(16) % 4 == 3, -3.0, 3.0)  # some all below zero
    with torch.no_grad():
        mlp(phi).router.weight.mul_(0.3)
        mlp(phi).router.weight[:, 0] = 1
    case("phimoe", phi, layer + "block_sparse_moe.", mlp, x=x)


if __name__ == "__main__":
    main()
