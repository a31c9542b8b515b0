"""Standard errors by clusters, by statsmodels: the reference of tests/estimators/groups/test_clusters.py.

Run from the root of the project, in an environment with statsmodels (0.15.0 was used) and scikit-learn:
``python tests/estimators/reference/statsmodels_clusters.py``. Writes statsmodels_clusters.json beside this file.
"""

import json
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from sklearn.datasets import load_diabetes

NUM_CLUSTERS = 37


def main() -> None:
    """Linear and Poisson regressions of the diabetes data, with and without statsmodels' own correction."""
    data = load_diabetes(as_frame=True, scaled=False)
    x, clusters = sm.add_constant(data.data[["bmi", "bp"]]), np.arange(len(data.target)) % NUM_CLUSTERS
    families = {
        "gaussian": (sm.families.Gaussian(), data.target),
        "poisson": (sm.families.Poisson(), np.floor(data.target / 25.0)),
    }
    found = {}
    for name, (family, y) in families.items():
        settings = {"groups": clusters, "use_correction": False}
        fit = sm.GLM(y, x, family=family).fit(cov_type="cluster", cov_kwds=settings, tol=1e-14)
        found[name] = {"params": fit.params.to_dict(), "bse": fit.bse.to_dict()}
    fit = sm.OLS(data.target, x).fit(cov_type="cluster", cov_kwds={"groups": clusters, "use_correction": False})
    found["ols"] = {"params": fit.params.to_dict(), "bse": fit.bse.to_dict()}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
