"""What a user asks of the residuals: a correlation inside groups, and variance functions."""

from typing import Any

from lmmkit.errors import ArgumentError
from lmmkit.records import record
from lmmkit.residual.contract import Correlation, VarianceFunction

_LONGEST = 80


@record
class Residual:
    """The structure of the residuals: ``eps ~ N(0, sigma2 G R G / weights)``.

    Attributes
    ----------
    correlation : Correlation or None
        R, by groups: :func:`ar1`, :func:`compound_symmetry`, ...
    variance : VarianceFunction or tuple of these
        Such as :func:`per_stratum`; of several, G holds the product.
    """

    correlation: Correlation | None = None
    variance: VarianceFunction | tuple[VarianceFunction, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.correlation is not None and not isinstance(self.correlation, Correlation):
            raise ArgumentError(
                "Residual: expected a correlation such as ar1('time'), got "
                f"{self.correlation!r:.60}"
            )
        for part in self.variances:
            if not isinstance(part, VarianceFunction):
                raise ArgumentError(
                    "Residual: expected a variance function such as per_stratum('sex'), or a tuple "
                    f"of variance functions, got {part!r:.60}"
                )
        if self.correlation is None and not self.variances:
            raise ArgumentError(
                "Residual: expected a correlation, a variance function or both; leave residual= "
                "out for independent rows of equal variance"
            )

    def __str__(self) -> str:
        own = () if self.correlation is None else (self.correlation,)
        texts = [(str(part), type(part).__name__) for part in (*own, *self.variances)]
        return ", ".join(text if len(text) <= _LONGEST else name for text, name in texts)

    @property
    def variances(self) -> tuple[VarianceFunction, ...]:
        """The variance functions."""
        return self.variance if isinstance(self.variance, tuple) else (self.variance,)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the frame that the structures need."""
        names: list[str | None] = [name for part in self.variances for name in part.columns]
        if self.correlation is not None:
            names += self.correlation.columns
            names += (self.correlation.group or "").split(":")
        return tuple(dict.fromkeys(name for name in names if name))

    @property
    def uses_fitted(self) -> bool:
        """Whether a variance depends on the fitted values."""
        return any(None in part.columns for part in self.variances)


def checked_residual(residual: Any) -> Residual:
    """``residual`` if it is a :class:`Residual`."""
    if isinstance(residual, Residual):
        return residual
    raise ArgumentError(
        "residual: expected a Residual, such as Residual(ar1('time', group='id')), got "
        f"{residual!r:.60}"
    )
