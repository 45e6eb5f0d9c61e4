"""Designs: from a frame or from arrays to the matrices of a model."""

from lmmkit.design.arrays import build_design_from_arrays
from lmmkit.design.blocks import GroupBlock
from lmmkit.design.build import build_design
from lmmkit.design.design import Design, DroppedRows, RandomTerm
from lmmkit.design.group import group
from lmmkit.design.known_covariance import level_covariance, level_precision
from lmmkit.design.memberships import Memberships, incidence, memberships
from lmmkit.design.relation import LevelCovariance
from lmmkit.design.rows import DesignRows, design_rows

__all__ = [
    "Design",
    "DesignRows",
    "DroppedRows",
    "GroupBlock",
    "LevelCovariance",
    "Memberships",
    "RandomTerm",
    "build_design",
    "build_design_from_arrays",
    "design_rows",
    "group",
    "incidence",
    "level_covariance",
    "level_precision",
    "memberships",
]
