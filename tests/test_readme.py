"""Every Python block of the documents at the top and in docs/ runs, in one namespace a document, in order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = [
    path for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]) if BLOCK.search(path.read_text())
]


def script(text: str) -> str:
    """The blocks one after the other, each on its own line of the document, so that tracebacks point into it."""
    lines = [""] * (text.count("\n") + 2)
    for match in BLOCK.finditer(text):
        start = text.count("\n", 0, match.start(1))
        for offset, line in enumerate(match.group(1).splitlines()):
            lines[start + offset] = line
    return "\n".join(lines)


def test_the_readme_has_code():
    assert "python" in (ROOT / "README.md").read_text()
    assert ROOT / "README.md" in DOCUMENTS


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(path.relative_to(ROOT)) for path in DOCUMENTS])
def test_every_block_runs(path, tmp_path):
    """In a process of its own, with warnings as errors, as a reader would paste it: seeds and plots are its own."""
    program = f"exec(compile({script(path.read_text())!r}, {str(path)!r}, 'exec'), {{'__name__': '__main__'}})"
    settings = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("heading", "absent"),
    [
        ("## Fit by formula", ("arviz_base", "pyarrow", "transformers", "dask")),  # of extras that nobody installed
        ("## Fit in a script", ("formulaic", "pandas", "matplotlib", "arviz_base", "pyarrow")),
    ],
)
def test_the_first_scripts_need_no_more_than_the_quickstart_installs(tmp_path, heading, absent):
    readme = (ROOT / "README.md").read_text()
    first = BLOCK.search(readme, readme.index(heading)).group(1)
    refuse = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {absent!r}:\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
    )
    settings = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", refuse + first], cwd=tmp_path, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_blocks_keep_their_lines():
    text = "# Title\n\n```python\na = 1\n```\n\nwords\n\n```bash\nls\n```\n\n```python\nb = a +\\\n 1\n```\n"
    lines = script(text).split("\n")
    assert (lines[3], lines[13], lines[14]) == ("a = 1", "b = a +\\", " 1")
    assert "ls" not in lines
