"""Drawing of procedural street scenes: a pinhole camera, a lit street, buildings, and what stands and drives there."""

from segrobust.data.scenes.render import render_scene
from segrobust.data.scenes.world import SCENES

__all__ = ["SCENES", "render_scene"]
