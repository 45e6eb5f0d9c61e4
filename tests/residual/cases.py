"""nlme's fits of residual structures, and the same models in lmmkit's words."""

import functools
import json
from typing import Any

import attrs
import polars as pl

from lmmkit.fit import Fit, fit
from lmmkit.residual import (
    Residual,
    ar1,
    arma,
    car1,
    compound_symmetry,
    constant_plus_power,
    exponential,
    exponential_variance,
    gaussian,
    per_stratum,
    power,
    rational_quadratic,
    spherical,
    unstructured,
)
from tests.helpers import REFERENCE, reference_frame

_TURN = "6.283185307179586"
_OVARY = f"follicles ~ sin({_TURN} * Time) + cos({_TURN} * Time)"
_WEIGHT = "weight ~ Time * Diet"
_DIALYZER = "rate ~ (pressure + I(pressure**2) + I(pressure**3) + I(pressure**4)) * QB"
_ORTHO = "distance ~ age * Sex"
_PLACE = ("latitude", "longitude")

MODELS: dict[str, tuple[str, Residual]] = {
    "ortho_varident": (f"{_ORTHO} + (age | Subject)", Residual(variance=per_stratum("Sex"))),
    "ovary_ar1": (f"{_OVARY} + (1 | Mare) + (0 + sin({_TURN} * Time) | Mare)", Residual(ar1())),
    "bodyweight_varpower": (f"{_WEIGHT} + (Time | Rat)", Residual(variance=power())),
    "bodyweight_corexp": (f"{_WEIGHT} + (Time | Rat)", Residual(exponential("Time"))),
    "dietox_car1": ("Weight ~ Time + (1 | Pig)", Residual(car1("Time"))),
    "ortho_gls_cs": (_ORTHO, Residual(compound_symmetry(group="Subject"))),
    "ortho_gls_un": (_ORTHO, Residual(unstructured("age", group="Subject"), per_stratum("age"))),
    "ortho_gls_ar1_ml": (_ORTHO, Residual(ar1(group="Subject"))),
    "ratpup_varident": (
        "weight ~ sex * Treatment + Lsize + (1 | Litter)",
        Residual(variance=per_stratum("Treatment")),
    ),
    "ovary_arma11": (f"{_OVARY} + (1 | Mare)", Residual(arma(p=1, q=1))),
    "ovary_ma2": (f"{_OVARY} + (1 | Mare)", Residual(arma(q=2))),
    "ovary_gls_ar3": (_OVARY, Residual(arma(p=3, group="Mare"))),
    "bodyweight_power_corexp": (
        f"{_WEIGHT} + (Time | Rat)",
        Residual(exponential("Time"), power("Time")),
    ),
    "bodyweight_corexp_nugget": (
        f"{_WEIGHT} + (1 | Rat)",
        Residual(exponential("Time", nugget=True)),
    ),
    "bodyweight_gaus": (_WEIGHT, Residual(gaussian("Time", group="Rat", nugget=True))),
    "bodyweight_ratio": (f"{_WEIGHT} + (Time | Rat)", Residual(rational_quadratic("Time"))),
    "bodyweight_spher": (f"{_WEIGHT} + (Time | Rat)", Residual(spherical("Time"))),
    "bodyweight_varexp": (
        f"{_WEIGHT} + (Time | Rat)",
        Residual(variance=exponential_variance("Time")),
    ),
    "dialyzer_power": (_DIALYZER, Residual(variance=power("pressure"))),
    "dialyzer_constpower": (_DIALYZER, Residual(variance=constant_plus_power("pressure"))),
    "dialyzer_power_ar1": (_DIALYZER, Residual(ar1(group="Subject"), power("pressure"))),
    "dialyzer_power_by_ml": (_DIALYZER, Residual(variance=power("pressure", by="QB"))),
    "dialyzer_fitted": (_DIALYZER, Residual(variance=power())),
    "wheat_spher": ("yield ~ variety - 1", Residual(spherical(*_PLACE, nugget=True))),
    "wheat_ratio": ("yield ~ variety - 1", Residual(rational_quadratic(*_PLACE, nugget=True))),
    "ortho_comb": (
        f"{_ORTHO} + (1 | Subject)",
        Residual(compound_symmetry(), (per_stratum("Sex"), exponential_variance("age"))),
    ),
    "ortho_varident_ml": (f"{_ORTHO} + (1 | Subject)", Residual(variance=per_stratum("Sex"))),
    "dietox_car1_rs": ("Weight ~ Time * Cu", Residual(car1("Time", group="Pig"), power("Time"))),
}


@attrs.frozen(eq=False)
class NlmeCase:
    """One fit by nlme, its figures as R wrote them."""

    raw: dict[str, Any]

    def __str__(self) -> str:
        return str(self.raw["id"])

    @property
    def frame(self) -> pl.DataFrame:
        return reference_frame(self.raw["data"], self.raw["factors"])

    @property
    def structure(self) -> list[tuple[str, float]]:
        """The parameters of the correlation and of the variance function, by R's names."""
        return [
            (name, value)
            for part in ("correlation", "variance")
            for name, value in self.raw.get(part, {}).items()
        ]


@functools.cache
def nlme_cases() -> tuple[NlmeCase, ...]:
    content = json.loads((REFERENCE / "residual_structures.json").read_text())
    return tuple(map(NlmeCase, content["cases"]))


@functools.cache
def fitted(case_id: str) -> Fit:
    (case,) = (case for case in nlme_cases() if str(case) == case_id)
    formula, residual = MODELS[case_id]
    return fit(formula, case.frame, reml=case.raw["reml"], residual=residual)
