"""What the documentation site makes from the code itself."""
