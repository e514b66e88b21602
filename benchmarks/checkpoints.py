"""What checkpoints cost: their share of a run's time, and the bytes that they wrote.

    python -m benchmarks.checkpoints [key=value ...]

runs the job (the main job without keys) in a temporary folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fedlaf
from fedlaf.core import safe_files
from fedlaf.experiment import round_checkpoints

WANTED = 3.0
"""Percent of a run's time that checkpoints may take."""


def main() -> None:
    written, files = 0, 0

    def counting(write: Any) -> Any:
        def counted(path: Path, content: bytes | str, **more: Any) -> None:
            nonlocal written, files
            written, files = written + len(content), files + 1
            write(path, content, **more)

        return counted

    round_checkpoints.write_bytes = counting(safe_files.write_bytes)  # type: ignore[attr-defined]
    round_checkpoints.write_text = counting(safe_files.write_text)  # type: ignore[attr-defined]
    with TemporaryDirectory(dir=".", prefix="checkpoints-") as folder:
        report = fedlaf.run(*sys.argv[1:], folder=Path(folder) / "run")
    spent, total = report.seconds["checkpoints"], report.seconds["total"]
    share = 100 * spent / total
    print(f"{' '.join(sys.argv[1:]) or 'the main job'}: {total:.1f} s, of these checkpoints {spent:.2f} s")
    print(f"{share:.2f} % (wanted: at most {WANTED:g} %); {files} files, {written / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
