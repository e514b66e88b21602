"""The client's side: what a client does with a message, and what it keeps to itself."""

from fedlaf.client.app import make_client_app
from fedlaf.client.runtime import ClientSpec

__all__ = ["ClientSpec", "make_client_app"]
