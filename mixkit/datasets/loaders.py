"""Small real data sets, installed with the package; each loader names its source."""

import csv
from importlib.resources import files

import torch
from torch import Tensor

__all__ = ["load_articles", "load_co2_gnp", "load_ethanol", "load_faithful", "load_mcycle", "load_patents", "load_tone"]


def load_mcycle() -> tuple[Tensor, Tensor]:
    """Head acceleration (g) against time (ms) in a simulated motorcycle crash; 133 rows.

    Returns:
        Times ``(133, 1)`` and accelerations ``(133,)``, float64. Heteroscedastic, in three regimes.

    Source: Silverman (1985), JRSS B 47, 1-52; ``mcycle`` of R's MASS.

    Example:
        >>> x, y = load_mcycle()
        >>> x.shape, y.shape
        (torch.Size([133, 1]), torch.Size([133]))
    """
    return _load("mcycle", ["times"], "accel")


def load_faithful() -> tuple[Tensor, Tensor]:
    """Waiting time (min) to the next eruption of Old Faithful against the length (min) of the last; 272 rows.

    Returns:
        Lengths ``(272, 1)`` and waiting times ``(272,)``, float64. Short and long eruptions make two clusters.

    Source: Azzalini and Bowman (1990), Applied Statistics 39, 357-365; ``faithful`` of R's datasets.

    Example:
        >>> x, y = load_faithful()
        >>> x.shape, y.shape
        (torch.Size([272, 1]), torch.Size([272]))
    """
    return _load("faithful", ["eruptions"], "waiting")


def load_ethanol() -> tuple[Tensor, Tensor]:
    """Exhaust of nitrogen oxides against compression ratio C and equivalence ratio E of an ethanol engine; 88 rows.

    Returns:
        Ratios C (7.5 to 18) and E (0.535 to 1.232) ``(88, 2)`` and nitrogen oxides per unit of work ``(88,)``, float64.

    Source: Brinkman (1981), SAE Transactions 90, 1410-1424; ``ethanol`` of R's lattice.

    Example:
        >>> x, y = load_ethanol()
        >>> x.shape, y.shape
        (torch.Size([88, 2]), torch.Size([88]))
    """
    return _load("ethanol", ["C", "E"], "NOx")


def load_tone() -> tuple[Tensor, Tensor]:
    """Tuned ratio against stretch ratio in a tone perception experiment; 150 rows, two regressions mixed.

    Returns:
        Stretch ratios ``(150, 1)`` and tuned ratios ``(150,)``, float64.

    Source: Cohen (1980), PhD thesis, Stanford; de Veaux (1989), CSDA 8, 227-245; ``tonedata`` of R's mixtools.

    Example:
        >>> x, y = load_tone()
        >>> x.shape, y.shape
        (torch.Size([150, 1]), torch.Size([150]))
    """
    return _load("tone", ["stretchratio"], "tuned")


def load_co2_gnp() -> tuple[Tensor, Tensor]:
    """Carbon dioxide emission per head against gross national product per head, by country, 1996; 28 rows.

    Returns:
        National products ``(28, 1)`` and emissions ``(28,)``, float64, in the units of the source.

    Source: Hurn, Justel and Robert (2003), JCGS 12, 55-79; ``CO2data`` of R's mixtools.

    Example:
        >>> x, y = load_co2_gnp()
        >>> x.shape, y.shape
        (torch.Size([28, 1]), torch.Size([28]))
    """
    return _load("co2_gnp", ["GNP"], "CO2")


def load_patents() -> tuple[Tensor, Tensor]:
    """Number of patents against the logarithm of spending on research, by company; 70 rows, counts.

    Returns:
        Logarithms ``(70, 1)`` and counts ``(70,)``, float64.

    Source: Wang, Cockburn and Puterman (1998), JBES 16, 27-41; ``patent`` of R's flexmix.

    Example:
        >>> x, y = load_patents()
        >>> x.shape, y.shape
        (torch.Size([70, 1]), torch.Size([70]))
    """
    return _load("patents", ["lgRD"], "Patents")


def load_articles() -> dict[str, list[float] | list[str]]:
    """Articles that PhD students of biochemistry published in three years; 915 rows, counts.

    Returns:
        Columns by name, as a formula reads them: articles ``art``, gender ``fem`` and marriage ``mar`` in words, young
        children ``kid5``, prestige of the department ``phd``, articles of the mentor ``ment``.

    Source: Long (1990), Social Forces 68, 1297-1316; ``bioChemists`` of R's pscl.

    Example:
        >>> data = load_articles()
        >>> list(data), len(data["art"]), data["fem"][0]
        (['art', 'fem', 'mar', 'kid5', 'phd', 'ment'], 915, 'Men')
    """
    rows = _rows("articles")
    words = {name: [row[name] for row in rows] for name in rows[0]}
    return {name: own if name in ("fem", "mar") else [float(word) for word in own] for name, own in words.items()}


def _rows(name: str) -> list[dict[str, str]]:
    text = files("mixkit.datasets").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def _load(name: str, covariates: list[str], response: str) -> tuple[Tensor, Tensor]:
    rows = _rows(name)
    x = torch.tensor([[float(row[column]) for column in covariates] for row in rows], dtype=torch.float64)
    y = torch.tensor([float(row[response]) for row in rows], dtype=torch.float64)
    return x, y
