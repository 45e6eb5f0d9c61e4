"""Measurements: interleaved repetitions, fresh processes, stages, the machine."""

import gc
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
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
    """What one engine did on one case.

    Attributes
    ----------
    seconds : list of float
        Wall-clock time of each call.
    cpu : list of float
        Processor time of each call, all threads added: what other work on the machine disturbs
        less.
    problem : str
        Why there is nothing, or nothing more.
    """

    engine: str
    version: str = ""
    seconds: list[float] = attrs.field(factory=list)
    cpu: list[float] = attrs.field(factory=list)
    loglik: float = float("nan")
    rows: int = 0
    peak_gb: float | None = None
    problem: str = ""


def interleaved(case: Case, names: Sequence[str], seconds: float, most: int) -> list[Timing]:
    """Rounds of one call an engine, until each engine has had its ``seconds`` or ``most`` calls."""
    frame = case.frame()
    timings = [Timing(name) for name in names]
    calls: dict[str, Callable[[], None]] = {}
    for timing in timings:
        engine = load(timing, case, frame)
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


def load(timing: Timing, case: Case, frame: pl.DataFrame) -> Engine | None:
    """The engine, or None and the reason in ``timing.problem``."""
    try:
        engine = ENGINES[timing.engine]()
    except ImportError as error:
        timing.problem = f"not installed ({error})"
        return None
    timing.version, timing.rows = engine.version, frame.height
    timing.problem = engine.lacks(case, frame)
    return None if timing.problem else engine


def _call(timing: Timing, engine: Engine, case: Case, data: Any) -> Callable[[], None]:
    def call() -> None:
        gc.collect()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                start, cpu_start = time.perf_counter(), time.process_time()
                result = engine.fit(case, data)
                timing.seconds.append(time.perf_counter() - start)
                timing.cpu.append(time.process_time() - cpu_start)
                timing.loglik = engine.loglik(result)
        except Exception as error:
            timing.problem = f"{type(error).__name__}: {error}"[:200]

    return call


def in_fresh_processes(
    case: Case, names: Sequence[str], rounds: int
) -> tuple[list[Timing], dict[str, float]]:
    """Engines in turn, two calls a process: times, and peak memory of the first with the frame.

    The process that starts them must stay small: they inherit its peak memory. So lmmkit's stages
    are timed in a process of their own, too.
    """
    timings = {name: Timing(name) for name in names}
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "frame.parquet")
        _process("write", case.name, file).check_returncode()
        for _ in range(rounds):
            for name, timing in timings.items():
                if not timing.problem:
                    timings[name] = _once_more(case, timing, file)
        staged: dict[str, float] = json.loads(_process("stages", case.name, file).stdout)
    return list(timings.values()), staged


def _once_more(case: Case, so_far: Timing, file: str) -> Timing:
    done = _process("fit", case.name, file, so_far.engine)
    if done.returncode:
        return attrs.evolve(so_far, problem=f"the process ended with status {done.returncode}")
    once = Timing(**json.loads(done.stdout.splitlines()[-1]))
    return attrs.evolve(
        once,
        seconds=[*so_far.seconds, *once.seconds],
        cpu=[*so_far.cpu, *once.cpu],
        peak_gb=max(once.peak_gb or 0.0, so_far.peak_gb or 0.0),
    )


def _process(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.benchmarks.measure", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def in_this_process(case: Case, file: str, name: str) -> Timing:
    """Two calls, after one on a few rows that loads what is loaded when first needed.

    The first one touches memory that the process has not had before, which may take seconds.
    """
    frame = pl.read_parquet(file).rechunk()
    timing = Timing(name)
    engine = load(timing, case, frame)
    if engine is None:
        return timing
    _call(Timing(name), engine, case, engine.prepare(frame.head(1_000)))()
    data = engine.prepare(frame)
    del frame
    call = _call(timing, engine, case, data)
    call()
    timing.peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    call()
    return timing


def _main(task: str, case_name: str, file: str, *engine: str) -> None:
    """What a fresh process does: write the frame of a case, time its stages, or fit it once."""
    case = next(case for case in CASES if case.name == case_name)
    if task == "write":
        case.frame().write_parquet(file)
    elif task == "stages":
        print(json.dumps(stages(case, pl.read_parquet(file).rechunk(), 3)))
    else:
        print(json.dumps(attrs.asdict(in_this_process(case, file, *engine))))


def stages(case: Case, frame: pl.DataFrame, repetitions: int) -> dict[str, float]:
    """Best seconds of each stage of lmmkit's pipeline, and the number of iterations."""
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
    _main(*sys.argv[1:])
