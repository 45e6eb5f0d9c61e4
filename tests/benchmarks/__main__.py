"""``python -m tests.benchmarks``: lmmkit beside its peers, in one run. Nothing passes or fails.

Engines that are not installed are reported as such; ``pip install ".[bench]"`` installs them.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import attrs

from tests.benchmarks.cases import CASES, Case
from tests.benchmarks.measure import (
    import_seconds,
    in_fresh_processes,
    interleaved,
    machine,
    stages,
)
from tests.benchmarks.peers import ENGINES
from tests.benchmarks.report import markdown, plain


def run(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Everything measured on one case."""
    if case.large:
        timings, staged = in_fresh_processes(case, options.engines, options.rounds)
    else:
        timings = interleaved(case, options.engines, options.seconds, options.most)
        staged = stages(case, case.frame(), 20)
    return {
        "name": case.name,
        "title": case.title,
        "formula": case.formula,
        "engines": [attrs.asdict(timing) for timing in timings],
        "stages": staged,
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = [case.name for case in CASES]
    parser.add_argument("--cases", nargs="+", choices=names, help="by default all but the large")
    parser.add_argument("--large", action="store_true", help="also 1 000 000 groups: minutes")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--seconds", type=float, default=5.0, help="for an engine on a case")
    parser.add_argument("--most", type=int, default=50, help="calls of an engine on a case")
    parser.add_argument("--rounds", type=int, default=3, help="calls on a large case")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--json", type=Path, help="also write everything measured to this file")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = _options()
    chosen = [
        case
        for case in CASES
        if (case.name in options.cases if options.cases else options.large or not case.large)
    ]
    results = {
        "machine": machine(),
        "import_seconds": import_seconds(),
        "cases": [run(case, options) for case in chosen],
    }
    print(markdown(results) if options.markdown else plain(results))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
