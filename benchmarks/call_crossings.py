"""How often calls cross from one file of the packages to another on the way from a fit to its standard errors.

The path is ``EM(random_state=0).fit(model, *load_tone()).bse``, the model a softmax gate with two linear Gaussian
experts. A crossing is a call of a function in one file of ``mixkit`` or ``estimators`` from a function in another file
of theirs; calls through torch, NumPy and others count for the function that made them. The figures:

- calls: all crossings, each time they happen: grows with the iterations and starts of the fit;
- from folder to folder: those of them that leave the folder too;
- functions: distinct pairs (calling function, called function) in two files: what a reader follows from file to file;
- files: distinct pairs (calling file, called file), and how many of these go both ways.

    python benchmarks/call_crossings.py
"""

import argparse
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from estimators import EM
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_tone

PACKAGES = {"mixkit", "estimators"}
Function = tuple[str, str]  # file and name


def _place(frame: FrameType | None, root: Path) -> Function | None:
    """File and name of the nearest function of the packages, the frame's own or one that it was called from."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(root) and path.relative_to(root).parts[0] in PACKAGES:
            return str(path.relative_to(root)), frame.f_code.co_qualname
        frame = frame.f_back
    return None


def crossings(root: Path) -> Counter[tuple[Function, Function]]:
    """Calls from file to file, by calling and called function."""
    generator = torch.Generator().manual_seed(0)
    experts = linear_gaussian_experts(1, 2, generator=generator)
    model, (x, y) = MixtureOfExperts(softmax_gate(1, 2, generator=generator), experts), load_tone()
    found: Counter[tuple[Function, Function]] = Counter()

    def record(frame: FrameType, event: str, argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(root):
            callee, caller = _place(frame, root), _place(frame.f_back, root)
            if callee is not None and caller is not None and caller[0] != callee[0]:
                found[caller, callee] += 1

    sys.setprofile(record)
    try:
        EM(random_state=0).fit(model, x, y).bse  # noqa: B018
    finally:
        sys.setprofile(None)
    return found


def main(*, top: int) -> None:
    """Print the figures, and the pairs of files with the most crossings."""
    torch.set_num_threads(1)
    found = crossings(Path(sys.modules[EM.__module__].__file__ or "").parents[1])
    files: Counter[tuple[str, str]] = Counter()
    for (caller, callee), count in found.items():
        files[caller[0], callee[0]] += count
    outward = sum(count for pair, count in files.items() if Path(pair[0]).parent != Path(pair[1]).parent)
    mutual = sum((callee, caller) in files for caller, callee in files) // 2
    print(f"calls that cross from file to file     {found.total():>8,}")
    print(f"calls that cross from folder to folder {outward:>8,}")
    print(f"distinct pairs of functions            {len(found):>8,}")
    print(f"distinct pairs of files                {len(files):>8,}, of which {mutual} call each other")
    print(f"files on the way                       {len({name for pair in files for name in pair}):>8,}")
    for (caller, callee), count in files.most_common(top):
        print(f"  {count:>6,}  {caller} -> {callee}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="the same: it takes a second")
    parser.add_argument("--top", type=int, default=12, help="pairs of files to print")
    main(top=parser.parse_args().top)
