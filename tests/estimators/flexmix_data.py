"""Data sets that R's flexmix and its documentation use, one file each in ``reference/flexmix``.

Sources: packages of R. flexmix 2.3-18 has NPreg and NregFix (simulated), betablocker, dmft, fabricfault, patent,
salmonellaTA98, seizure and tribolium; MASS has Insurance, and mixtools CO2data and NOdata. The articles of
biochemists (bioChemists) are a data set of mixkit itself.
"""

from pathlib import Path

import numpy as np
import pandas as pd

import mixkit.datasets

__all__ = ["decayed_teeth", "flexmix_frame"]

_FILES = Path(__file__).parent / "reference" / "flexmix"
_ELSEWHERE = {"bioChemists": Path(mixkit.datasets.__file__).parent / "articles.csv"}


def flexmix_frame(name: str) -> pd.DataFrame:
    """The data set of this name in R, a row for each of R's."""
    return pd.read_csv(_ELSEWHERE.get(name, _FILES / f"{name}.csv"))


def decayed_teeth() -> tuple[pd.DataFrame, pd.Series]:
    """dmft: log(Begin + 1/2) and dummies in the order of R's factor levels, and the decayed teeth at the end."""
    data = flexmix_frame("dmft")
    x = pd.DataFrame({"log(Begin + 0.5)": np.log(data["Begin"] + 0.5)})
    dummies = pd.get_dummies(data[["Gender", "Ethnic", "Treatment"]], drop_first=True).astype(float)
    return pd.concat([x, dummies], axis=1), data["End"]
