"""The three parameterizations and the way between them."""

from lmmkit.parameters.checks import Layout
from lmmkit.parameters.convert import (
    to_natural,
    to_natural_jacobian,
    to_profile,
    to_profile_jacobian,
    to_square_root,
    to_square_root_jacobian,
)
from lmmkit.parameters.natural import NaturalParams
from lmmkit.parameters.profile import ProfileParams
from lmmkit.parameters.square_root import SquareRootParams

__all__ = [
    "Layout",
    "NaturalParams",
    "ProfileParams",
    "SquareRootParams",
    "to_natural",
    "to_natural_jacobian",
    "to_profile",
    "to_profile_jacobian",
    "to_square_root",
    "to_square_root_jacobian",
]
