"""Fits that R's users publish: log-likelihood, coefficients and standard errors of flexmix, in one table.

Figures are those of R 4.2.2 with flexmix 2.3-18 (``refit`` for standard errors, by numerical second derivatives). Of
Gaussian fits flexmix divides variances by residual degrees of freedom: its log-likelihood lies a little below the
maximum. Of the doses of salmonella, up to 1,000, the step of R's differences is as large as the coefficient, and its
standard errors (.00016235 and .04709) are wrong: those here are of the exact Hessian, which a test computes by itself.
"""

import math
from typing import Any, NamedTuple

__all__ = ["ROWS", "Row"]


class Row(NamedTuple):
    data: str
    formula: str
    num_experts: int
    llf: float
    settings: dict[str, Any]
    # groups of parameters of one expert each, in any order of experts: name with {j} -> (estimate, standard error)
    experts: list[dict[str, tuple[float, float | None]]]
    shared: dict[str, tuple[float, float | None]]
    is_gaussian: bool = False
    df: int | None = None


POISSON = {"family": "poisson"}
NREG = "yn ~ x + I(x**2)"
ROWS = {
    "NPreg": Row(
        "NPreg",
        NREG,
        2,
        -642.545,
        {},
        [
            {"intercept": (14.713, 1.324), "slope,x": (9.848, 0.592), "slope,I(x ** 2)": (-0.9685, 0.0553)},
            {"intercept": (-0.2085, 1.009), "slope,x": (4.814, 0.510), "slope,I(x ** 2)": (0.0365, 0.0498)},
        ],
        {},
        is_gaussian=True,
    ),
    "NPreg in groups": Row(
        "NPreg",
        NREG,
        2,
        -561.565,
        {"groups": "id2"},
        [
            {"intercept": (-0.130, 0.933), "slope,x": (4.705, 0.454), "slope,I(x ** 2)": (0.0451, 0.0451)},
            {"intercept": (14.639, 1.205), "slope,x": (9.881, 0.528), "slope,I(x ** 2)": (-0.9737, 0.0500)},
        ],
        {},
        is_gaussian=True,
    ),
    "NPreg counts": Row(
        "NPreg",
        "yp ~ x",
        2,
        -440.640294,
        POISSON,
        [
            {"intercept": (1.2473, 0.1794), "slope,x": (0.06471, 0.02742)},
            {"intercept": (1.8643, 0.1744), "slope,x": (-0.16192, 0.03940)},
        ],
        {},
    ),
    "NPreg counts in groups": Row(
        "NPreg",
        "yp ~ x",
        2,
        -420.081383,
        {**POISSON, "groups": "id2"},
        [
            {"intercept": (1.03947, 0.12373), "slope,x": (0.09374, 0.01991)},
            {"intercept": (1.92823, 0.09669), "slope,x": (-0.17487, 0.02219)},
        ],
        {},
        df=5,
    ),
    "patent": Row(
        "patent",
        "Patents ~ lgRD",
        3,
        -203.533208,
        POISSON,
        [
            {"intercept": (0.5830, 0.1903), "slope,lgRD": (0.8656, 0.0461)},
            {"intercept": (-2.3299, 0.5594), "slope,lgRD": (1.5234, 0.1225)},
            {"intercept": (1.9778, 0.2282), "slope,lgRD": (0.6686, 0.0576)},
        ],
        {},
    ),
    "seizure": Row(
        "seizure",
        "Seizures ~ Treatment * log(Day)",
        2,
        -376.176205,
        {**POISSON, "offset": "log(Hours)"},
        [
            {
                "intercept": (2.0704, 0.0922),
                "slope,Treatment[T.Yes]": (7.4320, 0.5488),
                "slope,log(Day)": (-0.2706, 0.0423),
                "slope,Treatment[T.Yes]:log(Day)": (-2.2762, 0.1478),
            },
            {
                "intercept": (2.8449, 0.2589),
                "slope,Treatment[T.Yes]": (1.3023, 0.5444),
                "slope,log(Day)": (-0.4062, 0.1001),
                "slope,Treatment[T.Yes]:log(Day)": (-0.4311, 0.1526),
            },
        ],
        {},
    ),
    "betablocker": Row(
        "betablocker",
        "Deaths ~ 1",
        3,
        -159.360520,
        {
            "family": "binomial",
            "trials": "Total",
            "common": "C(Treatment, contr.treatment('Control'))",
            "groups": "Center",
        },
        [{"intercept": (-2.83369, 0.07508)}, {"intercept": (-2.25016, 0.04053)}, {"intercept": (-1.60971, 0.05573)}],
        {"slope[common,C(Treatment, contr.treatment('Control'))[T.Treated]]": (-0.25818, 0.04990)},
    ),
    "dmft, zeros": Row(
        "dmft",
        "End ~ log(Begin + 0.5) + Gender + Ethnic + Treatment",
        1,
        -1232.015376,
        {"family": "zero_inflated_poisson"},
        [{"slope,log(Begin + 0.5)": (0.73031, 0.04024), "zero_logit": (math.log(0.04529 / (1.0 - 0.04529)), None)}],
        {},
    ),
    "fabric faults": Row(
        "fabricfault",
        "Faults ~ 1",
        2,
        -86.331087,
        {**POISSON, "common": "log(Length)"},
        [{"intercept": (-2.36228, 1.5916)}, {"intercept": (-3.12820, 1.5195)}],
        {"slope[common,log(Length)]": (0.79916, 0.23492)},
    ),
    "fabric faults, free": Row(
        "fabricfault",
        "Faults ~ log(Length)",
        2,
        -84.888200,
        POISSON,
        [
            {"intercept": (-0.0965, 1.687), "slope,log(Length)": (0.3326, 0.2672)},
            {"intercept": (-13.343, 3.904), "slope,log(Length)": (2.4262, 0.5863)},
        ],
        {},
    ),
    "tribolium": Row(
        "tribolium",
        "Remaining ~ 1 | Species",
        2,
        -82.725027,
        {"family": "binomial", "trials": "Total"},
        [{"intercept": (-0.93453, 0.09948)}, {"intercept": (0.09124, 0.08312)}],
        {},
    ),
    "salmonella": Row(
        "salmonellaTA98",
        "y ~ 1",
        2,
        -60.907071,
        {**POISSON, "common": "x + log(x + 10)"},
        [{"intercept": (2.47697, 0.27315)}, {"intercept": (1.90966, 0.26539)}],
        {"slope[common,x]": (-0.00125992, 0.00027262), "slope[common,log(x + 10)]": (0.36395, 0.06602)},
    ),
    "articles": Row(
        "bioChemists",
        "art ~ fem + mar + kid5 + phd + ment",
        2,
        -1561.070872,
        POISSON,
        [{"slope,ment": (0.02540, 0.00319)}, {"slope,ment": (0.03175, 0.00448)}],
        {},
    ),
    "NregFix": Row(
        "NregFix",
        "y ~ 1",
        3,
        -544.106,
        {"common": {"x1 + x2": (0, 1), "w": (0, 1, 2)}},
        [{"intercept": (-7.9863, None)}, {"intercept": (1.0809, None)}, {"intercept": (4.8637, None)}],
        {
            "slope[common,w]": (0.3262, 0.3300),
            "slope[0+1,x1]": (9.8816, 0.1009),
            "slope[0+1,x2]": (4.9975, 0.2307),
        },
        is_gaussian=True,
    ),
    "Insurance": Row(
        "Insurance",
        "Claims ~ C(District) + C(Group) + C(Age)",
        2,
        -182.820036,
        {**POISSON, "offset": "log(Holders)"},
        [],
        {},
    ),
    "Insurance, one expert": Row(
        "Insurance",
        "Claims ~ C(District) + C(Group) + C(Age)",
        1,
        -184.3708,
        {**POISSON, "offset": "log(Holders)"},
        [],
        {},
    ),
    "NOdata": Row(
        "NOdata",
        "Equivalence ~ NO",
        2,
        122.025,
        {},
        [
            {"intercept": (1.2471, 0.0081), "slope,NO": (-0.0830, 0.0047)},
            {"intercept": (0.5650, 0.0143), "slope,NO": (0.0850, None)},
        ],
        {},
        is_gaussian=True,
    ),
    "CO2data": Row("CO2data", "CO2 ~ GNP | GNP", 2, -66.339, {}, [], {}, is_gaussian=True),
}
