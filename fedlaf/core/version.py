"""The version of this package, which a run notes down."""

VERSION = "0.1.0"
