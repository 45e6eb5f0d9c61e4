"""Factors that are among the fixed effects too: REML says nothing of their variance."""

import numpy as np
import pytest

from lmmkit import datasets, fit, variance_components

MACHINES = datasets.load("Machines")


@pytest.mark.parametrize(
    ("formula", "known"),
    [
        ("score ~ Worker + (1 | Worker)", ()),
        ("score ~ Machine + Worker + (1 | Worker)", ()),
        ("score ~ Worker + (1 | Worker) + (1 | Machine)", ("Machine",)),
        ("score ~ Machine + Worker + (1 | Worker) + (1 | Worker:Machine)", ("Worker:Machine",)),
    ],
)
def test_a_variance_that_fixed_effects_take_up_is_flat(
    formula: str, known: tuple[str, ...]
) -> None:
    found = fit(formula, MACHINES)
    assert found.certificate.converged
    assert found.certificate.inertia == (len(known), 1, 0)
    kept = " + ".join([formula.split(" + (")[0], *(f"(1 | {group})" for group in known)])
    assert found.loglik == pytest.approx(fit(kept, MACHINES).loglik, rel=1e-9)
    errors = variance_components(found).select("group", "std_error").rows()
    assert [group for group, error in errors if error is not None] == [*known, "Residual"]
    assert max(float(np.max(psi)) for psi in found.natural.psi) < 1e3 * found.natural.sigma2
