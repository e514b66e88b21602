"""Signs of methods and measures in the plots of a comparison."""

from __future__ import annotations

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's; with the markers each method has a sign of its own."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def style(place: int) -> dict[str, str]:
    """Colour and marker of the method at `place`: none is used twice below 49."""
    number = (place + place // len(COLOURS)) % len(MARKERS)
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[number]}
