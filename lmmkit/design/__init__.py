"""Designs: from a frame or from arrays to the matrices of a model."""

from lmmkit.design.blocks import GroupBlock
from lmmkit.design.build import build_design
from lmmkit.design.design import Design, DroppedRows, RandomTerm

__all__ = ["Design", "DroppedRows", "GroupBlock", "RandomTerm", "build_design"]
