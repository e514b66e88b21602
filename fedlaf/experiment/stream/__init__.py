"""Requests as a stream: arrivals, windows, services, and what is measured of them."""
