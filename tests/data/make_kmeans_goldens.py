#!/usr/bin/env python3
"""Writes kmeans_goldens.txt: rows, initial centres and what scikit-learn's k-means makes of them.

Made with Python 3.11, numpy 2.4.6 and scikit-learn 1.9.1. A line: name, numbers. Lloyd runs to the end (tol=0) from
centres that are rows; the iterations are those until no label changes. Mini-batches are those of partial_fit, 20 rows in
their order each, without random reassignment.
"""
import pathlib
import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans

CLUSTERS = 5
rng = np.random.default_rng(7)
# Overlapping clusters, so that rows change between them on the way.
x = (rng.normal(size=(8, 6))[rng.integers(0, 8, 120)] + 0.6 * rng.normal(size=(120, 6))).astype(np.float32)
lines = {"x": x}


def lloyd(name, rows):
    start = rows[:CLUSTERS].copy()
    fit = KMeans(CLUSTERS, init=start, n_init=1, algorithm="lloyd", tol=0, max_iter=300).fit(rows)
    assert fit.n_iter_ > 4
    lines[name + "_start"] = start
    lines[name + "_label"] = fit.labels_
    lines[name + "_inertia"] = fit.inertia_
    lines[name + "_iterations"] = fit.n_iter_


lloyd("plain", x)
lloyd("unit", x / np.linalg.norm(x, axis=1, keepdims=True))

batches = MiniBatchKMeans(CLUSTERS, init=x[:CLUSTERS].copy(), n_init=1, reassignment_ratio=0)
for step in range(6):
    batches.partial_fit(x[20 * step : 20 * step + 20])
lines["batch_centres"] = batches.cluster_centers_
lines["batch_inertia"] = -batches.score(x)

out = pathlib.Path(__file__).with_name("kmeans_goldens.txt")
with out.open("w") as file:
    print("# make_kmeans_goldens.py", file=file)
    for name, values in lines.items():
        print(name, *(f"{v:.9g}" for v in np.ravel(values)), file=file)
