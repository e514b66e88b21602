"""Nested values taken apart into what JSON holds and named arrays, and put together again, exactly.

Nothing is pickled: what is read back is numbers, text, arrays and containers of them, whatever the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Arrays = dict[str, npt.NDArray[Any]]
"""Arrays by name, as a safetensors file holds them."""

KIND = "~"
"""Key that says in JSON what an object stands for; plain text and numbers stand for themselves."""


class NotStorable(TypeError):
    """A value that is neither text, a number, an array nor a container of them."""


def taken_apart(value: Any) -> tuple[Any, Arrays]:
    """The value as JSON knows it, and the arrays that it refers to.

    Takes None, bool, int, float, str, bytes, numpy and torch arrays, and lists, tuples, sets and dicts of
    these. Raises NotStorable for anything else.
    """
    arrays: Arrays = {}
    return _apart(value, arrays), arrays


def put_together(plain: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    """The value that `taken_apart` took apart. Raises ValueError or KeyError for what it cannot have left."""
    if isinstance(plain, list):
        return [put_together(one, arrays) for one in plain]
    if not isinstance(plain, dict):
        return plain
    return _MAKE[plain[KIND]](plain, arrays)


def _apart(value: Any, arrays: Arrays) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, bool | int | float | str):  # such as a StrEnum: its plain value
        plain = next(kind for kind in (bool, int, float, str) if isinstance(value, kind))
        return plain(value)
    if isinstance(value, list):
        return [_apart(one, arrays) for one in value]
    if isinstance(value, np.ndarray | np.generic | torch.Tensor):
        return _array(value, arrays)
    return _container(value, arrays)


def _container(value: Any, arrays: Arrays) -> dict[str, Any]:
    if isinstance(value, bytes):
        return {KIND: "bytes", "of": value.hex()}
    if isinstance(value, tuple):
        return {KIND: "tuple", "of": [_apart(one, arrays) for one in value]}
    if isinstance(value, set | frozenset):
        ordered = sorted(value, key=lambda one: (str(type(one)), one))
        kind = "set" if isinstance(value, set) else "frozenset"
        return {KIND: kind, "of": [_apart(one, arrays) for one in ordered]}
    if isinstance(value, Mapping):
        return {KIND: "dict", "of": [[_apart(k, arrays), _apart(v, arrays)] for k, v in value.items()]}
    raise NotStorable(f"a {type(value).__module__}.{type(value).__qualname__}")


def _array(value: Any, arrays: Arrays) -> dict[str, Any]:
    name = str(len(arrays))
    if isinstance(value, torch.Tensor):
        held = value.detach().cpu().contiguous()
        if held.dtype is torch.bfloat16:  # which numpy has not
            arrays[name] = held.view(torch.int16).numpy()
            return {KIND: "bfloat16", "of": name}
        arrays[name] = held.numpy()
        return {KIND: "tensor", "of": name}
    found = np.asarray(value, order="C")
    if found.dtype.kind not in "biufc":
        raise NotStorable(f"an array of {found.dtype}")
    arrays[name] = found
    return {KIND: "array" if isinstance(value, np.ndarray) else "scalar", "of": name}


def _writable(plain: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return np.array(arrays[plain["of"]])


def _items(plain: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> list[Any]:
    return [put_together(one, arrays) for one in plain["of"]]


_MAKE: dict[str, Callable[[Any, Mapping[str, npt.NDArray[Any]]], Any]] = {
    "bytes": lambda plain, _: bytes.fromhex(plain["of"]),
    "tuple": lambda plain, arrays: tuple(_items(plain, arrays)),
    "set": lambda plain, arrays: set(_items(plain, arrays)),
    "frozenset": lambda plain, arrays: frozenset(_items(plain, arrays)),
    "dict": lambda plain, arrays: {
        put_together(key, arrays): put_together(one, arrays) for key, one in plain["of"]
    },
    "array": _writable,
    "scalar": lambda plain, arrays: arrays[plain["of"]][()],
    "tensor": lambda plain, arrays: torch.from_numpy(_writable(plain, arrays)),
    "bfloat16": lambda plain, arrays: torch.from_numpy(_writable(plain, arrays)).view(torch.bfloat16),
}
