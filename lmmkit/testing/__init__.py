"""The conformance checks that the library's own structures and steps pass, for yours.

:mod:`lmmkit.testing.strategies` holds hypothesis strategies; it needs the extra ``test``.
"""

from lmmkit.testing.residuals import check_correlation, check_variance
from lmmkit.testing.steps import check_step
from lmmkit.testing.structures import check_structure

__all__ = ["check_correlation", "check_step", "check_structure", "check_variance"]
