"""Measurements: interleaved repetitions, fresh processes, stages, the machine."""

import gc
import json
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import attrs
import numpy as np
import polars as pl
import scipy

from lmmkit.design import build_design, group
from lmmkit.likelihood.objective import reml
from lmmkit.moments import cross_products
from lmmkit.optimize.run import maximize
from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.peers import ENGINES, Engine

_T = TypeVar("_T")
_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
_IMPORT = """
import time, numpy, polars
start = time.perf_counter()
import lmmkit
print(time.perf_counter() - start)
"""


@attrs.define
class Timing:
    """What one engine did on one case; ``problem`` says why there is nothing, or nothing more."""

    engine: str
    version: str = ""
    seconds: list[float] = attrs.field(factory=list)
    loglik: float = float("nan")
    peak_gb: float | None = None
    problem: str = ""


def interleaved(case: Case, names: Sequence[str], seconds: float, most: int) -> list[Timing]:
    """Rounds of one call an engine, until each engine has had its ``seconds`` or ``most`` calls."""
    frame = case.frame()
    timings = [Timing(name) for name in names]
    calls: dict[str, Callable[[], None]] = {}
    for timing in timings:
        engine = load(timing, frame[case.group].n_unique())
        if engine is not None:
            calls[timing.engine] = _call(timing, engine, case, engine.prepare(frame))
    while calls:
        for timing in timings:
            if timing.engine in calls:
                calls[timing.engine]()
                enough = len(timing.seconds) >= most or sum(timing.seconds) >= seconds
                if timing.problem or enough:
                    del calls[timing.engine]
    return timings


def load(timing: Timing, groups: int) -> Engine | None:
    """The engine, or None and the reason in ``timing.problem``."""
    try:
        engine = ENGINES[timing.engine]()
    except ImportError as error:
        timing.problem = f"not installed ({error})"
        return None
    timing.version = engine.version
    if engine.most_groups is not None and groups > engine.most_groups:
        timing.problem = f"left out above {engine.most_groups} groups"
        return None
    return engine


def _call(timing: Timing, engine: Engine, case: Case, data: Any) -> Callable[[], None]:
    def call() -> None:
        gc.collect()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start = time.perf_counter()
                result = engine.fit(case, data)
                timing.seconds.append(time.perf_counter() - start)
                timing.loglik = engine.loglik(result)
        except Exception as error:
            timing.problem = f"{type(error).__name__}: {error}"[:200]

    return call


def in_fresh_processes(case: Case, names: Sequence[str], rounds: int) -> list[Timing]:
    """One process a call, engines in turn: time of a first call, and peak memory."""
    timings = {name: Timing(name) for name in names}
    for _ in range(rounds):
        for name, timing in timings.items():
            if timing.problem:
                continue
            command = [sys.executable, "-m", "tests.benchmarks.measure", case.name, name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                timing.problem = f"the process ended with status {done.returncode}"
                continue
            once = Timing(**json.loads(done.stdout.splitlines()[-1]))
            once.seconds = [*timing.seconds, *once.seconds]
            once.peak_gb = max(once.peak_gb or 0.0, timing.peak_gb or 0.0)
            timings[name] = once
    return list(timings.values())


def in_this_process(case: Case, name: str) -> Timing:
    """One call, after one on a few rows that loads what is loaded when first needed."""
    frame = case.frame()
    timing = Timing(name)
    engine = load(timing, frame[case.group].n_unique())
    if engine is None:
        return timing
    _call(Timing(name), engine, case, engine.prepare(frame.head(1_000)))()
    data = engine.prepare(frame)
    del frame
    _call(timing, engine, case, data)()
    timing.peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    return timing


def stages(case: Case, repetitions: int) -> dict[str, float]:
    """Best seconds of each stage of lmmkit's pipeline, and the number of iterations."""
    frame = case.frame()
    best: dict[str, float] = {}

    def timed(name: str, function: Callable[..., _T], *arguments: Any) -> _T:
        start = time.perf_counter()
        result = function(*arguments)
        seconds = time.perf_counter() - start
        best[name] = min(seconds, best.get(name, seconds))
        return result

    for _ in range(repetitions):
        design = timed("build_design", build_design, case.formula, frame)
        blocks = timed("group", group, design)
        moments = timed("cross_products", cross_products, blocks)
        objective = timed("reml", reml, moments)
        optimum = timed("maximize", maximize, objective)
        best["iterations"] = optimum.trace.height
    return best


def import_seconds(repetitions: int = 7) -> float:
    """Best time of ``import lmmkit`` in a process that has imported numpy and polars."""
    command = [sys.executable, "-c", _IMPORT]
    return min(float(subprocess.check_output(command, text=True)) for _ in range(repetitions))


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "threads": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "polars": pl.__version__,
    }


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


if __name__ == "__main__":
    by_name = {case.name: case for case in CASES}
    print(json.dumps(attrs.asdict(in_this_process(by_name[sys.argv[1]], sys.argv[2]))))
