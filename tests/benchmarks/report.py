"""The tables that a run prints."""

import math
import statistics
from typing import Any

_SAME_OPTIMUM = 1e-6
_HEADER = (
    "case",
    "engine",
    "best",
    "median",
    "calls",
    "lmmkit / it",
    "us / row",
    "processor",
    "lmmkit / it",
    "log-likelihood",
    "peak GB",
)


def plain(results: dict[str, Any]) -> str:
    """Aligned columns, then lmmkit's stages."""
    rows = [_HEADER, *(row for case in results["cases"] for row in _rows(case))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*_preamble(results), "", *lines, "", *_stages(results)])


def markdown(results: dict[str, Any]) -> str:
    """The same as Markdown."""
    rows = [_HEADER, ("---",) * len(_HEADER)]
    rows += [row for case in results["cases"] for row in _rows(case)]
    table = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*_preamble(results), "", *table, "", *_stages(results)])


def _preamble(results: dict[str, Any]) -> list[str]:
    machine = results["machine"]
    threads = ", ".join(f"{k}={v}" for k, v in machine["threads"].items()) or "threads by default"
    versions = ", ".join(f"{k} {machine[k]}" for k in ("python", "numpy", "scipy", "polars"))
    return [
        f"{machine['processor']}, {machine['cores']} cores, {threads}, load {machine['load']}; "
        f"{versions}. `import lmmkit` costs {_time(results['import_seconds'])} over numpy and "
        "polars."
    ]


def _rows(case: dict[str, Any]) -> list[tuple[str, ...]]:
    ours = next((e for e in case["engines"] if e["engine"] == "lmmkit" and e["seconds"]), None)
    return [_row(case["title"], engine, ours) for engine in case["engines"]]


def _row(title: str, engine: dict[str, Any], ours: dict[str, Any] | None) -> tuple[str, ...]:
    name, seconds = f"{engine['engine']} {engine['version']}".strip(), engine["seconds"]
    if not seconds:
        return (title, name, "", "", "0", "", "", "", "", engine["problem"], "")
    return (
        title,
        name,
        _time(min(seconds)),
        _time(statistics.median(seconds)),
        str(len(seconds)),
        _ratio(ours, engine, "seconds"),
        f"{1e6 * min(seconds) / engine['rows']:.3g}",
        _time(min(engine["cpu"])),
        _ratio(ours, engine, "cpu"),
        _loglik(engine, ours) + (f"; then {engine['problem']}" if engine["problem"] else ""),
        "" if engine["peak_gb"] is None else f"{engine['peak_gb']:.2f}",
    )


def _ratio(ours: dict[str, Any] | None, engine: dict[str, Any], clock: str) -> str:
    return f"{min(ours[clock]) / min(engine[clock]):.2f}" if ours else ""


def _loglik(engine: dict[str, Any], ours: dict[str, Any] | None) -> str:
    """The value, and how far a different optimum is from lmmkit's."""
    value = engine["loglik"]
    if math.isnan(value):
        return ""
    gap = 0.0 if ours is None else value - ours["loglik"]
    if abs(gap) <= _SAME_OPTIMUM * (1.0 + abs(value)):
        return f"{value:.4f}"
    return f"{value:.4f}, another optimum ({gap:+.2g})"


def _stages(results: dict[str, Any]) -> list[str]:
    lines = ["Best time of each stage of lmmkit:", ""]
    for case in results["cases"]:
        stages = dict(case["stages"])
        count = stages.pop("iterations")
        times = ", ".join(f"{name} {_time(seconds)}" for name, seconds in stages.items())
        lines.append(f"- {case['title']}: {times} ({count} iterations)")
    return lines


def _time(seconds: float) -> str:
    if seconds < 0.1:
        return f"{1000 * seconds:.2f} ms"
    return f"{seconds:.3f} s"
