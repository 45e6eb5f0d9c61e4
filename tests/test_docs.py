"""The documentation is true: its blocks run and print what it shows; every public name is in it."""

import contextlib
import importlib
import inspect
import io
import pkgutil
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from attrs import frozen

import lmmkit
from lmmkit.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"\s*^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|\s)lmmkit (.+)")
_RUN = ("python", "console", "bash", "sh")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_RULE = re.compile(r"[-─═]{2,}")
_OPEN = re.compile(r"\[\s+")
_RELATIVE = 1e-4


@frozen
class Block:
    """A fenced block: its language, its text, and the output that is shown below it."""

    language: str
    line: int
    text: str
    shown: str | None


def blocks(page: str) -> Iterator[Block]:
    for fence in _FENCE.finditer(page):
        shown = _SHOWN.match(page, fence.end())
        line = page.count("\n", 0, fence.start()) + 1
        yield Block(fence[1], line, fence[2], shown[1] if shown else None)


def run(block: Block, path: Path, namespace: dict[str, object]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if block.language == "python":
            exec(compile("\n" * block.line + block.text, path, "exec"), namespace)
        elif block.language in _RUN:
            for command in _COMMAND.findall(block.text):
                assert main(shlex.split(command)) == 0
    return printed.getvalue()


def difference(shown: str, printed: str) -> str | None:
    """The first difference, whitespace and the last digits aside; whole numbers are exact."""
    words, actual = (_RULE.sub("--", _OPEN.sub("[", text)).split() for text in (shown, printed))
    for word, other in zip(words, actual, strict=False):
        if word != other and not _close(word, other):
            return f"the page shows {word!r}, the code prints {other!r}"
    if len(words) != len(actual):
        return f"the page shows {len(words)} words, the code prints {len(actual)}"
    return None


def _close(shown: str, printed: str) -> bool:
    numbers, actual = _NUMBER.findall(shown), _NUMBER.findall(printed)
    if _NUMBER.sub("#", shown) != _NUMBER.sub("#", printed):
        return False
    for number, other in zip(numbers, actual, strict=True):
        mantissa, _, exponent = number.lower().partition("e")
        decimals = len(mantissa.partition(".")[2])
        unit = 10.0 ** (int(exponent or 0) - decimals) if decimals or exponent else 0.0
        allowed = max(1.001 * unit, _RELATIVE * abs(float(number)) if unit else 0.0)
        if abs(float(number) - float(other)) > allowed:
            return False
    return True


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_blocks_run_and_print_what_the_page_shows(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": path.stem}
    with pl.Config(), np.printoptions():
        for block in blocks(path.read_text(encoding="utf-8")):
            printed = run(block, path, namespace)
            if block.language in _RUN:
                differs = difference(block.shown or "", printed)
                assert differs is None, f"{path.name}, line {block.line}: {differs}\n{printed}"


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("a  1.5\n", "a 1.5", True),
        ("2217.0475", "2217.0476", True),
        ("2217.0475", "2220.3900", False),
        ("0.12", "0.13", True),
        ("0.12", "0.14", False),
        ("861 rows", "862 rows", False),
        ("Time 0.10", "Tame 0.10", False),
        ("1e-05", "3e-05", False),
        ("one", "one two", False),
    ],
)
def test_outputs_are_compared_as_numbers_and_words(shown: str, printed: str, equal: bool) -> None:
    assert (difference(shown, printed) is None) is equal


_SECTION = re.compile(r"^## `([\w.]+)`$", re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)", re.MULTILINE)


def documented() -> dict[str, set[str]]:
    """The names of each section of the reference, by module."""
    parts = _SECTION.split((ROOT / "docs" / "reference.md").read_text(encoding="utf-8"))
    sections = zip(parts[1::2], parts[2::2], strict=True)
    return {name: set(_ROW.findall(text)) for name, text in sections}


@pytest.mark.parametrize("module", documented())
def test_the_reference_has_every_public_name_and_no_other(module: str) -> None:
    names = documented()
    public = set(importlib.import_module(module).__all__)
    assert not public - set().union(*names.values()), "public, but not in docs/reference.md"
    assert not names[module] - public, "in docs/reference.md, but not public"


def test_the_reference_has_every_public_package() -> None:
    packages = {f"lmmkit.{m.name}" for m in pkgutil.iter_modules(lmmkit.__path__) if m.ispkg}
    modules = {"lmmkit", "lmmkit.plot", "lmmkit.testing.strategies"}
    assert modules | packages == set(documented())


_SIGNATURE = re.compile(r"^\| `(\w+)\((.*)\)` \|", re.MULTILINE)


def test_the_reference_has_the_names_of_all_parameters() -> None:
    parts = _SECTION.split((ROOT / "docs" / "reference.md").read_text(encoding="utf-8"))
    for module, text in zip(parts[1::2], parts[2::2], strict=True):
        for name, arguments in _SIGNATURE.findall(text):
            function = getattr(importlib.import_module(module), name)
            written = [
                f"{p.name}=" if p.kind is p.KEYWORD_ONLY else str(p).partition(":")[0]
                for p in inspect.signature(function).parameters.values()
            ]
            shown = [argument.strip() for argument in arguments.split(",") if argument]
            assert shown == written, f"{module}.{name}"


def test_every_page_is_in_the_navigation() -> None:
    site = (ROOT / ".mkdocs.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"[\w-]+\.md", site)) == {path.name for path in PAGES[1:]}


def test_links_between_pages_lead_somewhere() -> None:
    for path in PAGES:
        for target in re.findall(r"\]\(([\w./-]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
