"""SHA-256 of the final weights of many small runs: the same before and after a change that moves code only.

python -m benchmarks.weight_hashes [CASE ...]      all cases, or those whose names begin so

Weights depend on the processor and the version of torch: compare outputs of one machine. A line is a case
and, for each stage of its run, the first 16 digits of the hash over its arrays (name, dtype, shape, bytes).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.numpy import load_file

SMALL = (
    "data=digits", "model=small_cnn", "engine=inline", "clients=5", "train.rounds=3", "server_rows=100",
    "corruption.backdoor.patch=2", "evaluation.curve_rows=0",
)  # fmt: skip
FORGET = (
    "laf", "laf_counts", "laf_vae", "laf_hybrid",
    "laf_slow", "laf_one_client", "laf_one_client_repair", "laf_repair", "laf_tuned_losses",
    "laf_server", "laf_paper", "laf_paper_resnet18", "nothing", "retrain", "fine_tune", "gradient_ascent",
    "federaser", "fedaccum", "pgd", "not", "conda", "fast_fedul", "fukd", "fedosd", "scrub", "bad_teacher",
    "ssd", "lfssd", "salun", "virtual_teacher", "virtual_teacher_label_free", "jit", "head_distill", "fused",
    "boundary", "unroll", "sifu", "fats",
)  # fmt: skip
CASES: dict[str, tuple[str, ...]] = {
    **{f"forget={name}": (*SMALL, f"forget={name}") for name in FORGET},
    "cohort": (*SMALL, "train.cohort=2", "train.rounds=4"),
    "schedule": (*SMALL, "experiment=schedule", "data.train_rows=null", "train.rounds=12"),
    "engine=inline": (*SMALL, "clients=12"),
    "engine=ray": (*SMALL, "clients=12", "engine=ray", "engine.workers=2"),
    "engine=ray, single replies": (*SMALL, "clients=12", "engine=ray", "engine.sums=false"),
    "class": (*SMALL, "request=remove_classes", "request.classes=[3]"),
    "smoke": ("experiment=smoke",),
}


def digest(path: Path) -> str:
    """The first 16 digits of the hash of the arrays in a safetensors file, in the order of their names."""
    whole = hashlib.sha256()
    for name, array in sorted(load_file(path).items()):
        whole.update(f"{name} {array.dtype} {array.shape}".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()[:16]


def hashes(overrides: tuple[str, ...]) -> str:
    """The digests of all stages of one run."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fedlaf", *overrides, f"hydra.run.dir={folder}/run"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"exit {done.returncode}: {done.stderr.strip()[-200:]}"
        stages = (path for path in sorted(Path(folder).glob("run/stages/*.safetensors")))
        return "  ".join(f"{p.stem}={digest(p)}" for p in stages if "predictions" not in p.name)


def main(wanted: list[str]) -> None:
    """Print a line for each case."""
    for case, overrides in CASES.items():
        if not wanted or case.startswith(tuple(wanted)):
            print(f"{case}: {hashes(overrides)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
