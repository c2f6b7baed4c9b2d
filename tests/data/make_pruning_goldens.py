#!/usr/bin/env python3
"""Writes pruning_goldens.txt: which weights the published pruners keep of small random matrices.

Made with Python 3.11 and NumPy 2.4.6, nothing else:
    python3 -m venv venv && venv/bin/pip install numpy==2.4.6 && venv/bin/python make_pruning_goldens.py > pruning_goldens.txt

An implementation in NumPy, in double, of what these do, array by array as they do it (PyTorch itself is not asked):
    magnitude, Wanda, SparseGPT    github.com/locuslab/wanda at 069ac97 (lib/prune.py, lib/sparsegpt.py, lib/layerwrapper.py)
    DSnoT                          github.com/zyxxmu/DSnoT at dd4e2ee (lib/prune.py, lib/layerwrapper.py)
Each row of x is a sample of one token. Where the originals keep what is above the score at place int(share * count),
which is one weight fewer than the share (and, of equal scores, any number), exactly int(share * count) go here. DSnoT
runs with and without its rule that the error keeps its sign, and no further than its lists of candidates last (an
assertion), behind which the original takes weights that are kept already.

Values come from a hash that the test computes as well. A line: name, then the mask (1: stays) row by row, then the
weights that stay where they change.
"""
import numpy as np

N, K, R = 6, 40, 50


def drawn(which, count):
    """Uniform in [-1, 1), a multiple of 2^-19: SplitMix64."""
    z = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(which << 32)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z >> np.uint64(44)).astype(np.float64) / 2.0**19 - 1


W = drawn(1, N * K).reshape(N, K)
X = drawn(2, R * K).reshape(R, K) * (1 + drawn(3, K)) + 0.3 * drawn(4, K)
X = X.astype(np.float32).astype(np.float64)


def lowest(score, count):
    """1 where the score stays, row by row."""
    mask = np.ones_like(score)
    np.put_along_axis(mask, np.argsort(score, axis=1, kind="stable")[:, :count], 0, axis=1)
    return mask


def n_of_m(score, n, m):
    """n of each m go."""
    return np.concatenate([lowest(score[:, j : j + m], n) for j in range(0, score.shape[1], m)], axis=1)


def tensor_wide(score, count):
    return lowest(score.reshape(1, -1), count).reshape(score.shape)


def sparsegpt(w, share=None, nm=None, block=128, damping=0.01):
    w, h = w.copy(), 2 / R * X.T @ X
    dead = np.diag(h) == 0
    h[dead, dead] = 1
    w[:, dead] = 0
    h += damping * np.diag(h).mean() * np.eye(K)
    inverse = np.linalg.inv(h)
    u = np.linalg.cholesky((inverse + inverse.T) / 2).T  # upper: inverse = u' u
    out, mask = np.zeros_like(w), np.ones_like(w)
    for i1 in range(0, K, block):
        i2 = min(i1 + block, K)
        w1, u1, err = w[:, i1:i2].copy(), u[i1:i2, i1:i2], np.zeros((N, i2 - i1))
        score = lambda a, b: w1[:, a:b] ** 2 / np.diag(u1)[a:b] ** 2
        m1 = np.ones_like(w1) if nm else tensor_wide(score(0, i2 - i1), int(w1.size * share))
        for i in range(i2 - i1):
            if nm and i % nm[1] == 0:
                m1[:, i : i + nm[1]] = lowest(score(i, i + nm[1]), nm[0])
            q = w1[:, i] * m1[:, i]
            err[:, i] = (w1[:, i] - q) / u1[i, i]
            w1[:, i:] -= np.outer(err[:, i], u1[i, i:])
            out[:, i1 + i] = q
        mask[:, i1:i2] = m1
        w[:, i2:] -= err @ u[i1:i2, i2:]
    return mask, out


def dsnot(w, score, share=None, nm=None, cycles=1, threshold=0.002, same_sign=False):
    d = w * X.mean(axis=0)
    variance, size = X.var(axis=0), np.abs(w) * np.sqrt((X**2).mean(axis=0))
    mask = n_of_m(score, *nm) if nm else lowest(score, int(K * share))
    score, size = score.copy(), size.copy()
    error = (d * (1 - mask)).sum(axis=1)
    sign = np.sign(error)
    grow = np.argsort(d * (1 - mask) / variance, axis=1, kind="stable")
    at = np.tile([0, K - 1], (N, 1))
    score[mask == 0] = np.inf
    size[mask == 0] = np.inf
    top = score.copy()
    top = np.where(np.isinf(top), -1, top).max(axis=1) + 1
    removed = (1 - mask).astype(bool)
    going = np.ones(N, bool)
    swaps = 0
    # Kept ones from the lowest on, by the sign of d.
    kept = np.argsort(size, axis=1, kind="stable")[:, : int(mask[0].sum())]
    signed = [[[j for j in kept[n] if s * d[n, j] > 0] for s in (-1, 1)] for n in range(N)]
    next_signed = np.zeros((N, 2), int)
    for _ in range(cycles):
        for n in range(N):
            if not going[n]:
                continue
            side = int(error[n] > 0)
            j = grow[n, at[n, side]]
            assert not mask[n, j], "the candidates to grow are used up"
            at[n, side] += 1 - 2 * side
            if nm:
                g = j - j % nm[1]
                cut = g + int(np.argmin(score[n, g : g + nm[1]]))
                assert score[n, cut] < top[n], "the group has none left to prune"
                score[n, cut] = top[n]
            else:
                list_ = 0 if error[n] > 0 else 1
                cut = signed[n][list_][next_signed[n, list_]]
                next_signed[n, list_] += 1
            after = error[n] + d[n, cut] - d[n, j]
            ok = abs(error[n]) > threshold and (not same_sign or sign[n] == np.sign(after))
            if not ok:
                going[n] = False
                continue
            removed[n, cut], removed[n, j] = True, False
            error[n] = after
            swaps += 1
    assert swaps > 0
    return 1.0 - removed


def show(name, mask, weights=None):
    values = [] if weights is None else [f"{v:.12g}" for v in weights.ravel()]
    print(name, "".join(str(int(v)) for v in mask.ravel()), *values)


root = np.sqrt((X**2).mean(axis=0))
wanda = np.abs(W) * root
show("magnitude_tensor_50", tensor_wide(np.abs(W), int(W.size * 0.5)))
show("magnitude_2:4", n_of_m(np.abs(W), 2, 4))
show("wanda_row_50", lowest(wanda, int(K * 0.5)))
show("wanda_row_70", lowest(wanda, int(K * 0.7)))
show("wanda_tensor_70", tensor_wide(wanda, int(W.size * 0.7)))
show("wanda_2:4", n_of_m(wanda, 2, 4))
show("wanda_4:8", n_of_m(wanda, 4, 8))
show("wanda_1:4", n_of_m(wanda, 3, 4))
show("sparsegpt_2:4_16", *sparsegpt(W, nm=(2, 4), block=16))
show("sparsegpt_4:8_128", *sparsegpt(W, nm=(4, 8)))
show("sparsegpt_50_16", *sparsegpt(W, share=0.5, block=16))
show("sparsegpt_70_128", *sparsegpt(W, share=0.7))
for cycles in (1, 4):
    show(f"dsnot_50_{cycles}", dsnot(W, wanda, share=0.5, cycles=cycles))
    show(f"dsnot_50_{cycles}_same_sign", dsnot(W, wanda, share=0.5, cycles=cycles, same_sign=True))
    show(f"dsnot_2:4_{cycles}_same_sign", dsnot(W, wanda, nm=(2, 4), cycles=cycles, same_sign=True))
show("dsnot_magnitude_70_3", dsnot(W, np.abs(W), share=0.7, cycles=3))
