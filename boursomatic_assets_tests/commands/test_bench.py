"""`boursomatic bench` without the folder that it starts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import boursomatic_assets


def test_bench_of_an_installed_package_says_where_the_benchmarks_are(tmp_path: Path) -> None:
    package = Path(boursomatic_assets.__file__).parent
    shutil.copytree(package, tmp_path / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    # -P: the working directory, which is the clone, is not searched.
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from boursomatic_assets.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-P", "-c", start, str(tmp_path), "bench"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "They are in the folder benchmarks/ of its repository: clone it and run there: make bench" in (
        " ".join(ended.stderr.split())
    )
