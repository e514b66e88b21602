"""The Ray engine: clients on worker processes of this machine or of a cluster."""
