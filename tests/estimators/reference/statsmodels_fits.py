"""Generalized linear models by statsmodels: the reference of tests/estimators/test_result_tests.py.

Run from the root of the project, in an environment with statsmodels (0.15.0 was used) and scikit-learn:
``python tests/estimators/reference/statsmodels_fits.py``. Writes statsmodels_fits.json beside this file. The scale of
the Gaussian model is that of maximum likelihood, the mean of the squared residuals.
"""

import json
from pathlib import Path

import numpy as np
import statsmodels.api as sm
from sklearn.datasets import load_diabetes

RESTRICTIONS = ["bmi = bp", "bmi = 0, bp + 2*s5 = 1", "bmi - bp = 2, s5 = 3"]


def figures(fit: sm.GLM) -> dict[str, object]:
    """What a result says of itself, and its tests of some restrictions."""
    tests = []
    for text in RESTRICTIONS:
        joint, single = fit.wald_test(text, use_f=False, scalar=True), fit.t_test(text)
        tests.append(
            {
                "restrictions": text,
                "statistic": float(joint.statistic),
                "p_value": float(joint.pvalue),
                "value": single.effect.tolist(),
                "std_error": single.sd.flatten().tolist(),
                "z": single.tvalue.flatten().tolist(),
                "single_p_values": np.atleast_1d(single.pvalue).tolist(),
                "intervals": single.conf_int().tolist(),
            }
        )
    return {
        "params": fit.params.to_dict(),
        "bse": fit.bse.to_dict(),
        "tvalues": fit.tvalues.to_dict(),
        "pvalues": fit.pvalues.to_dict(),
        "fittedvalues": fit.fittedvalues.iloc[:5].tolist(),
        "resid": fit.resid_response.iloc[:5].tolist(),
        "llf": float(fit.llf),
        "df_resid": int(fit.df_resid),
        "tests": tests,
    }


def main() -> None:
    """Fit both families and write the figures."""
    data = load_diabetes(as_frame=True, scaled=False)
    x = sm.add_constant(data.data[["bmi", "bp", "s5"]])
    tight = {"tol": 1e-14, "maxiter": 200}
    y = data.target
    first = sm.GLM(y, x).fit(**tight)
    gaussian = sm.GLM(y, x).fit(scale=float((first.resid_response**2).mean()), **tight)
    poisson = sm.GLM(np.floor(y / 25.0), x, family=sm.families.Poisson()).fit(**tight)
    found = {"gaussian": figures(gaussian), "poisson": figures(poisson)}
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
