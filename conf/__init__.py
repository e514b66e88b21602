"""Configuration groups; this file lets the installed console script find them."""
