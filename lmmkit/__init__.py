"""Linear mixed-effects models: a pipeline of pure functions over frozen records."""

from lmmkit.fit import Fit, fit, fit_design

__all__ = ["Fit", "fit", "fit_design"]
