"""A small frame with a column of every kind."""

import numpy as np
import polars as pl

N = 60


def mixed_frame() -> pl.DataFrame:
    rng = np.random.default_rng(3)
    return pl.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": rng.uniform(1, 5, size=N),
            "z": rng.uniform(1, 5, size=N),
            "i": rng.integers(1, 5, N),
            "f": rng.choice(["a", "b", "c"], N),
            "b": rng.random(N) < 0.5,
            "g": np.arange(N) % 6,
            "h": rng.choice(["u", "v"], N),
            "w": rng.uniform(1, 2, N),
            "my x": rng.uniform(1, 2, N),
        }
    )
