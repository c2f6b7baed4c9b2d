#!/usr/bin/env python3
"""CLIP ViT-B/32 on this CPU: gatefold against what comes as Python packages. One checkpoint with random weights and one
set of inputs for all; the embeddings of each are compared with PyTorch's before anything is timed; then all take turns,
and the best call of each counts, however often a case is measured.

    python3 -m venv venv && venv/bin/pip install torch transformers onnx onnxruntime onnxscript openvino nncf
    bash bench/run.sh --quick                        # builds bench_clip, installs what it needs
    venv/bin/python bench/peers/clip_peers.py        # everything; writes build/bench/clip.md and clip.json

A step of training of the tiny CLIP of train_clip, forward, loss, backward and AdamW, against PyTorch's; gradients are
compared first. It needs torch, transformers and safetensors alone, and bench_clip_moe:

    venv/bin/python bench/peers/clip_peers.py --case step:256/threads:2 --format fp32

Each case runs in a process of its own. One after the other by hand, on a machine that is busy in between:

    venv/bin/python bench/peers/clip_peers.py --prepare
    venv/bin/python bench/peers/clip_peers.py --case images:8/threads:2 --format fp32
    venv/bin/python bench/peers/clip_peers.py --case texts:64/threads:2 --format int8 --only gatefold openvino
"""
import argparse
import gc
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES_OF_STEP = ["torch", "transformers", "safetensors"]
PACKAGES = [*PACKAGES_OF_STEP, "onnx", "onnxruntime", "onnxscript", "openvino", "nncf"]
FORMATS = ["fp32", "bf16", "int8"]
COUNTS = {"images": (1, 8, 64), "texts": (1, 64), "step": (256,)}
CASES = [f"{what}:{n}/threads:{t}" for t in (2, 1) for what, counts in COUNTS.items() for n in counts]
# What the fastest peer's time divided by ours should be at least.
GOALS = {("fp32", "images:1/threads:2"): 1.2, ("fp32", "images:8/threads:2"): 1.2, ("fp32", "images:64/threads:2"): 1.1}
# Largest relative error of an embedding, |z - z'| / |z|, to pass for the same model; fp32 differs by rounding alone.
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2, "int8": 2e-1}
HALVES = {"images": ("vision_model", "visual_projection"), "texts": ("text_model", "text_projection")}


def parse_case(text):
    count, threads = text.split("/threads:")
    what, n = count.split(":")
    return what, int(n), int(threads)


# --- The model of all ---------------------------------------------------------------------------------------------


def encoder(folder, what, **options):
    """One half of the CLIP as a module of one input."""
    import torch
    from transformers import CLIPModel

    class Encoder(torch.nn.Module):
        def __init__(self, tower, projection):
            super().__init__()
            self.tower, self.projection = tower, projection

        def forward(self, x):
            return self.projection(self.tower(x).pooler_output)

    clip = CLIPModel.from_pretrained(folder, attn_implementation="sdpa", **options).eval()
    return Encoder(*(getattr(clip, part) for part in HALVES[what])).eval()


def load_inputs(folder, what, count):
    """What PyTorch takes: images [B, C, H, W] in memory of their own."""
    from safetensors.torch import load_file

    inputs = load_file(folder / "inputs.safetensors")
    if what == "texts":
        return inputs["ids"][:count].contiguous()
    return inputs["pixels"][:count].permute(0, 3, 1, 2).contiguous()


def prepare_step(folder):
    """Writes the CLIP of clip_step, and its inputs."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    tower = {"hidden_size": 96, "intermediate_size": 384, "num_attention_heads": 3, "projection_dim": 64}
    CLIPModel(CLIPConfig(
        vision_config=tower | {"num_hidden_layers": 4, "image_size": 48, "patch_size": 6},
        text_config=tower | {"num_hidden_layers": 3, "vocab_size": 512, "max_position_embeddings": 24,
                             "bos_token_id": 510, "eos_token_id": 511, "pad_token_id": 511},
        projection_dim=64)).save_pretrained(folder)
    ids = torch.randint(0, 510, (256, 24))
    ids[:, 0], ids[:, -1] = 510, 511  # full, as above
    save_file({"pixels": torch.randn(256, 48, 48, 3), "ids": ids}, folder / "inputs.safetensors")


def prepare(folder):
    """Writes the checkpoint, the inputs, and what ONNX Runtime and OpenVINO read."""
    import nncf
    import onnx
    import openvino as ov
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from safetensors.torch import save_file
    from transformers import CLIPConfig, CLIPModel

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    config = CLIPConfig()  # whose defaults are ViT-B/32
    CLIPModel(config).save_pretrained(folder)
    v, t = config.vision_config, config.text_config
    end = t.vocab_size - 1
    ids = torch.randint(0, end - 1, (64, t.max_position_embeddings))
    ids[:, 0], ids[:, -1] = end - 1, end  # full: nobody gains by leaving padding out
    pixels = torch.randn(64, v.image_size, v.image_size, 3)
    save_file({"pixels": pixels, "ids": ids}, folder / "inputs.safetensors")

    for what in HALVES:
        print(f"exporting {what}", flush=True)
        x = load_inputs(folder, what, 8)
        module = encoder(folder, what)
        path = folder / f"{what}.onnx"
        torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},),
                          verbose=False)
        graph = onnx.load(path)
        del graph.graph.value_info[:]  # whose shapes are of weights that are stored transposed by now
        quantize_dynamic(graph, folder / f"{what}.int8.onnx", weight_type=QuantType.QInt8, per_channel=True,
                         op_types_to_quantize=["MatMul", "Gemm"])
        model = ov.convert_model(module, example_input=x)
        ov.save_model(model, folder / f"{what}.xml", compress_to_fp16=False)
        data = nncf.Dataset(list(load_inputs(folder, what, 64).split(1)), lambda one: one.numpy())
        ov.save_model(nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=64),
                      folder / f"{what}.int8.xml")


# --- The contenders: make_… returns a function without arguments that gives the embeddings ------------------------


def make_torch(folder, what, x, *, bf16=False, autocast=False, compiled=False, quantised=False):
    import torch

    module = encoder(folder, what)
    if bf16:
        module = module.to(torch.bfloat16)
        x = x.to(torch.bfloat16) if x.is_floating_point() else x
    if quantised:
        module = torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)
    if compiled:
        import torch._inductor.config

        torch._inductor.config.freezing = True  # weights are packed once, as it is advised for inference on CPUs
        module = torch.compile(module)

    def run():
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return module(x)

    # What is frozen while it is compiled must not be an inference tensor.
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        module(x)
    return lambda: run().float().numpy()


def make_torch_step(folder, count, compiled=False):
    """A step; `first` gives the gradients of the positions, as bench_clip_moe leaves them."""
    import torch
    from transformers import CLIPModel

    clip = CLIPModel.from_pretrained(folder, attn_implementation="sdpa").train()
    optimizer = torch.optim.AdamW(clip.parameters(), lr=1e-4, weight_decay=0, fused=True)
    pixels, ids = load_inputs(folder, "images", count), load_inputs(folder, "texts", count)
    model = torch.compile(clip) if compiled else clip

    def loss():
        return model(input_ids=ids, pixel_values=pixels, return_loss=True).loss

    def first():
        loss().backward()
        tables = [tower.embeddings.position_embedding.weight.grad for tower in (clip.vision_model, clip.text_model)]
        z = torch.cat(tables).numpy().copy()
        optimizer.zero_grad()
        return z

    def run():
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return first, run


def make_onnxruntime(path, x, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_free_dimension_override_by_name("batch", x.shape[0])
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, feed)[0]


def make_openvino(path, x, threads, precision):
    import openvino as ov

    core = ov.Core()
    model = core.read_model(path)
    model.reshape(list(x.shape))
    # The precision must be said: on a CPU with bf16 arithmetic it is bf16 otherwise.
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
                                                 "INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": 1})
    request = compiled.create_infer_request()
    values = x.numpy()
    return lambda: request.infer({0: values}, share_inputs=True, share_outputs=True)[0]


def make_contenders(folder, what, fmt, x, threads):
    """Name -> function that makes it."""
    torch_ = lambda **how: lambda: make_torch(folder, what, x, **how)
    ort_ = lambda name: lambda: make_onnxruntime(folder / f"{what}{name}.onnx", x, threads)
    openvino_ = lambda name, hint: lambda: make_openvino(folder / f"{what}{name}.xml", x, threads, hint)
    return {
        "fp32": {"torch eager": torch_(), "torch compile": torch_(compiled=True), "onnxruntime": ort_(""),
                 "openvino": openvino_("", "f32")},
        "bf16": {"torch eager": torch_(bf16=True), "torch autocast": torch_(autocast=True),
                 "torch compile": torch_(bf16=True, compiled=True), "openvino": openvino_("", "bf16")},
        "int8": {"torch dynamic": torch_(quantised=True), "onnxruntime dynamic": ort_(".int8"),
                 "openvino nncf": openvino_(".int8", "f32"), "openvino nncf bf16": openvino_(".int8", "bf16")},
    }[fmt]


# --- Measuring ----------------------------------------------------------------------------------------------------


class Gatefold:
    """A turn is a run of the benchmark program, which takes the best of its own calls."""

    def __init__(self, bench, folder, what, count, fmt, threads):
        self.case = (f"clip_step/all/pairs:{count}/threads:{threads}" if what == "step" else
                     f"clip_{what}/{fmt}/{what}:{count}/threads:{threads}")
        self.folder = folder / "gatefold"
        self.folder.mkdir(exist_ok=True)
        self.command = [bench / ("bench_clip_moe" if what == "step" else "bench_clip"),
                        f"--benchmark_filter=^{self.case}/gatefold", "--benchmark_format=json",
                        "--benchmark_min_time=0.05"]
        self.environment = os.environ | {"GATEFOLD_CLIP_DIR": str(folder), "GATEFOLD_CLIP_EMBEDDINGS": str(self.folder)}

    def turn(self):
        done = subprocess.run(self.command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{self.command[0]} failed:\n{done.stderr}{done.stdout}")
        (row,) = json.loads(done.stdout)["benchmarks"]
        if row.get("error_occurred"):
            raise RuntimeError(row["error_message"])
        self.label = f"{100 * row['share']:.0f} % {row['label']}"
        return row["real_time"] * 1e-6

    def embeddings(self):
        from safetensors.numpy import load_file

        return load_file(self.folder / (self.case.replace("/", "_") + ".safetensors"))["z"]


def compare(z, expected):
    """Largest relative error and smallest cosine of all embeddings."""
    import numpy as np

    z, expected = np.asarray(z, np.float64), np.asarray(expected, np.float64)
    norm = lambda a: np.linalg.norm(a, axis=-1)
    return float((norm(z - expected) / norm(expected)).max()), float(
        ((z * expected).sum(-1) / norm(z) / norm(expected)).min())


def measure(a, folder, case, fmt):
    """One case in one format; returns a row for each contender."""
    import torch

    what, count, threads = parse_case(case)
    torch.set_num_threads(threads)
    if what == "step":
        expected = make_torch_step(folder, count)[0]()
        contenders = {"torch eager": lambda: make_torch_step(folder, count),
                      "torch compile": lambda: make_torch_step(folder, count, compiled=True)}
    else:
        x = load_inputs(folder, what, count)
        expected = make_torch(folder, what, x)()
        contenders = {name: lambda make=make: (make(),) * 2
                      for name, make in make_contenders(folder, what, fmt, x, threads).items()}
    wanted = lambda name: not a.only or any(name.startswith(only) for only in a.only)
    rows, players = {}, {}
    for name, make in contenders.items():
        if not wanted(name):
            continue
        try:
            start = time.perf_counter()
            first, run = make()
            error, cosine = compare(first(), expected)
        except Exception as fault:  # what a version cannot do is a result as well
            print(f"  {name}: no answer: {type(fault).__name__}: {str(fault).splitlines()[0][:200]}", flush=True)
            continue
        print(f"  {name}: relative error {error:.1e}, cosine {cosine:.6f}; ready in "
              f"{time.perf_counter() - start:.1f} s", flush=True)
        rows[name], players[name] = {"error": error, "cosine": cosine, "seconds": float("inf")}, run
    ours = Gatefold(a.bench, folder, what, count, fmt, threads) if wanted("gatefold") else None
    gc.disable()
    deadline = time.perf_counter() + a.seconds
    rounds = 0
    while rounds == 0 or time.perf_counter() < deadline:
        for name, run in players.items():
            time.sleep(0.1)  # until the threads of the last one sleep
            start = time.perf_counter()
            run()
            calls = max(1, int(0.2 / (time.perf_counter() - start)))
            for _ in range(calls):
                start = time.perf_counter()
                run()
                rows[name]["seconds"] = min(rows[name]["seconds"], time.perf_counter() - start)
        if ours:
            time.sleep(0.1)
            seconds = ours.turn()
            row = rows.setdefault("gatefold", {"seconds": seconds})
            row["seconds"] = min(row["seconds"], seconds)
            row["share"] = ours.label
        rounds += 1
    if ours:
        error, cosine = compare(ours.embeddings(), expected)
        rows["gatefold"] |= {"error": error, "cosine": cosine}
        print(f"  gatefold: relative error {error:.1e}, cosine {cosine:.6f}")
    for name, row in rows.items():
        row["agrees"] = row["error"] <= TOLERANCE[fmt]
        print(f"  {name}: {1e3 * row['seconds']:.2f} ms" + ("" if row["agrees"] else ", but other embeddings"),
              flush=True)
    return rows


# --- The table ----------------------------------------------------------------------------------------------------


def read_results(out):
    path = out / "clip.json"
    return json.loads(path.read_text()) if path.exists() else {"cases": {}}


def merge(results, case, fmt, rows):
    known = results["cases"].setdefault(case, {}).setdefault(fmt, {})
    for name, row in rows.items():
        before = known.get(name, {})
        known[name] = row if row["seconds"] <= before.get("seconds", float("inf")) else before | {"error": row["error"]}


def markdown(results):
    lines = ["# CLIP ViT-B/32 against Python packages", "",
             f"{results['machine']}. {', '.join(f'{k} {v}' for k, v in results['versions'].items())}. "
             "Milliseconds, the best of many calls, by turns; in brackets their time divided by ours. "
             "Who is struck through gives other embeddings.", ""]
    for fmt in FORMATS:
        cases = {case: results["cases"][case][fmt] for case in CASES if fmt in results["cases"].get(case, {})}
        names = list(dict.fromkeys(name for rows in cases.values() for name in rows if name != "gatefold"))
        if not cases:
            continue
        lines += [f"| {fmt} | gatefold | share of the ceiling | " + " | ".join(names) + " | fastest peer / ours |",
                  "|---" * (len(names) + 4) + "|"]
        for case, rows in cases.items():
            own = rows.get("gatefold")
            cells = []
            for name in names:
                row = rows.get(name)
                text = "" if not row else f"{1e3 * row['seconds']:.2f}"
                if row and own:
                    text += f" ({row['seconds'] / own['seconds']:.2f})"
                cells.append(text if not row or row["agrees"] else f"~~{text}~~")
            best = min((row["seconds"] for name, row in rows.items() if name != "gatefold" and row["agrees"]),
                       default=None)
            ratio = f"**{best / own['seconds']:.2f}**" if best and own else ""
            if ratio and (fmt, case) in GOALS:
                ratio += f" (goal {GOALS[fmt, case]})"
            mine = [f"{1e3 * own['seconds']:.2f}", own["share"]] if own else ["", ""]
            lines.append("| " + " | ".join([case, *mine, *cells, ratio]) + " |")
        lines.append("")
    return "\n".join(lines)


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(': ')[1]}, {os.cpu_count()} CPUs"
    return platform.processor()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="only write the checkpoint and what is exported from it")
    parser.add_argument("--case", choices=CASES, action="append", metavar="CASE", help="one of " + ", ".join(CASES))
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="contenders whose names begin so: gatefold, torch, "
                        "onnxruntime, openvino; all if not given")
    parser.add_argument("--seconds", type=float, default=10, help="for the turns of a case in a format (%(default)s)")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "build/bench/bench",
                        help="folder of gatefold's programs (%(default)s)")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "build/bench/clip",
                        help="for the checkpoint, about 4 GB (%(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench",
                        help="folder of clip.json and clip.md (%(default)s)")
    return parser.parse_args()


def versions(packages):
    found, missing = {}, []
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            missing.append(package)
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; install with\n  {sys.executable} -m pip install {' '.join(missing)}")
    return found


def main():
    a = arguments()
    cases, formats = a.case or CASES, a.format or FORMATS
    steps_only = not a.prepare and all(case.startswith("step") for case in cases)
    found = versions(PACKAGES_OF_STEP if steps_only else PACKAGES)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    if not a.bench.exists():
        sys.exit(f"{a.bench} does not exist; «bash bench/run.sh» builds it, or name another one with --bench")
    folder = a.folder.resolve()
    print(", ".join(f"{k} {v}" for k, v in found.items()), flush=True)
    if not steps_only and (a.prepare or not (folder / "texts.int8.xml").exists()):
        prepare(folder)
    if not (folder / "tiny" / "inputs.safetensors").exists():
        prepare_step(folder / "tiny")
    if a.prepare:
        return
    if len(cases) * len(formats) > 1:  # threads are set when a library is loaded
        rest = ["--seconds", str(a.seconds), "--bench", a.bench, "--folder", a.folder, "--out", a.out]
        for case in cases:
            for fmt in formats if not case.startswith("step") else ["fp32"]:
                subprocess.run([sys.executable, __file__, "--case", case, "--format", fmt, *rest] +
                               (["--only", *a.only] if a.only else []), check=True)
        print((a.out / "clip.md").read_text())
        return
    (case,), (fmt,) = cases, formats
    print(f"{case} {fmt}", flush=True)
    os.environ["OMP_NUM_THREADS"] = str(parse_case(case)[2])
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
    rows = measure(a, folder / "tiny" if case.startswith("step") else folder, case, fmt)
    results = read_results(a.out) | {"machine": machine(), "versions": found}
    merge(results, case, fmt, rows)
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "clip.json").write_text(json.dumps(results, indent=1) + "\n")
    (a.out / "clip.md").write_text(markdown(results) + "\n")


if __name__ == "__main__":
    main()
