"""Settings for every test.

Hypothesis draws the same examples each run and has no deadline. The matrices are small: one BLAS
thread is faster than two that wait for each other.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("lmmkit", deadline=None, derandomize=True)
settings.load_profile("lmmkit")
