"""Run, resume and report a study: ``python -m estimators.rates design.toml --out results``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .config import read_study

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m estimators.rates", description=__doc__)
    parser.add_argument("design", type=Path, help="a TOML file; see estimators.rates.read_study")
    parser.add_argument("--out", type=Path, required=True, help="folder for results.sqlite, tables and report.html")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes; -1 for all processors")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    try:
        study = read_study(options.design)
        options.out.mkdir(parents=True, exist_ok=True)
        results = study.run(options.out / "results.sqlite", n_jobs=options.jobs, progress=not options.quiet)
        results.sizes_table().to_csv(options.out / "sizes.csv", index=False)
        if results.has_slopes:
            results.table().to_csv(options.out / "rates.csv", index=False)
        else:
            (options.out / "rates.csv").unlink(missing_ok=True)
            print("No rates.csv: slopes need two sizes or more, and two replicates or more at each")  # noqa: T201
        results.report(options.out / "report.html")
    except (OSError, TypeError, ValueError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped; run it again to go on", file=sys.stderr)  # noqa: T201
        return 130
    print(f"{results!r}: {options.out / 'report.html'}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
