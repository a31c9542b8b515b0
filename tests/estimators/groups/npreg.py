"""The simulated data NPreg that R's flexmix publishes."""

import csv
from pathlib import Path

import numpy as np

__all__ = ["load_npreg"]


def load_npreg() -> dict[str, np.ndarray]:
    """Columns ``x``, ``yn``, ``yp`` and the groups ``id2``, 200 rows."""
    with (Path(__file__).parent / "npreg.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in ("x", "yn", "yp", "id2")}
