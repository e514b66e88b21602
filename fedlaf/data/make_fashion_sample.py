"""Make fedlaf/data/fashion_sample.npz from the full Fashion-MNIST (MIT licence, Zalando SE).

    python -m fedlaf.data.make_fashion_sample [--root FOLDER]

10,000 training and 2,000 test rows, stratified, drawn with a fixed seed: the same file each time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from fedlaf.data import Torchvision

TARGET = Path(__file__).parent / "fashion_sample.npz"


def main() -> None:
    """Draw the rows and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=None, help="folder with torchvision's files")
    parser.add_argument("--to", type=Path, default=TARGET)
    given = parser.parse_args()
    source = Torchvision("FashionMNIST", given.root, train_rows=10_000, test_rows=2_000)
    source.prepare()
    chosen = source.load()
    np.savez_compressed(
        given.to,
        train_x=chosen.train.x.numpy(),
        train_y=chosen.train.y.numpy().astype(np.uint8),
        test_x=chosen.test.x.numpy(),
        test_y=chosen.test.y.numpy().astype(np.uint8),
    )


if __name__ == "__main__":
    main()
