"""The bundled tables: columns, publication, where the table was taken from, and its licence."""

from collections.abc import Mapping
from types import MappingProxyType

import polars as pl

from lmmkit.records import record

_LME4 = "R package lme4 1.1-31"
_NLME = "R package nlme 3.1-162"
_GEEPACK = "R package geepack"
_LICENCE = "measurements as published; the R package that ships this table is under {}"
_GPL2 = _LICENCE.format("GPL (>= 2)")
_GPL3 = _LICENCE.format("GPL (>= 3)")
_DAVIES = (
    "O. L. Davies, P. L. Goldsmith (eds), Statistical Methods in Research and Production, "
    "4th ed., Oliver and Boyd, 1972, section "
)


@record
class Column:
    """One column: its name, type, and what it measures, with the unit."""

    name: str
    dtype: type[pl.DataType]
    meaning: str


@record
class Dataset:
    """What a bundled table holds and where it is from."""

    name: str
    title: str
    columns: tuple[Column, ...]
    publication: str
    source: str
    licence: str

    def __str__(self) -> str:
        """The record as text, one column of the table a line."""
        width = max(len(column.name) for column in self.columns)
        lines = [f"{self.name}: {self.title}", ""]
        lines += [
            f"  {column.name:<{width}}  {column.dtype.__name__:<7}  {column.meaning}"
            for column in self.columns
        ]
        lines += [
            "",
            f"Publication: {self.publication}",
            f"Table from: {self.source}",
            f"Licence: {self.licence}",
        ]
        return "\n".join(lines)


def _factor(name: str, meaning: str) -> Column:
    return Column(name, pl.String, meaning)


def _integer(name: str, meaning: str) -> Column:
    return Column(name, pl.Int64, meaning)


def _real(name: str, meaning: str) -> Column:
    return Column(name, pl.Float64, meaning)


_ALL = (
    Dataset(
        "cake",
        "breakage angle of chocolate cakes, three recipes at six temperatures",
        (
            _factor("replicate", "replicate within a recipe, 1 to 15"),
            _factor("recipe", "A, B or C"),
            _factor("temperature", "baking temperature in degrees Fahrenheit, as a factor"),
            _integer("angle", "angle at which the cake broke, degrees"),
            _integer("temp", "baking temperature in degrees Fahrenheit, as a number"),
        ),
        "F. E. Cook, Chocolate cake: I. Optimum baking temperature, thesis, Iowa State College, "
        "1938; W. G. Cochran, G. M. Cox, Experimental Designs, 2nd ed., Wiley, 1957, table 7.5",
        _LME4,
        _GPL2,
    ),
    Dataset(
        "dietox",
        "growth of slaughter pigs under diets with vitamin E and copper",
        (
            _factor("Pig", "the pig, 72 of them"),
            _factor("Evit", "vitamin E added: Evit000, Evit100 or Evit200 (mg)"),
            _factor("Cu", "copper added: Cu000, Cu035 or Cu175 (mg)"),
            _factor("Litter", "the litter"),
            _real("Start", "weight at the start of the experiment, kg"),
            _real("Weight", "weight, kg"),
            _real("Feed", "feed eaten since the start, kg; missing in week 1"),
            _integer("Time", "week of the experiment, 1 to 12"),
        ),
        "C. Lauridsen, S. Højsgaard, M. T. Sørensen, Influence of dietary rapeseed oil, vitamin E, "
        "and copper on the performance and the antioxidative and oxidative status of pigs, "
        "Journal of Animal Science 77, 1999, 906-916",
        _GEEPACK,
        _GPL3,
    ),
    Dataset(
        "Dyestuff",
        "yield of dyestuff by batch of an intermediate product",
        (
            _factor("Batch", "batch of the intermediate product, A to F"),
            _integer("Yield", "yield of dyestuff, grams of standard colour"),
        ),
        _DAVIES + "6.4",
        _LME4,
        _GPL2,
    ),
    Dataset(
        "Dyestuff2",
        "simulated data in which the variance between batches is estimated as zero",
        (
            _factor("Batch", "batch, A to F"),
            _real("Yield", "simulated yield"),
        ),
        "G. E. P. Box, G. C. Tiao, Bayesian Inference in Statistical Analysis, Addison-Wesley, "
        "1973, table 5.1.2",
        _LME4,
        _GPL2,
    ),
    Dataset(
        "ergoStool",
        "effort to arise from four types of stool",
        (
            _integer("effort", "effort on Borg's scale"),
            _factor("Type", "type of stool, T1 to T4"),
            _factor("Subject", "the subject, 9 of them"),
        ),
        "P. Wretenberg, U. P. Arborelius, F. Lindberg, The effects of a pneumatic stool and a "
        "one-legged stool on lower limb joint load and muscular activity during sitting and "
        "rising, Ergonomics 36, 1993, 519-535",
        _NLME,
        _GPL2,
    ),
    Dataset(
        "Machines",
        "productivity of six workers on three machines",
        (
            _factor("Worker", "the worker, 1 to 6"),
            _factor("Machine", "the machine, A, B or C"),
            _real("score", "productivity score"),
        ),
        "G. A. Milliken, D. E. Johnson, Analysis of Messy Data, volume I: Designed Experiments, "
        "Chapman and Hall, 1992, section 23.1",
        _NLME,
        _GPL2,
    ),
    Dataset(
        "Oats",
        "a split-plot experiment on oats: varieties and nitrogen",
        (
            _factor("Block", "the block, I to VI"),
            _factor("Variety", "Golden Rain, Marvellous or Victory"),
            _real("nitro", "nitrogen, hundredweight an acre"),
            _integer("yield", "yield, bushels an acre"),
        ),
        "F. Yates, Complex experiments, Supplement to the Journal of the Royal Statistical "
        "Society 2, 1935, 181-247",
        _NLME,
        _GPL2,
    ),
    Dataset(
        "Orthodont",
        "growth of an orthodontic distance in 27 children",
        (
            _real("distance", "pituitary to pterygomaxillary fissure, mm"),
            _integer("age", "age, years"),
            _factor("Subject", "the child, M01 to M16 and F01 to F11"),
            _factor("Sex", "Male or Female"),
        ),
        "R. F. Potthoff, S. N. Roy, A generalized multivariate analysis of variance model useful "
        "especially for growth curve problems, Biometrika 51, 1964, 313-326",
        _NLME,
        _GPL2,
    ),
    Dataset(
        "Pastes",
        "strength of a chemical paste: two assays a cask, three casks a batch",
        (
            _real("strength", "paste strength"),
            _factor("batch", "delivery batch, A to J"),
            _factor("cask", "cask within the batch, a, b or c"),
            _factor("sample", "batch and cask, A:a to J:c"),
        ),
        _DAVIES + "6.5",
        _LME4,
        _GPL2,
    ),
    Dataset(
        "Penicillin",
        "zones of growth inhibition: every sample of penicillin on every plate",
        (
            _integer("diameter", "diameter of the zone, mm"),
            _factor("plate", "assay plate, a to x"),
            _factor("sample", "penicillin sample, A to F"),
        ),
        _DAVIES + "6.6",
        _LME4,
        _GPL2,
    ),
    Dataset(
        "Rail",
        "travel time of ultrasonic waves through six rails",
        (
            _factor("Rail", "the rail, 1 to 6"),
            _integer("travel", "travel time, nanoseconds less 36 100"),
        ),
        "J. L. Devore, Probability and Statistics for Engineering and the Sciences, 5th ed., "
        "Duxbury, 2000",
        _NLME,
        _GPL2,
    ),
    Dataset(
        "sleepstudy",
        "reaction time over ten days of sleep deprivation",
        (
            _real("Reaction", "average reaction time, ms"),
            _integer("Days", "days of sleep deprivation, 0 to 9"),
            _factor("Subject", "the subject, 18 of them"),
        ),
        "G. Belenky and others, Patterns of performance degradation and restoration during sleep "
        "restriction and subsequent recovery: a sleep dose-response study, Journal of Sleep "
        "Research 12, 2003, 1-12",
        _LME4,
        _GPL2,
    ),
)

CATALOG: Mapping[str, Dataset] = MappingProxyType({dataset.name: dataset for dataset in _ALL})
