#!/usr/bin/env python3
"""The forward pass of a mixture on this CPU: gatefold against the fused experts of what comes as Python packages. One
set of weights, tokens and choices for all; before a row is timed the outputs of each are compared with float64; then
all take turns, and the best calls of each count.

    bash bench/peers/install_peers.sh            # the packages, each in an environment of its own; 23 GB
    cmake --build build/bench --target bench_moe     # configured as bench/run.sh does it
    python3 bench/peers/moe_peers.py                 # everything; writes build/bench/moe.md and moe.json

Needs numpy, which the environments have: build/bench/venv-torch/bin/python does as well as python3. What is not
installed is left out, in words. Parts of it, which replace their rows in moe.json:

    python3 bench/peers/moe_peers.py --format bf16 --threads 2 --case swiglu/experts:32
    python3 bench/peers/moe_peers.py --format int8 --only gatefold zentorch --tokens 64
    python3 bench/peers/moe_peers.py --quick         # shows that it works
"""
import argparse
import json
import os
import pathlib
import platform
import select
import signal
import statistics
import subprocess
import sys
import time

try:
    import numpy as np

    import moe_case
    from moe_case import Case
except ModuleNotFoundError as fault:
    sys.exit(f"{sys.executable} has no {fault.name}; take another python3, or the one that «bash "
             "bench/peers/install_peers.sh» leaves in build/bench/venv-torch/bin/python")

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FORMATS = ["fp32", "bf16", "int8", "int4"]
# Fine-grained experts are narrow: so the fp32 weights of all contenders together stay below 6 GB.
CASES = [Case(activation, *sizes) for activation in ("swiglu", "gelu")
         for sizes in ((8, 2), (32, 2), (128, 8, 1024, 512))]
QUICK_CASES = [Case("swiglu", 8, 2, 256, 512, 64), Case("gelu", 8, 2, 256, 512, 64)]
# Row -> tokens, windows, passes of a turn, rounds. Windows come one after the other, so that a window of few tokens
# finds other experts in the caches than its own; a single window of one token finds its own.
ROWS = {"1 cached": (1, 1, 30, 4), "1": (1, 16, 3, 4), "4": (4, 16, 2, 4), "16": (16, 8, 2, 4), "64": (64, 4, 2, 4),
        "512": (512, 4, 1, 3), "2048": (2048, 1, 1, 4)}
QUICK_ROWS = {"1": (1, 4, 1, 1), "16": (16, 2, 1, 1)}
# Library -> environment, formats. Activations that it has not are its own answer.
LIBRARIES = {
    "torch": ("venv-torch", "fp32 bf16"),
    "vllm vec": ("venv-vllm", "fp32 bf16"),
    "vllm sgl": ("venv-vllm", "bf16 int8"),
    "zentorch": ("venv-zentorch", "fp32 bf16 int8"),
    "onnxruntime": ("venv-zentorch", "fp32 int8 int4"),
    "kt llamafile": ("venv-kt", "fp32 bf16 int8 int4"),
    "kt amx": ("venv-kt", "bf16 int8 int4"),
    "kt amx groups": ("venv-kt", "int4"),
}
# Largest |y - y'| / |y| of a token to pass for the same mixture. fp32 differs by rounding alone. bf16 rounds rows,
# hidden units and outputs, int8 and int4 round weights, some of them to one scale for a whole row, and rows to int8.
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "int8": 5e-2, "int4": 3e-1}
# What the manuals of vLLM and zentorch advise, by glibc alone: large pages, and freed memory kept. Ours comes as it is.
PEERS_ENVIRONMENT = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:"
                      "glibc.malloc.trim_threshold=4294967296",
}


# --- Contenders -------------------------------------------------------------------------------------------------------


def cores():
    """One CPU of each core that is ours."""
    mine, found, seen = sorted(os.sched_getaffinity(0)), [], set()
    for cpu in mine:
        siblings = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text() if siblings.exists() else str(cpu)
        if core not in seen:
            seen.add(core)
            found.append(cpu)
    return found


class Process:
    """Contenders that share weights: gatefold's program, or moe_turns.py in a library's environment. It is stopped
    while it is not its turn."""

    def __init__(self, a, library, case, path, fmt, threads):
        self.library = library
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        count = threads
        if library == "gatefold":
            command = [a.bench, path, case.activation, fmt, str(threads)]
        else:
            python = a.environments / LIBRARIES[library][0] / "bin" / "python"
            if not python.exists():
                raise RuntimeError(f"not installed: no {python}")
            command = [python, HERE / "moe_turns.py", library, path, case.activation, fmt, str(threads)]
            environment |= PEERS_ENVIRONMENT
            if library.startswith("kt"):
                count += 1  # its threads wait for each other beside the caller's
            elif threads > 1:
                environment |= {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}
        cpus = cores()[-count:]
        self.log = a.out / "moe" / (library.replace(" ", "-") + ".log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(list(map(str, command)), env=environment, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=log, bufsize=0, preexec_fn=lambda: (
                                                os.sched_setaffinity(0, cpus), die_with_parent()))
        try:
            ready = self.read(a.patience)
        except BaseException:
            self.end()
            raise
        self.stop()
        self.versions, _, names = ready.removeprefix("ready ").partition("; ")
        self.names = names.split(", ") if names else ["experts", "layer"]

    def read(self, seconds):
        """A line; RuntimeError with its reason instead of an error."""
        line = b""
        deadline = time.monotonic() + seconds
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise RuntimeError(f"no answer in {seconds:.0f} s")
            some = os.read(self.process.stdout.fileno(), 65536)
            if not some:
                status = self.process.wait()
                how = f"ended by signal {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
                said = self.log.read_text(errors="replace").strip().splitlines()
                raise RuntimeError(how + (f": {said[-1][:200]}" if said else ""))
            line += some
        line = line.decode().strip()
        if line.startswith("error "):
            raise RuntimeError(line.removeprefix("error ")[:300])
        return line

    def ask(self, *words):
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(("\t".join(map(str, words)) + "\n").encode())
            return self.read(600)
        except BrokenPipeError:
            raise RuntimeError("it has ended") from None
        finally:
            self.stop()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def die_with_parent():
    """A process that is stopped would outlive a driver that is killed."""
    import ctypes

    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


# --- Measuring --------------------------------------------------------------------------------------------------------


def largest_error(y, expected):
    norm = lambda v: np.linalg.norm(v, axis=-1)
    return float((norm(y.astype(np.float64) - expected) / norm(expected)).max())


def foreign_ticks(processes):
    """What the CPUs worked for others than these processes, and what passed; in clock ticks."""
    user, nice, system, _, _, irq, soft, *_ = map(int, open("/proc/stat").readline().split()[1:])
    for pid in [os.getpid(), *(p.process.pid for p in processes)]:
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
        except FileNotFoundError:
            continue
        user -= int(fields[11]) + int(fields[12])
    return user + nice + system + irq + soft, time.monotonic() * os.sysconf("SC_CLK_TCK")


def measure_row(a, case, expected, fmt, players, shape, left_out):
    """players: [(name, process, what it calls it)]; who fails is taken off the list, but we must not.
    Returns name -> result, and the CPUs that were busy for others."""
    n, windows, passes, rounds = shape
    rows, scratch = {}, a.out / "moe" / "y.bin"

    def fail(player, fault):
        name, process, _ = player
        if process.library == "gatefold":
            sys.exit(f"{a.bench}, {name} of {n} tokens: {fault}")
        print(f"  from {n} tokens on without {name}: {fault}", flush=True)
        left_out[name] = f"from {n} tokens on: {fault}"
        players.remove(player)
        rows.pop(name, None)

    for player in list(players):
        name, process, own = player
        try:
            process.ask("out", own, n, scratch)
            error = largest_error(np.fromfile(scratch, np.float32).reshape(n, case.width), expected[:n])
            process.ask("turn", own, n, windows if n < 512 else 1, 1)  # finds its memory, its threads and its code
        except RuntimeError as fault:
            fail(player, fault)
            continue
        # A NaN agrees with nobody.
        rows[name] = {"error": error, "agrees": error <= TOLERANCE[fmt], "windows": [float("inf")] * windows}
    scratch.unlink(missing_ok=True)
    spent = dict.fromkeys(rows, 0.0)
    before = foreign_ticks([p for _, p, _ in players])
    for r in range(rounds):
        for player in list(players if r % 2 == 0 else players[::-1]):
            name, process, own = player
            if r >= 2 and spent[name] > a.seconds:
                continue
            time.sleep(0.02)  # until the last one's threads stand still
            start = time.monotonic()
            try:
                times = map(float, process.ask("turn", own, n, windows, passes).split())
            except RuntimeError as fault:
                fail(player, fault)
                continue
            spent[name] += time.monotonic() - start
            rows[name]["windows"] = [min(pair) for pair in zip(rows[name]["windows"], times)]
    after = foreign_ticks([p for _, p, _ in players])
    for row in rows.values():
        row["seconds"] = statistics.mean(row.pop("windows"))
    return rows, max(0.0, (after[0] - before[0]) / (after[1] - before[1]))


def measure(a, case, path, fmt, threads, shapes, results):
    key = f"{fmt}/threads:{threads}/{case.name}"
    wanted = lambda name: not a.only or any(name.startswith(only) for only in a.only)
    left_out, processes, players = {}, [], []
    expected = moe_case.load(path)["y"]
    try:
        for library in ["gatefold", *(each for each, (_, formats) in LIBRARIES.items() if fmt in formats.split())]:
            if not wanted(library):
                continue
            try:
                process = Process(a, library, case, path, fmt, threads)
            except RuntimeError as fault:
                if library == "gatefold":
                    sys.exit(f"{a.bench}: {fault}")
                left_out[library] = str(fault)
                continue
            processes.append(process)
            ours = library == "gatefold"
            players += [(f"gatefold {name}" if ours else name, process, name) for name in process.names]
            results["versions"][library] = process.versions
        for name, why in left_out.items():
            print(f"  {key}: without {name}: {why}", flush=True)
        known = results["cases"].setdefault(key, {"rows": {}})
        known["left out"] = left_out
        for row, shape in shapes.items():
            rows, foreign = measure_row(a, case, expected, fmt, players, shape, left_out)
            known["rows"][row] = {"contenders": rows, "foreign": foreign}
            print(f"  {key} tokens {row}: " + ", ".join(
                f"{name} {1e3 * r['seconds']:.3f} ms, error {r['error']:.1e}{'' if r['agrees'] else ' (other outputs)'}"
                for name, r in rows.items()) + f"; {foreign:.2f} CPUs busy for others", flush=True)
    finally:
        for process in processes:
            process.end()


# --- The table --------------------------------------------------------------------------------------------------------


def ratio(row):
    """The fastest peer that gives the same outputs: its name, and its time divided by ours."""
    all_ = row["contenders"]
    peers = {name: r["seconds"] for name, r in all_.items() if not name.startswith("gatefold") and r["agrees"]}
    own = all_.get("gatefold experts")
    if not peers or not own or not own["agrees"]:
        return None
    best = min(peers, key=peers.get)
    return best, peers[best] / own["seconds"]


def split(key):
    fmt, threads, *case = key.split("/")
    return fmt, int(threads.split(":")[1]), "/".join(case)


def verdicts(results):
    """Goals as bench/report/goals.hpp has them: what, least, wanted, measured, worst row, verdict."""
    ratios, shares, microseconds = {}, [], []
    for key, known in results["cases"].items():
        for tokens, row in known["rows"].items():
            place = f"{key}/tokens:{tokens}"
            if r := ratio(row):
                ratios.setdefault(split(key)[0], []).append((r[1], f"{place}, {r[0]}"))
            if {"gatefold experts", "gatefold layer"} <= row["contenders"].keys():
                own, layer = (row["contenders"][f"gatefold {name}"]["seconds"] for name in ("experts", "layer"))
                if tokens == "1 cached":
                    microseconds.append((1e6 * (layer - own), place))
                elif int(tokens.split()[0]) >= 64:
                    shares.append((100 * (layer / own - 1), place))
    goals = []

    def judge(what, bound, value, place, less=False):
        if value is None:
            return goals.append((what, f"{bound:g}", "", "", "not measured"))
        holds = value <= bound if less else value >= bound
        goals.append((what, f"{bound:g}", f"{value:.2f}", place, "met" if holds else "**missed**"))

    for fmt in FORMATS:
        some = sorted(ratios.get(fmt, []))
        worst = some[0] if some else (None, "")
        judge(f"{fmt}, every row, against the best peer", 2 if fmt == "int4" else 1, *worst)
        if fmt != "int4":
            judge(f"{fmt}, median of its rows, against the best peer", 1.1,
                  statistics.median(r for r, _ in some) if some else None, f"of {len(some)} rows")
    judge("the layer beyond its experts, 64 tokens and more, percent", 3,
          *max(shares, default=(None, "")), less=True)
    judge("the layer beyond its experts, 1 token cached, microseconds", 2, *max(microseconds, default=(None, "")),
          less=True)
    return goals


def milliseconds(seconds):
    return f"{1e3 * seconds:.3f}" if seconds < 0.01 else f"{1e3 * seconds:.1f}"


def markdown(results):
    lines = ["# A mixture's forward pass against Python packages", "",
             f"{results['machine']}. " + "; ".join(f"{k}: {v}" for k, v in results["versions"].items()) + ".", "",
             "Milliseconds: of each window of tokens the best call, and the mean of the windows; by turns. "
             "«experts» begins with ids and weights, as the peers' calls do; «layer» has the router as well. Last: the "
             "fastest peer's time divided by that of our experts, above 1 we are faster. Who is struck through gives "
             "other outputs (|y - y'| / |y| of a token above " +
             ", ".join(f"{bound:g} in {fmt}" for fmt, bound in TOLERANCE.items()) + "). «Others»: CPUs that somebody "
             "else kept busy meanwhile.", "", "| goal | wanted | measured | where | |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(goal) + " |" for goal in verdicts(results)] + [""]
    tables = sorted({split(key)[:2] for key in results["cases"]}, key=lambda t: (FORMATS.index(t[0]), t[1]))
    for fmt, threads in tables:
        cases = {split(key)[2]: known for key, known in results["cases"].items() if split(key)[:2] == (fmt, threads)}
        names = list(dict.fromkeys(name for known in cases.values() for row in known["rows"].values()
                                   for name in row["contenders"]))
        lines += [f"## {fmt}, {threads} thread{'s' if threads > 1 else ''}", "",
                  "| case | tokens | " + " | ".join(names) + " | best peer / experts | others |",
                  "|---" * (len(names) + 4) + "|"]
        ratios = []
        for case, known in cases.items():
            for tokens, row in known["rows"].items():
                cells = []
                for name in names:
                    r = row["contenders"].get(name)
                    text = milliseconds(r["seconds"]) if r else ""
                    cells.append(text if not r or r["agrees"] else f"~~{text}~~")
                best = ratio(row)
                if best:
                    ratios.append((best[1], f"{case}/tokens:{tokens}, {best[0]}"))
                lines.append("| " + " | ".join([case, tokens, *cells, f"**{best[1]:.2f}** {best[0]}" if best else "",
                                                f"{row['foreign']:.2f}"]) + " |")
        if ratios:
            lines += ["", f"Worst row {min(ratios)[0]:.2f}: {min(ratios)[1]}; median "
                      f"{statistics.median(r for r, _ in ratios):.2f} of {len(ratios)} rows."]
        left_out = {}
        for case, known in cases.items():
            for name, why in known["left out"].items():
                left_out.setdefault(f"{name}: {why}", []).append(case)
        if left_out:
            lines += ["", "Left out:"] + [f"- {what} ({', '.join(where)})" for what, where in left_out.items()]
        lines.append("")
    return "\n".join(lines)


def machine():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{line.split(': ')[1]}, {len(cores())} cores"
    return platform.processor()


# --- The command ------------------------------------------------------------------------------------------------------


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", metavar="CASE", help="those whose names begin so: " +
                        ", ".join(case.name for case in CASES))
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--threads", type=int, action="append", help="1 and 2 if not given")
    parser.add_argument("--tokens", choices=ROWS, action="append")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="libraries whose names begin so: gatefold, " +
                        ", ".join(LIBRARIES))
    parser.add_argument("--seconds", type=float, default=8, help="after which a contender has no further turn in a "
                        "row, but it has two (%(default)s)")
    parser.add_argument("--patience", type=float, default=300, help="seconds for a library to start (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="small cases, one turn: shows that it works")
    parser.add_argument("--bench", type=pathlib.Path, default=ROOT / "build/bench/bench/bench_moe",
                        help="gatefold's program (%(default)s)")
    parser.add_argument("--environments", type=pathlib.Path, default=ROOT / "build/bench",
                        help="folder of " + ", ".join(sorted({e for e, _ in LIBRARIES.values()})) + " (%(default)s)")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/bench",
                        help="folder of moe.json, moe.md and the cases, 4 GB (%(default)s)")
    a = parser.parse_args()
    a.bench, a.environments, a.out = (path.absolute() for path in (a.bench, a.environments, a.out))
    if not a.bench.exists():
        sys.exit(f"{a.bench} does not exist; «cmake --build build/bench --target bench_moe» builds it after «bash "
                 "bench/run.sh --quick», or name another one with --bench")
    return a


def main():
    a = arguments()
    missing = sorted({env for env, _ in LIBRARIES.values() if not (a.environments / env / "bin/python").exists()})
    if missing:
        print(f"not installed in {a.environments}: {', '.join(missing)}; «bash bench/peers/install_peers.sh» "
              "installs them", flush=True)
    (a.out / "moe").mkdir(parents=True, exist_ok=True)
    # What shows only that it works must not be taken for figures.
    out = a.out / ("moe_quick" if a.quick else "moe")
    results = {"versions": {}, "cases": {}}
    if out.with_suffix(".json").exists() and not a.quick:
        results = json.loads(out.with_suffix(".json").read_text())
    results["machine"] = machine()
    cases = [case for case in (QUICK_CASES if a.quick else CASES)
             if not a.case or any(case.name.startswith(begin) for begin in a.case)]
    shapes = {row: shape for row, shape in (QUICK_ROWS if a.quick else ROWS).items()
              if not a.tokens or row in a.tokens}
    if not cases or not shapes:
        sys.exit(f"no case begins with {a.case}, or no row is one of {a.tokens}")
    for case in cases:
        path = a.out / "moe" / (case.name.replace("/", "_").replace(":", "") + ".safetensors")
        if a.quick or not path.exists():
            print(f"writing {path.name}", flush=True)
            moe_case.write(case, path)
        # A quick look at each library once: GELU and the second thread in fp32 alone.
        gelu = a.quick and case.activation == "gelu"
        for fmt in a.format or (["fp32"] if gelu else FORMATS):
            for threads in a.threads or ([2] if gelu else [1] if a.quick else [1, 2]):
                if threads > len(cores()):
                    print(f"  {case.name}: {threads} threads left out: there are {len(cores())} cores", flush=True)
                    continue
                measure(a, case, path, fmt, threads, shapes, results)
                out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
                out.with_suffix(".md").write_text(markdown(results) + "\n")
    if not results["cases"]:
        sys.exit("nothing was measured")
    print("\n" + out.with_suffix(".md").read_text())
    wrong = [f"{key}/tokens:{row}, {name}: {r['error']:.1e}" for key, known in results["cases"].items()
             for row, each in known["rows"].items() for name, r in each["contenders"].items()
             if name.startswith("gatefold") and not r["agrees"]]
    if wrong:
        sys.exit("gatefold's outputs differ from float64 by more than the tolerance:\n" + "\n".join(wrong))


if __name__ == "__main__":
    main()
