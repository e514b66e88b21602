"""The device: rows that lie on it, and how exactly it computes. What needs a GPU says so and is skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.federations import same_bits, small_spec
from support.withdrawals import train_and_withdraw

from fedlaf.client import device as devices
from fedlaf.client.device import fits, resident, settle_numerics
from fedlaf.client.runtime import client_data
from fedlaf.core.types import Weights
from fedlaf.data import LabelledRows, moved
from fedlaf.objectives.classification import Fit
from fedlaf.objectives.laf import Represent
from fedlaf.strategies.laf_adam import LafAdam

CPU, GPU = torch.device("cpu"), torch.device("cuda")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
ROWS = LabelledRows(torch.zeros(10, 1, 8, 8, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64))


@pytest.fixture
def numerics(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leaves torch's switches as they were."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (torch.are_deterministic_algorithms_enabled(), cudnn.benchmark, cudnn.allow_tf32,
              matmul.allow_tf32)  # fmt: skip
    yield
    torch.use_deterministic_algorithms(before[0])
    cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before[1:]
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)


@pytest.mark.usefixtures("numerics")
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_gpu_is_deterministic_or_fast(deterministic: bool) -> None:
    settle_numerics(GPU, deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.benchmark != deterministic
    assert torch.backends.cudnn.allow_tf32 != deterministic
    assert torch.backends.cuda.matmul.allow_tf32 != deterministic
    assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)


@pytest.mark.usefixtures("numerics")
def test_a_cpu_is_left_alone() -> None:
    torch.backends.cudnn.benchmark = False
    settle_numerics(CPU, deterministic=False)
    assert not torch.backends.cudnn.benchmark
    settle_numerics(CPU, deterministic=True)
    assert not torch.are_deterministic_algorithms_enabled()
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ


def test_rows_stay_where_they_are_on_a_cpu() -> None:
    assert resident(ROWS, CPU) is ROWS
    assert moved(ROWS.x, CPU) is ROWS.x


@pytest.mark.parametrize(
    ("size", "free", "total", "fit"), [(10, 60, 100, True), (11, 60, 100, False), (0, 49, 100, False)]
)
def test_rows_go_to_a_gpu_as_long_as_half_of_it_stays_free(
    size: int, free: int, total: int, fit: bool
) -> None:
    assert devices.FREE == 0.5
    assert fits(size, free, total) == fit


def test_rows_that_do_not_fit_stay_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    size = ROWS.x.nbytes + ROWS.y.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (size + 99, 200))
    assert resident(ROWS, GPU) is ROWS


def weights_on(device: str, **more: Any) -> dict[str, Weights]:
    """Train, and withdraw client 0."""
    spec = replace(small_spec(rows=200), device=device, **more)
    return train_and_withdraw(spec, {"left": LafAdam(represent=Represent())}, Fit())


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("numerics")
def test_rows_lie_on_the_gpu_and_small_ones_travel_pinned() -> None:
    spec = replace(small_spec(rows=200), device="cuda")
    rows = client_data(spec, 0).rows
    assert rows.x.is_cuda
    assert rows.y.is_cuda
    sent = moved(ROWS.x, GPU)
    assert sent.is_cuda
    assert torch.equal(sent.cpu(), ROWS.x)


TWICE = """
    import sys
    sys.path[:0] = {paths!r}
    import numpy as np
    from dataclasses import replace
    from support.federations import small_spec
    from support.withdrawals import train_and_withdraw
    from fedlaf.objectives.classification import Fit
    from fedlaf.objectives.laf import Represent
    from fedlaf.strategies.laf_adam import LafAdam
    spec = replace(small_spec(rows=200), device="cuda")
    found = train_and_withdraw(spec, {{"left": LafAdam(represent=Represent())}}, Fit())
    np.savez({target!r}, **{{f"{{s}}/{{k}}": v for s, w in found.items() for k, v in w.items()}})
"""


@pytest.mark.gpu
@needs_gpu
def test_a_deterministic_gpu_gives_the_same_bits_twice_and_is_near_the_cpu(tmp_path: Path) -> None:
    """In processes of their own: cuBLAS reads its setting when it starts."""
    import textwrap

    import numpy as np

    here = Path(__file__).parent
    paths = [str(here.parent), str(here.parent.parent)]
    runs: list[dict[str, np.ndarray]] = []
    for number in range(2):
        target = str(tmp_path / f"{number}.npz")
        script = textwrap.dedent(TWICE).format(paths=paths, target=target)
        subprocess.run([sys.executable, "-c", script], check=True, timeout=240)
        with np.load(target) as held:
            runs.append({k: held[k] for k in held.files})
    assert same_bits(runs[0], runs[1])
    for stage, weights in weights_on("cpu").items():
        for name, array in weights.items():
            assert np.allclose(runs[0][f"{stage}/{name}"], array, atol=0.02), name


@pytest.mark.gpu
@needs_gpu
@pytest.mark.usefixtures("numerics")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_a_gpu_sends_single(precision: str) -> None:
    found = weights_on("cuda", precision=precision, deterministic=False)
    assert all(a.dtype == "float32" for weights in found.values() for a in weights.values())
