"""Where rows come from: shipped sets, and torchvision's, on tiny files in their own formats."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import pickle
import struct
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torchvision import datasets

from fedlaf.core.errors import InvalidValue
from fedlaf.data import Digits, FashionSample, Torchvision, as_input, load_once, make_fashion_sample
from fedlaf.data import torchvision_sets as sets
from fedlaf.data.sources import stratified, subset

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Written = dict[str, tuple[Images, Labels]]

# ---- the shipped sets


def test_the_fashion_sample_has_1000_and_200_rows_of_each_class() -> None:
    held = load_once(FashionSample())
    assert (held.name, held.num_classes, held.shape) == ("fashion_sample", 10, (1, 28, 28))
    assert held.train.x.shape == (10_000, 1, 28, 28)
    assert held.test.x.shape == (2_000, 1, 28, 28)
    assert held.train.x.dtype == held.test.x.dtype == torch.uint8
    assert held.train.y.dtype == held.test.y.dtype == torch.int64
    assert held.train.y.bincount().tolist() == [1_000] * 10
    assert held.test.y.bincount().tolist() == [200] * 10
    assert int(held.train.x.max()) == 255


def test_equal_sources_are_loaded_once_in_a_process() -> None:
    small = FashionSample(train_rows=50, test_rows=20)
    first = load_once(small)
    assert load_once(FashionSample(train_rows=50, test_rows=20)) is first
    assert load_once(FashionSample(train_rows=60, test_rows=20)) is not first
    assert small.load() is not first


def test_the_shipped_sample_is_what_its_script_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        Torchvision("FashionMNIST", download=False).prepare()
    except InvalidValue as error:
        pytest.skip(f"needs the full Fashion-MNIST on this machine: {error}")
    monkeypatch.setattr(sys, "argv", ["make_fashion_sample", "--to", str(tmp_path / "made.npz")])
    monkeypatch.setattr(np, "savez_compressed", np.savez)  # packing takes seconds and decides nothing
    make_fashion_sample.main()
    with np.load(tmp_path / "made.npz") as made, np.load(make_fashion_sample.TARGET) as shipped:
        assert sorted(made) == sorted(shipped) == ["test_x", "test_y", "train_x", "train_y"]
        for name in shipped:
            assert made[name].dtype == shipped[name].dtype
            np.testing.assert_array_equal(made[name], shipped[name])


def test_digits_are_scikit_learns_with_every_row_in_one_of_the_two_sets() -> None:
    held = load_once(Digits())
    assert (held.name, held.num_classes, held.shape) == ("digits", 10, (1, 8, 8))
    assert (len(held.train), len(held.test)) == (1797 - 359, 359)
    x, y = load_digits(return_X_y=True)
    levels = np.array([round(level * 255 / 16) for level in range(17)])
    everything = sorted(zip(levels[x.astype(int)].tolist(), y.tolist(), strict=True))
    parts = [
        (row.flatten().tolist(), int(label))
        for s in (held.train, held.test)
        for row, label in zip(s.x, s.y, strict=True)
    ]
    assert sorted(parts) == everything
    shares = np.bincount(y) / 5
    assert np.abs(held.test.y.bincount().numpy() - shares).max() <= 1


def test_both_shipped_sources_need_no_preparing_and_load_equal_tensors() -> None:
    for source in (FashionSample(train_rows=30, test_rows=10), Digits(train_rows=30, test_rows=10)):
        source.prepare()
        first, again = source.load(), source.load()
        assert torch.equal(first.train.x, again.train.x)
        assert torch.equal(first.test.y, again.test.y)


# ---- stratified parts


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=150), st.floats(0, 1), st.integers(0, 2**32))
def test_stratified_takes_the_exact_count_with_each_class_within_a_row_of_its_share(
    held: list[int], part: float, seed: int
) -> None:
    labels = np.array(held, dtype=np.int64)
    count = max(1, round(part * len(labels)))
    chosen = stratified(labels, count, np.random.default_rng(seed))
    assert chosen.dtype == np.int64
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()  # sorted, and no row twice
    assert 0 <= chosen[0] <= chosen[-1] < len(labels)
    ideal = np.bincount(labels) * count / len(labels)
    assert np.abs(np.bincount(labels[chosen], minlength=len(ideal)) - ideal).max() <= 1 + 1e-9


def test_stratified_keeps_shares_beside_many_rare_classes() -> None:
    # Ten classes of one row each: half of the rows are 495.05 of the large class and 4.95 others.
    labels = np.array([0] * 1000 + list(range(1, 11)))
    chosen = stratified(labels, 500, np.random.default_rng(0))
    assert (labels[chosen] == 0).sum() in (495, 496)


def test_stratified_draws_by_its_stream() -> None:
    labels = np.repeat(np.arange(4), 25)
    first, again, other = (stratified(labels, 40, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_a_subset_is_stratified_and_keeps_inputs_with_their_labels() -> None:
    whole = load_once(Digits())
    part = subset(whole, 300, 50)
    assert (len(part.train), len(part.test)) == (300, 50)
    shares = whole.train.y.bincount() * (300 / len(whole.train))
    assert float((part.train.y.bincount() - shares).abs().max()) <= 1
    known = {
        (row.numpy().tobytes(), int(label)) for row, label in zip(whole.train.x, whole.train.y, strict=True)
    }
    taken = [
        (row.numpy().tobytes(), int(label)) for row, label in zip(part.train.x, part.train.y, strict=True)
    ]
    assert set(taken) <= known


def test_no_size_or_the_whole_size_is_the_whole_set() -> None:
    whole = load_once(Digits())
    assert torch.equal(subset(whole, None, None).train.x, whole.train.x)
    assert torch.equal(subset(whole, len(whole.train), len(whole.test)).test.x, whole.test.x)


@pytest.mark.parametrize("key", ["train_rows", "test_rows"])
def test_a_subset_larger_than_the_set_is_refused(key: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{key}: expected at most the .* rows of the set, got 5000"):
        Digits(**{key: 5000}).load()


@pytest.mark.parametrize("key", ["train_rows", "test_rows"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "10"])
@pytest.mark.parametrize("kind", [Digits, FashionSample, lambda **k: Torchvision("MNIST", **k)])
def test_sizes_must_be_counts(kind: Any, key: str, value: object) -> None:
    with pytest.raises(InvalidValue, match=f"^{key}: expected a whole number of at least 1"):
        kind(**{key: value})


def test_as_input_scales_to_the_unit_interval() -> None:
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 3, 1, 1)
    scaled = as_input(x, torch.device("cpu"))
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled.flatten(), torch.tensor([0.0, 0.2, 1.0]))


# ---- torchvision's sets, from files as their makers publish them


def idx(array: npt.NDArray[np.uint8]) -> bytes:
    """LeCun's format: a magic number that ends in the number of dimensions, sizes, bytes in C order."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def images(rows: int, *shape: int, seed: int) -> tuple[Images, Labels]:
    """Random pixels [N, c, h, w]: a wrong order of axes anywhere would show."""
    stream = np.random.default_rng(seed)
    x = stream.integers(0, 256, (rows, *shape), dtype=np.uint8)
    return x, np.arange(rows, dtype=np.int64) % 10


def write_idx(raw: Path, *, packed: bool = False) -> Written:
    raw.mkdir(parents=True, exist_ok=True)
    written = {"train": images(20, 1, 28, 28, seed=1), "t10k": images(10, 1, 28, 28, seed=2)}
    for part, (x, y) in written.items():
        for name, content in ((f"{part}-images-idx3-ubyte", x[:, 0]), (f"{part}-labels-idx1-ubyte", y)):
            data = idx(content.astype(np.uint8))
            path = raw / (f"{name}.gz" if packed else name)
            path.write_bytes(gzip.compress(data, 1) if packed else data)
    return {"train": written["train"], "test": written["t10k"]}


def write_cifar(root: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Python pickles of rows of 3,072 bytes: 1,024 red, then green, then blue, each row by row."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    sums: dict[str, str] = {}

    def put(name: str, content: dict[str, Any]) -> None:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()

    x, y = images(20, 3, 32, 32, seed=3)
    for number in range(5):
        rows = slice(4 * number, 4 * number + 4)
        put(f"data_batch_{number + 1}", {"data": x[rows].reshape(4, -1), "labels": y[rows].tolist()})
    test_x, test_y = images(10, 3, 32, 32, seed=4)
    put("test_batch", {"data": test_x.reshape(10, -1), "labels": test_y.tolist()})
    put("batches.meta", {"label_names": [str(i) for i in range(10)]})
    # torchvision refuses files whose MD5 is not that of the published ones; ours are told as known.
    train = [[name, sums[name]] for name in sorted(sums) if name.startswith("data_batch")]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", train)
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": sums["batches.meta"]})
    return {"train": (x, y), "test": (test_x, test_y)}


def write_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    """Matlab files: X is height x width x channel x row, y a column of 1 to 10, where 10 is the digit 0."""
    root.mkdir(parents=True, exist_ok=True)
    known = dict(datasets.SVHN.split_list)
    written = {}
    for part, rows, seed in (("train", 20, 5), ("test", 10, 6)):
        x, y = images(rows, 3, 32, 32, seed=seed)
        path = root / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": x.transpose(2, 3, 1, 0), "y": np.where(y == 0, 10, y)[:, None]})
        # As for CIFAR10: the MD5 of our file in place of that of the published one.
        known[part] = [known[part][0], path.name, hashlib.md5(path.read_bytes()).hexdigest()]
        written[part] = (x, y)
    monkeypatch.setattr(datasets.SVHN, "split_list", known)
    return written


def write(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Written:
    if name == "CIFAR10":
        return write_cifar(root, monkeypatch)
    if name == "SVHN":
        return write_svhn(root, monkeypatch)
    return write_idx(root / name / "raw")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with an empty cache, no installed copy and no network; gives the cache's folder."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("FEDLAF_DATA", str(cache))
    for name, known in list(sets.SETS.items()):
        monkeypatch.setitem(sets.SETS, name, sets.Known(known.package, None))
    for kind in (datasets.MNIST, datasets.CIFAR10, datasets.SVHN):
        monkeypatch.setattr(kind, "download", refuse(AssertionError("nothing may be downloaded here")))
    return cache


def refuse(error: BaseException) -> Any:
    def download(_self: object) -> None:
        raise error

    return download


@pytest.mark.parametrize("name", list(sets.SETS))
def test_every_pixel_and_label_of_a_set_arrives_in_its_place(
    name: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = write(name, tmp_path / "root", monkeypatch)
    source = Torchvision(name, str(tmp_path / "root"), download=False)
    source.prepare()
    held = source.load()
    assert (held.name, held.num_classes) == (name.lower(), 10)
    for part, rows in (("train", held.train), ("test", held.test)):
        x, y = written[part]
        assert rows.x.dtype == torch.uint8
        assert rows.y.dtype == torch.int64
        np.testing.assert_array_equal(rows.x.numpy(), x)
        np.testing.assert_array_equal(rows.y.numpy(), y)
    assert held.shape == written["train"][0].shape[1:]


def test_a_part_of_a_set_is_stratified(bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("MNIST", tmp_path, monkeypatch)
    held = Torchvision("MNIST", str(tmp_path), train_rows=10, download=False).load()
    assert held.train.y.bincount().tolist() == [1] * 10
    assert len(held.test) == 10


def test_debians_flat_folder_of_packed_files_is_found(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "share" / "fashion-mnist"
    written = write_idx(folder, packed=True)
    known = sets.Known("dataset-fashion-mnist", folder)
    monkeypatch.setitem(sets.SETS, "FashionMNIST", known)
    before = sorted(folder.iterdir())
    for source in (Torchvision("FashionMNIST"), Torchvision("FashionMNIST", str(folder))):
        source.prepare()
        held = source.load()
        np.testing.assert_array_equal(held.train.x.numpy(), written["train"][0])
        np.testing.assert_array_equal(held.test.y.numpy(), written["test"][1])
    assert sorted(folder.iterdir()) == before  # a system folder: nothing is unpacked into it


def test_the_cache_comes_before_the_installed_copy(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "installed"
    write_idx(installed, packed=True)
    monkeypatch.setitem(sets.SETS, "FashionMNIST", sets.Known(None, installed))
    assert sets.locate("FashionMNIST", None, download=False) == installed
    write_idx(bare / "FashionMNIST" / "raw")
    assert sets.locate("FashionMNIST", None, download=False) == bare


def test_the_cache_is_in_the_home_folder_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDLAF_DATA", str(tmp_path))
    assert sets.cache_folder() == tmp_path
    monkeypatch.delenv("FEDLAF_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert sets.cache_folder() == tmp_path / "home" / ".cache" / "fedlaf"


@pytest.mark.parametrize("download", [True, False])
@pytest.mark.parametrize("name", list(sets.SETS))
def test_a_root_that_is_not_there_is_refused_and_nothing_is_downloaded(
    name: str, download: bool, bare: Path, tmp_path: Path
) -> None:
    root = tmp_path / "mistyped"
    with pytest.raises(InvalidValue) as caught:
        Torchvision(name, str(root), download=download).prepare()
    assert caught.value.key == "root"
    assert caught.value.received == str(root)
    assert f"a copy of {name}" in str(caught.value)
    assert "data.root" in str(caught.value)
    assert not root.exists()


def test_the_error_says_which_package_to_install(bare: Path) -> None:
    with pytest.raises(InvalidValue, match="apt-get install dataset-fashion-mnist"):
        Torchvision("FashionMNIST", download=False).prepare()
    with pytest.raises(InvalidValue) as caught:
        Torchvision("SVHN", download=False).prepare()
    assert "apt-get" not in str(caught.value)


FAILURES = [
    urllib.error.URLError("no route to host"),
    urllib.error.HTTPError("http://set", 403, "Forbidden", http.client.HTTPMessage(), None),
    RuntimeError("File not found or corrupted."),
    PermissionError("read-only file system"),
    http.client.IncompleteRead(b"half"),
    EOFError("Compressed file ended before the end-of-stream marker was reached"),
]


@pytest.fixture(params=FAILURES, ids=lambda error: type(error).__name__)
def failure(request: pytest.FixtureRequest) -> Iterator[BaseException]:
    yield request.param
    request.param.__traceback__ = None


def test_a_download_that_fails_is_the_same_error(
    failure: BaseException, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.MNIST, "download", refuse(failure))
    with pytest.raises(InvalidValue, match=r"^root: expected a copy of FashionMNIST .*a network") as caught:
        Torchvision("FashionMNIST").prepare()
    assert caught.value.received == str(bare)


def test_a_download_that_works_is_done_once_and_found_by_load(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def download(self: datasets.MNIST) -> None:
        fetched.append(self.raw_folder)
        write_idx(Path(self.raw_folder))

    monkeypatch.setattr(datasets.MNIST, "download", download)
    source = Torchvision("FashionMNIST")
    source.prepare()
    assert set(fetched) == {str(bare / "FashionMNIST" / "raw")}
    count = len(fetched)
    source.prepare()
    assert len(source.load().train) == 20
    assert len(fetched) == count


def test_a_named_folder_that_exists_is_downloaded_into(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    monkeypatch.setattr(datasets.MNIST, "download", lambda self: write_idx(Path(self.raw_folder)))
    Torchvision("MNIST", str(root)).prepare()
    assert len(Torchvision("MNIST", str(root), download=False).load().test) == 10


@pytest.mark.parametrize("broken", ["empty", "cut"])
@pytest.mark.parametrize("name", list(sets.SETS))
def test_a_broken_copy_is_refused_like_a_missing_one(
    name: str, broken: str, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(name, tmp_path / "root", monkeypatch)
    largest = max((p for p in (tmp_path / "root").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = largest.read_bytes()
    largest.write_bytes(b"" if broken == "empty" else data[: len(data) // 2])
    with pytest.raises(InvalidValue, match=f"^root: expected a copy of {name}"):
        Torchvision(name, str(tmp_path / "root"), download=False).prepare()


def test_an_unknown_set_is_refused() -> None:
    with pytest.raises(InvalidValue, match=r"^name: expected one of .*'SVHN'.*, got 'CIFAR100'"):
        Torchvision("CIFAR100")
