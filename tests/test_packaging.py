"""What is installed: the name fedlaf alone, whole, whatever lies in the folder that it is called from."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy
import pytest
from flwr.cli.build import build_fab_from_disk
from mypy.modulefinder import FindModuleCache, SearchPaths
from mypy.options import Options

pytestmark = pytest.mark.xdist_group("packaging")
ROOT = Path(__file__).parent.parent
TREE = (
    "LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "MANIFEST.in", "Makefile",
    "pyproject.toml", "requirements.lock", ".ci", "benchmarks", "conf", "docs", "examples", "fedlaf",
    "strategies", "tests",
)  # fmt: skip
BRIEF = ("experiment=smoke", "clients=3", "train.rounds=1", "data.train_rows=400", "data.test_rows=100",
         "evaluation.curve_rows=0")  # fmt: skip
COMMANDS = {
    "module": (("python", "-m", "fedlaf"), ("engine=inline",)),
    "script": (("fedlaf",), ("engine=ray", "engine.workers=1")),
}


@dataclass(frozen=True)
class Environment:
    """A virtual environment with fedlaf in it; all else comes from the one that tests run in."""

    folder: Path

    @classmethod
    def made(cls, folder: Path, *install: str) -> Environment:
        venv.create(folder, symlinks=True)
        made = cls(folder)
        # A plain path: what is installed there is found, links to this checkout are not followed.
        (made.packages / "outer.pth").write_text(str(Path(numpy.__file__).parent.parent))
        options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        python = str(folder / "bin" / "python")
        ran([sys.executable, "-m", "pip", "--python", python, "install", *options, *install], folder)
        return made

    @property
    def packages(self) -> Path:
        paths = {"base": str(self.folder), "platbase": str(self.folder)}
        return Path(sysconfig.get_path("purelib", "venv", paths))

    def run(self, words: Sequence[str], cwd: Path, path: str = ".") -> str:
        return ran([str(self.folder / "bin" / words[0]), *words[1:]], cwd, path)


def ran(words: Sequence[str], cwd: Path, path: str = "") -> str:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        words, cwd=cwd, env={**variables, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def built(tree: Path, what: str, where: Path) -> Path:
    script = f"from setuptools import build_meta; build_meta.build_{what}({str(where)!r})"
    ran([sys.executable, "-c", script], tree)
    (file,) = where.iterdir()
    return file


def files_of(wheel: Path) -> dict[str, int]:
    """Checksums by name."""
    with zipfile.ZipFile(wheel) as packed:
        return {info.filename: info.CRC for info in packed.infolist()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: building leaves files behind."""
    copy = tmp_path_factory.mktemp("tree")
    for name in TREE:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment.made(tmp_path_factory.mktemp("installed"), str(wheel))


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A user's folder, with configurations and strategies of its own."""
    for name in ("conf/data", "strategies"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "strategies" / "__init__.py").touch()
    (tmp_path / "conf" / "data" / "mine.yaml").write_text("_target_: fedlaf.data.Digits\ntrain_rows: 300\n")
    return tmp_path


def test_each_folder_with_code_is_listed_as_a_package() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {
        file.parent for name in ("fedlaf", "conf", "strategies") for file in (ROOT / name).rglob("*.py")
    }
    names = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(setuptools["packages"]) == {n if n.startswith("fedlaf") else f"fedlaf.{n}" for n in names}
    assert len(setuptools["packages"]) == len(set(setuptools["packages"]))


def test_the_wheel_claims_one_name_and_lacks_nothing(tree: Path, wheel: Path) -> None:
    names = {name for name in files_of(wheel) if ".dist-info/" not in name}
    here = {
        path.relative_to(tree).as_posix()
        for top in ("fedlaf", "conf", "strategies")
        for path in (tree / top).rglob("*.*")
        if path.is_file()
    }
    assert names == {name if name.startswith("fedlaf/") else f"fedlaf/{name}" for name in here}
    assert {"fedlaf/conf/config.yaml", "fedlaf/strategies/laf_adam.py", "fedlaf/py.typed"} <= names


@pytest.fixture(scope="module")
def unpacked(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, which holds no links."""
    packed, folder = (tmp_path_factory.mktemp(name) for name in ("packed", "unpacked"))
    shutil.unpack_archive(built(tree, "sdist", packed), folder, filter="data")
    (archive,) = folder.iterdir()
    return archive


def test_the_source_archive_makes_the_same_wheel(unpacked: Path, wheel: Path, tmp_path: Path) -> None:
    source = shutil.copytree(unpacked, tmp_path / "source")  # building leaves files behind
    (tmp_path / "again").mkdir()
    assert files_of(built(source, "wheel", tmp_path / "again")) == files_of(wheel)


def test_the_source_archive_holds_the_checkout_and_nothing_else(tree: Path, unpacked: Path) -> None:
    """What a build leaves behind stays out: `tree` has some of that by now."""
    assert {path.name for path in unpacked.iterdir()} == {*TREE, "PKG-INFO", "setup.cfg", "fedlaf.egg-info"}
    held, kept = ({p.relative_to(top) for p in top.rglob("*") if p.is_file()} for top in (unpacked, tree))
    assert {path for path in kept if path.parts[0] in {*TREE} - {"fedlaf"}} <= held
    assert [path for path in held if path.suffix == ".pyc" or "build" in path.parts] == []


@pytest.mark.parametrize(("command", "engine"), COMMANDS.values(), ids=COMMANDS.keys())
def test_the_shipped_job_runs_where_others_have_a_folder_conf(
    installed: Environment, elsewhere: Path, command: Sequence[str], engine: Sequence[str]
) -> None:
    """Their conf is no package, then one; workers of Ray start in that folder, too."""
    assert "forget:" in installed.run([*command, "--cfg", "job"], elsewhere)
    (elsewhere / "conf" / "__init__.py").touch()
    installed.run([*command, *BRIEF, *engine], elsewhere)
    assert list(elsewhere.glob("outputs/*/*/report.json"))


def test_groups_of_ones_own_stand_beside_ours(installed: Environment, elsewhere: Path) -> None:
    shown = installed.run(["fedlaf", "--config-dir", "conf", "data=mine", "--cfg", "job"], elsewhere)
    assert "train_rows: 300" in shown
    assert "_target_: fedlaf.strategies.laf.Laf" in shown


def test_each_example_runs_as_its_page_says(installed: Environment, tmp_path: Path) -> None:
    """The lines of examples/README.md, in brief: they name every file of examples/conf."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    page = (ROOT / "examples" / "README.md").read_text().splitlines()
    lines = [line for line in page if line.startswith("fedlaf --config-dir examples/conf ")]
    conf = ROOT / "examples" / "conf"
    options = {file.relative_to(conf).with_suffix("") for file in conf.rglob("*.yaml")}
    assert options
    assert {f"{option.parent}={option.name}" for option in options} <= {
        word.removeprefix("+") for line in lines for word in line.split()
    }
    brief = "clients=3 train.rounds=1 evaluation.curve_rows=0 engine=inline"
    jobs = [
        f"{line} {brief} hydra.run.dir=run-{number}"
        + ("" if "breast_cancer" in line else " data.train_rows=400 data.test_rows=100")
        for number, line in enumerate(lines)
    ]
    (tmp_path / "jobs").write_text("\n".join(jobs))
    # In one process: starting one costs more than such a job.
    script = (
        "import pathlib, sys\nfrom fedlaf.__main__ import main\n"
        "for job in pathlib.Path('jobs').read_text().splitlines():\n    sys.argv = job.split()\n    main()"
    )
    installed.run(["python", "-c", script], tmp_path, "examples")
    assert len(list(tmp_path.glob("run-*/report.json"))) == len(lines)


def test_no_other_name_is_ours(installed: Environment, elsewhere: Path) -> None:
    script = "import conf, strategies; print(*conf.__path__, *strategies.__path__, sep='\\n')"
    found = installed.run(["python", "-c", script], elsewhere).split()
    assert {Path(path).resolve().parent for path in found} == {elsewhere}
    script = "from importlib.util import find_spec; print(find_spec('conf'), find_spec('strategies'))"
    (elsewhere / "empty").mkdir()
    assert installed.run(["python", "-c", script], elsewhere / "empty").split() == ["None", "None"]


def test_an_editable_install_does_the_same(tree: Path, elsewhere: Path) -> None:
    editable = Environment.made(elsewhere / "venv", "--editable", str(tree))
    script = "import fedlaf.conf as c, fedlaf.strategies.base as b; print(c.__file__, b.__file__)"
    found = editable.run(["python", "-c", script], elsewhere).split()
    assert {Path(path).resolve().relative_to(tree).parts[0] for path in found} == {"conf", "strategies"}
    shown = editable.run(["fedlaf", "--config-dir", "conf", "data=mine", "--cfg", "job"], elsewhere)
    assert "train_rows: 300" in shown


def test_the_app_of_flower_runs_from_its_own_folder(installed: Environment, elsewhere: Path) -> None:
    """It holds no links and no data; Flower puts its folder ahead of what is installed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "GitWildMatchPattern", DeprecationWarning)
        packed = build_fab_from_disk(ROOT)
    app = elsewhere / "app"
    zipfile.ZipFile(io.BytesIO(packed)).extractall(app)
    assert {path.name for path in app.iterdir() if path.is_dir()} == {".info", "conf", "fedlaf", "strategies"}
    script = "import fedlaf.conf as c, fedlaf.strategies as s; print(c.__file__, s.__file__)"
    found = installed.run(["python", "-c", script], elsewhere, str(app)).split()
    assert [Path(path).parent for path in found] == [app / "conf", app / "strategies"]
    installed.run(["python", "-m", "fedlaf", *BRIEF, "engine=inline"], elsewhere, str(app))
    assert list(elsewhere.glob("outputs/*/*/report.html"))


def test_the_type_checker_follows_the_strategies(installed: Environment) -> None:
    """In the checkout, and where the package is installed (it is marked as typed)."""
    for path, packages in (((str(ROOT),), ()), ((), (str(installed.packages),))):
        finder = FindModuleCache(SearchPaths(path, (), packages, ()), None, Options())
        found = finder.find_module("fedlaf.strategies.laf_adam")
        assert isinstance(found, str), found
        assert found.endswith("fedlaf/strategies/laf_adam.py")
