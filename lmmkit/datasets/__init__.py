"""Small real tables as Polars frames: ``load("dietox")``; ``describe`` says where each is from.

The tables are facts from published experiments, as R's packages ship them. Identifiers are text,
so that a formula reads them as factors; columns keep the names of the literature.
"""

from lmmkit.datasets.catalog import Column, Dataset
from lmmkit.datasets.load import describe, load, names

__all__ = ["Column", "Dataset", "describe", "load", "names"]
