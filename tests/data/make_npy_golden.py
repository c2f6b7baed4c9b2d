#!/usr/bin/env python3
"""Writes three_by_three.npy, 0 to 8 as floats, with NumPy (2.4.6), for question_test.cpp.

pip install numpy==2.4.6; python3 make_npy_golden.py
"""
import pathlib

import numpy as np

np.save(pathlib.Path(__file__).parent / "three_by_three.npy", np.arange(9, dtype="<f4").reshape(3, 3))
