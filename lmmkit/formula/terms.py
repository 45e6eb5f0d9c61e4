"""What a user wrote, as records: the left side, the fixed part and the random terms."""

from lmmkit.records import record
from lmmkit.structures.contract import CovarianceStructure


@record
class BarTerm:
    """One random term ``(effects | group)`` after expansion of ``||`` and ``a/b``.

    Attributes
    ----------
    effects : str
        The left of the bar as a formulaic right-hand side: ``"1 + Days"``, ``"0 + Machine"``.
    factors : tuple of str
        The columns whose combination is the grouping factor: ``("batch", "cask")`` for ``a:b``;
        for ``mm(a, b)`` the columns that each hold one membership.
    members : bool
        Whether the factors are memberships, all with levels of one kind.
    weights : tuple of str
        The columns of the memberships' loads, as many as factors, or none for equal loads.
    structure : CovarianceStructure or None
        What the formula says of the effects' covariance, ``ar1(...)``; None is unstructured.
    """

    effects: str
    factors: tuple[str, ...]
    members: bool = False
    weights: tuple[str, ...] = ()
    structure: CovarianceStructure | None = None

    @property
    def group(self) -> str:
        """The name of the grouping factor: ``"batch:cask"``, ``"mm(a, b)"``."""
        return f"mm({', '.join(self.factors)})" if self.members else ":".join(self.factors)


@record
class ModelFormula:
    """A parsed mixed-model formula.

    Attributes
    ----------
    text : str
        The formula as it was written.
    response : str
        The left side: ``"log(Weight)"``.
    fixed : str
        The fixed part as a formulaic right-hand side, intercept explicit: ``"1 + Time"``.
    random : tuple of BarTerm
        In the order written, ``||`` and ``a/b`` expanded.
    offsets : tuple of str
        The arguments of ``offset(...)``.
    """

    text: str
    response: str
    fixed: str
    random: tuple[BarTerm, ...]
    offsets: tuple[str, ...] = ()
