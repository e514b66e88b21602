"""Who has withdrawn from a run for good, noted in its folder: a run that goes on must know before it asks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fedlaf.core.errors import InvalidValue, RoundFailed
from fedlaf.core.safe_files import write_text
from fedlaf.core.types import ClientId
from fedlaf.method.contract import ClientRegistry

WITHDRAWN = "withdrawn.json"
"""File of a run's withdrawals."""


class Refused(RoundFailed):
    """A stage or a request that would touch a client that has withdrawn."""


@dataclass(frozen=True)
class Withdrawn:
    """A client that has withdrawn: its node, the rows that it held, and the request that was served."""

    node: int
    rows: int
    request: str


@dataclass(frozen=True)
class Withdrawals:
    """The clients that have withdrawn from a run; with `erased`, what held their influence is gone too.

    `federation` is a hash of what the clients' ids refer to.
    """

    federation: str
    clients: Mapping[ClientId, Withdrawn] = field(default_factory=dict)
    erased: bool = False

    @classmethod
    def of(cls, folder: Path, federation: str) -> Withdrawals:
        """Those noted in a run's folder, none where they are of another federation.

        Raises InvalidValue for a file that cannot be read: it cannot be told who must not be asked.
        """
        path = folder / WITHDRAWN
        if not path.is_file():
            return cls(federation)
        try:
            found = json.loads(path.read_text())
            clients = {int(k): Withdrawn(**held) for k, held in found["clients"].items()}
            noted = cls(str(found["federation"]), clients, bool(found["erased"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            expected = f"a folder whose {WITHDRAWN} can be read ({type(error).__name__})"
            raise InvalidValue("resume", expected, str(folder)) from error
        return noted if noted.federation == federation else cls(federation)

    def write(self, folder: Path) -> None:
        """Note them in the run's folder."""
        folder.mkdir(parents=True, exist_ok=True)
        held = {str(client): asdict(one) for client, one in self.clients.items()}
        noted = {"federation": self.federation, "erased": self.erased, "clients": held}
        write_text(folder / WITHDRAWN, json.dumps(noted, indent=1) + "\n")

    def joined(self, clients: Iterable[ClientId], registry: ClientRegistry, request: str) -> Withdrawals:
        """With these clients of a registry too."""
        more = {k: Withdrawn(registry.nodes[k], registry.sizes[k], request) for k in clients}
        return replace(self, clients={**self.clients, **more})

    @property
    def nodes(self) -> dict[ClientId, int]:
        """The node of each of them."""
        return {client: one.node for client, one in self.clients.items()}

    @property
    def known(self) -> dict[ClientId, tuple[int, int]]:
        """The node and the rows of each of them, which need not be asked for again."""
        return {client: (one.node, one.rows) for client, one in self.clients.items()}

    def refuse(self, stage: str, registry: ClientRegistry) -> None:
        """Raise RoundFailed for a stage that would ask one of them."""
        offline = set(registry.request.clients) if registry.request.offline else set()
        asked = {*registry.retain_clients, *registry.forget_clients} - offline
        touched = sorted(asked & set(self.clients))
        if touched:
            served = self.clients[touched[0]].request
            raise Refused(
                f"{stage} is refused: it would ask client {touched[0]}, which has withdrawn for good "
                f"({served} of this run, or of the one that it resumes)"
            )
