"""The command line: ``lmmkit fit FORMULA TABLE`` and ``lmmkit datasets [NAME]``.

The exit status is 0, 1 when the fit did not converge (its result is printed all the same), or 2
when the input is wrong; then one line on the error stream says what to change.
"""

import argparse
import enum
import json
import math
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import polars as pl

from lmmkit import datasets, fit, fixed_effects, glance, summary, variance_components
from lmmkit.design.frames import select
from lmmkit.errors import ArgumentError, DataError, LmmkitError
from lmmkit.fit import Fit
from lmmkit.formula import parse_formula

_SEPARATORS = {".csv": ",", ".csv.gz": ",", ".tsv": "\t", ".tsv.gz": "\t"}
_PARQUET = ".parquet"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process by default.
    """
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except LmmkitError as error:
        print(f"lmmkit: error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lmmkit", description="Linear mixed-effects models.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("fit", help="fit a model and print its summary")
    command.add_argument("formula", help="for example 'Weight ~ Time + (Time | Pig)'")
    command.add_argument("table", help="a bundled table's name, or a CSV, TSV or Parquet file")
    command.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    command.add_argument(
        "--factor",
        action="append",
        default=[],
        metavar="COLUMN",
        help="read this column as a factor, whatever its type; may be repeated",
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--out", type=Path, metavar="FILE", help="write to FILE instead")
    command.set_defaults(run=_fit)

    command = commands.add_parser("datasets", help="list the bundled tables, or describe one")
    command.add_argument("name", nargs="?", help="the table to describe")
    command.set_defaults(run=_datasets)
    return parser


def _version() -> str:
    try:
        return version("lmmkit")
    except PackageNotFoundError:
        return "(not installed)"


def _fit(arguments: argparse.Namespace) -> int:
    frame = _read(arguments.table)
    response = parse_formula(arguments.formula).response.strip("`")
    if response in arguments.factor:
        raise ArgumentError(
            f"--factor {response}: the response must stay a number; leave this option out"
        )
    factors = select(frame, arguments.factor, "--factor").values()
    frame = frame.with_columns(column.cast(pl.String) for column in factors)
    result = fit(arguments.formula, frame, reml=not arguments.ml)
    text = _json(arguments.formula, result) if arguments.json else str(summary(result))
    _write(text, arguments.out)
    return 0 if result.certificate.converged else 1


def _datasets(arguments: argparse.Namespace) -> int:
    if arguments.name is not None:
        _print(str(datasets.describe(arguments.name)))
    else:
        titles = [f"{name:<12}{datasets.describe(name).title}" for name in datasets.names()]
        _print("\n".join(titles))
    return 0


def _read(table: str) -> pl.DataFrame:
    path = Path(table)
    name = path.name.lower()
    ending = next((end for end in (*_SEPARATORS, _PARQUET) if name.endswith(end)), None)
    if ending is None:
        if path.is_file():
            endings = ", ".join(_SEPARATORS)
            raise DataError(f"expected a file that ends in {endings} or {_PARQUET}, got {table!r}")
        return datasets.load(table)
    try:
        if ending == _PARQUET:
            return pl.read_parquet(path)
        return pl.read_csv(
            path,
            separator=_SEPARATORS[ending],
            infer_schema_length=None,
            null_values=["", "NA"],
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        kind = "Parquet" if ending == _PARQUET else ending[1:4].upper()
        raise DataError(f"expected a {kind} file, could not read {table!r}: {error}") from error


def _write(text: str, out: Path | None) -> None:
    if out is None:
        _print(text)
        return
    try:
        out.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"--out: cannot write {str(out)!r}: {error.strerror}") from error


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left in the buffer is written once more at exit; there it must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ArgumentError(f"cannot write to standard output: {error.strerror}") from error


def _json(formula: str, result: Fit) -> str:
    (row,) = glance(result).to_dicts()
    content = {
        "formula": formula,
        "glance": row,
        "n_groups": {term.group: len(term.levels) for term in result.design.terms},
        "fixed_effects": fixed_effects(result).to_dicts(),
        "variance_components": variance_components(result).to_dicts(),
        "certificate": result.certificate,
    }
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """``value`` in JSON's types: records as objects, enums by value, no number as null."""
    if attrs.has(type(value)):
        return {f.name: _plain(getattr(value, f.name)) for f in attrs.fields(type(value))}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, enum.Enum):
        return _plain(value.value)
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
