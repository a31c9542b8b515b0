"""Data and settings of the fits by formula."""

import numpy as np
import pandas as pd

QUICK = {"random_state": 0, "n_init": 3, "n_moves": 0}


def made(n=240):
    rng = np.random.default_rng(0)
    x, w, side = rng.uniform(0.1, 2.0, n), rng.normal(size=n), rng.choice(["left", "mid", "right"], n)
    is_first = rng.uniform(size=n) < 1.0 / (1.0 + np.exp(2.0 - 2.0 * x))
    y = np.where(is_first, 1.0 + x, 4.0 - x) + 0.5 * w + 0.3 * (side == "right") + 0.2 * rng.normal(size=n)
    count = rng.poisson(np.exp(np.where(is_first, 0.5 + x, 2.0 - 0.5 * x)))
    return pd.DataFrame({"x": x, "w": w, "side": side, "y": y, "count": count, "hours": rng.uniform(1.0, 3.0, n)})


DATA = made()
