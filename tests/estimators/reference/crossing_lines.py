"""Writes crossing_lines.csv, the reference problem at n = 1,000 that R and the tests read, and prints nothing.

x is uniform on [0, 1], the gate scores are (-8 + 25 x, 0), the means 15 - 20 x and -5 + 20 x, the standard deviations
0.3 and 0.4 (Nguyen, Nguyen, Ho, 2023, arXiv 2305.03288). Run from the root of the project.
"""

from pathlib import Path

import numpy as np

rng = np.random.default_rng(20260101)
x = rng.random(1000)
first = rng.random(1000) < 1.0 / (1.0 + np.exp(8.0 - 25.0 * x))
mean, std = np.where(first, 15.0 - 20.0 * x, -5.0 + 20.0 * x), np.where(first, 0.3, 0.4)
y = mean + std * rng.standard_normal(1000)
target = Path(__file__).with_name("crossing_lines.csv")
np.savetxt(target, np.column_stack([x, y]), delimiter=",", header="x,y", comments="", fmt="%.12g")
