"""Makes attention_rank.txt: attention maps by NumPy and their ranks at some tolerances.

    python3 tests/data/make_attention_rank.py > tests/data/attention_rank.txt        (NumPy 1.24 or later)
"""
import numpy as np

HEADS, KEY_HEADS, WIDTH = 2, 1, 3
TOLERANCES = [1e-1, 3e-2, 1e-2, 1e-3, 1e-4, 1e-6]
random = np.random.default_rng(3)
print("# NumPy", np.__version__)
for mask in ("none", "causal"):
    for tokens in (1, 5, 12):
        q = np.round(random.normal(size=(tokens, HEADS * WIDTH)), 3)
        k = np.round(random.normal(size=(tokens, KEY_HEADS * WIDTH)), 3)
        print("case", mask, tokens)
        for row in np.hstack([q, k]):
            print(*row)
        for head in range(HEADS):
            scores = q[:, head * WIDTH:(head + 1) * WIDTH] @ k[:, :WIDTH].T / np.sqrt(WIDTH)
            if mask == "causal":
                scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            if mask == "causal":
                np.fill_diagonal(weights, 0)
            top = np.linalg.svd(weights, compute_uv=False)[0]
            print("ranks", *[np.linalg.matrix_rank(weights, tol=top * t) for t in TOLERANCES])
