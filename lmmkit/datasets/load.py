"""Reading a bundled table and its description by name."""

import difflib
from importlib import resources

import polars as pl

from lmmkit.datasets.catalog import CATALOG, Dataset
from lmmkit.errors import ArgumentError, DataError


def names() -> tuple[str, ...]:
    """Names of the bundled tables, in alphabetical order, capitals and small letters alike."""
    return tuple(sorted(CATALOG, key=str.lower))


def describe(name: str) -> Dataset:
    """What a bundled table holds: title, columns, publication, source and licence.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    Dataset
        A record; ``print`` shows it as text.

    Raises
    ------
    DataError
        If no bundled table has this name; the message has the nearest one.
    ArgumentError
        For a name that is no text.
    """
    if not isinstance(name, str):
        raise ArgumentError(
            f"expected the name of a bundled table, got {name!r}; names() lists them"
        )
    if name in CATALOG:
        return CATALOG[name]
    by_lower = {key.lower(): key for key in CATALOG}
    near = difflib.get_close_matches(name.lower(), by_lower, n=1)
    hint = f" Did you mean {by_lower[near[0]]!r}?" if near else ""
    raise DataError(
        f"expected the name of a bundled table, got {name!r}.{hint} "
        f"The tables are: {', '.join(names())}"
    )


def load(name: str) -> pl.DataFrame:
    """Read a bundled table.

    Parameters
    ----------
    name : str
        One of :func:`names`.

    Returns
    -------
    polars.DataFrame
        Columns as :func:`describe` lists them; factors are String columns.

    Raises
    ------
    DataError
        If no bundled table has this name; the message has the nearest one.
    ArgumentError
        For a name that is no text.

    Examples
    --------
    >>> from lmmkit import datasets
    >>> datasets.load("dietox").shape
    (861, 8)
    """
    dataset = describe(name)
    content = resources.files("lmmkit.datasets").joinpath(f"{dataset.name}.csv").read_bytes()
    return pl.read_csv(content, schema={c.name: c.dtype for c in dataset.columns})
