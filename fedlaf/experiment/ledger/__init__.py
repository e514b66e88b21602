"""The ledger of requests: an append-only file whose entries each hold the hash of the one before."""

from fedlaf.experiment.ledger.ledger import LEDGER, Ledger, LedgerSettings
from fedlaf.experiment.ledger.verify import Verification, verify

__all__ = ["LEDGER", "Ledger", "LedgerSettings", "Verification", "verify"]
