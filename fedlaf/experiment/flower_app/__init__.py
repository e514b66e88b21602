"""Flower's own way in: the apps that `flwr run` and SuperNodes load.

A client's process is started for each message, so `client` imports no more than clients need.
"""
