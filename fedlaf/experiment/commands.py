"""The commands beside a run: compare, board, resume, verify. Each gives what is to be printed."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedlaf.core.errors import RoundFailed, require
from fedlaf.experiment import interruption
from fedlaf.experiment.config import SEARCH
from fedlaf.experiment.interruption import Interrupted

HELP = {"--help", "-h"}

CONFIG_DIR = ("--config-dir", "-cd")

BOARD = """fedlaf board FOLDER

Writes FOLDER/board.html: one page over all runs, multiruns and comparisons in
the folder, to list, filter, sort and compare them, with a link to each report.

  fedlaf board outputs
  fedlaf board multirun"""

RESUME = """fedlaf resume FOLDER

Goes on with a run, a job of a multirun or a comparison whose process has ended,
in its folder. The result has the same bits as if it had never ended.

  fedlaf resume outputs/DATE/TIME
  fedlaf resume outputs/compare/backdoor"""

VERIFY = """fedlaf verify FOLDER [public_key=FILE] [head=HASH]

Checks the ledger of a run, its hashes and, with a public key, its signatures.
Exit code 1 where an entry does not fit; the first one is named.

  fedlaf verify outputs/DATE/TIME"""


def compare(words: Sequence[str], verbose: bool) -> str:
    """Compare methods, or say how, or show the configuration."""
    from fedlaf.experiment import comparison

    flags = {*HELP, "--cfg", "-c", "job"} & set(words)
    overrides = with_folders([word for word in words if word not in flags])
    if flags & HELP:
        return comparison.usage(overrides)
    return comparison.shown(overrides) if flags else _run_comparison(overrides, verbose)


def _run_comparison(overrides: Sequence[str], verbose: bool) -> str:
    from fedlaf.experiment import comparison

    with interruption.listening():
        try:
            return comparison.compare(overrides, in_brief=not verbose)
        except Interrupted as stopped:
            command = shlex.join(["fedlaf", "compare", *overrides])
            raise Interrupted(f"{stopped}; go on with: {command}") from stopped


def multirun(words: Sequence[str], verbose: bool) -> str:
    """Run the combinations of a multirun by our own runner."""
    from fedlaf.experiment import comparison

    del verbose
    with interruption.listening():
        return comparison.multirun(with_folders(words))


def board(words: Sequence[str], verbose: bool) -> str:
    """Write the page over the runs in a folder."""
    from fedlaf import report

    del verbose
    if HELP & set(words):
        return BOARD
    require(len(words) == 1, "board", "one folder", " ".join(words))
    path = Path(words[0]) / "board.html"
    report.replace(path, report.board_page(path.parent))
    return str(path)


def verify(words: Sequence[str], verbose: bool) -> str:
    """Check the ledger of a run."""
    from fedlaf.experiment import ledger

    del verbose
    if HELP & set(words):
        return VERIFY
    options = dict(word.split("=", 1) for word in words if "=" in word)
    folders = [word for word in words if "=" not in word]
    require(len(folders) == 1, "verify", "one folder", " ".join(folders))
    unknown = sorted(set(options) - {"public_key", "head"})
    require(not unknown, "verify", "public_key=FILE or head=HASH", " ".join(unknown))
    key = Path(options["public_key"]) if "public_key" in options else None
    found = ledger.verify(Path(folders[0]), key=key, head=options.get("head"))
    if found.fault:
        raise RoundFailed(found.fault)
    return found.line


def resume(words: Sequence[str], verbose: bool) -> str:
    """Go on with a run or a comparison."""
    from fedlaf import report
    from fedlaf.experiment import api
    from fedlaf.experiment.comparison import overrides_of

    if HELP & set(words):
        return RESUME
    require(len(words) == 1, "resume", "one folder", " ".join(words))
    folder = Path(words[0])
    overrides = overrides_of(folder)
    if overrides is not None:
        return _run_comparison(overrides, verbose)
    require((folder / "run.json").is_file(), "resume", "the folder of a run that was begun", words[0])
    with going_on(folder):
        with report.log_to(folder / report.LOG_FILE) as screen:
            finished = api.resume(folder, screen=screen)
        report.tell(finished, folder, verbose=verbose)
    return ""


def with_folders(words: Sequence[str]) -> list[str]:
    """Words with `--config-dir FOLDER` as the override that says the same: Hydra's flags are no overrides."""
    left, folders = list[str](), list[str]()
    coming = iter(words)
    for word in coming:
        flag, _, value = word.partition("=")
        if flag not in CONFIG_DIR:
            left.append(word)
            continue
        folder = value or next(coming, "")
        require(Path(folder).is_dir() and folder != "", flag, "a folder of configuration", folder)
        folders.append(Path(folder).absolute().as_uri())
    return [*([f"{SEARCH}[{','.join(folders)}]"] if folders else []), *left]


def command_first(words: Sequence[str]) -> list[str]:
    """The words with the command in front, where `--config-dir FOLDER` stands before it."""
    place = 0
    while words[place : place + 1] and words[place].partition("=")[0] in CONFIG_DIR:
        place += 1 if "=" in words[place] else 2
    if words[place : place + 1] and words[place] in COMMANDS:
        return [words[place], *words[:place], *words[place + 1 :]]
    return list(words)


COMMANDS: dict[str, Callable[[Sequence[str], bool], str]] = {
    "compare": compare,
    "board": board,
    "resume": resume,
    "verify": verify,
}
"""By the word that calls them: words that are no configuration of a run."""


@contextlib.contextmanager
def going_on(folder: Path) -> Iterator[None]:
    """Let a run in the folder be interrupted, and say then what it has saved and how to go on from there."""
    from fedlaf.experiment.checkpoints import saved_stages

    with interruption.listening():
        try:
            yield
        except Interrupted as stopped:
            saved = ", ".join(saved_stages(folder)) or "nothing yet"
            command = shlex.join(["fedlaf", "resume", str(folder)])
            raise Interrupted(f"{stopped}; saved in {folder}: {saved}; go on with: {command}") from stopped
