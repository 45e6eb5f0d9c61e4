"""The settings of ``tests/`` hold here too, whichever of the two runs."""

import tests.conftest  # noqa: F401
