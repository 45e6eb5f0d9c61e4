"""Settings for every test: hypothesis draws the same examples each run and has no deadline."""

from hypothesis import settings

settings.register_profile("lmmkit", deadline=None, derandomize=True)
settings.load_profile("lmmkit")
