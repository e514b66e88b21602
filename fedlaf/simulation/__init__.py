"""The engines: Flower grids that run clients in this process or on Ray workers."""

from fedlaf.simulation.inline import Inline, InlineGrid
from fedlaf.simulation.polled import PolledGrid
from fedlaf.simulation.ray.engine import Ray, RayCluster
from fedlaf.simulation.ray.grid import RayGrid

__all__ = ["Inline", "InlineGrid", "PolledGrid", "Ray", "RayCluster", "RayGrid"]
