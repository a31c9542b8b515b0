"""Small real data sets, installed with the package; each loader in ``loaders.py`` names its source."""

from .loaders import load_articles, load_co2_gnp, load_ethanol, load_faithful, load_mcycle, load_patents, load_tone

__all__ = ["load_articles", "load_co2_gnp", "load_ethanol", "load_faithful", "load_mcycle", "load_patents", "load_tone"]
