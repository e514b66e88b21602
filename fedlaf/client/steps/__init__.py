"""Client steps: what a client does in one phase of a method, one file a family."""
