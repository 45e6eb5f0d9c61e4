"""The command line: figures against lme4, exit status, and messages instead of tracebacks."""

import gzip
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import polars as pl
import pytest

from lmmkit import datasets
from lmmkit.cli import main
from tests.helpers import ReferenceCase, reference_case

DIETOX = "Weight ~ Time + (Time | Pig)"


def check_against_reference(text: str, case: ReferenceCase) -> None:
    content = json.loads(text)
    assert content["formula"] == case.formula
    assert content["glance"]["loglik"] == pytest.approx(case.loglik, rel=1e-8)
    rows = content["fixed_effects"]
    assert tuple(row["term"] for row in rows) == case.names
    assert [row["estimate"] for row in rows] == pytest.approx(case.beta.tolist(), rel=1e-6)
    assert [row["std_error"] for row in rows] == pytest.approx(case.std_error.tolist(), rel=1e-4)
    assert len(content["variance_components"]) == len(case.theta) + 1
    assert content["certificate"]["converged"] is True


@pytest.mark.parametrize(("case_id", "flags"), [("dietox_rs", []), ("dietox_rs_ml", ["--ml"])])
def test_json_has_the_figures_of_lme4(
    case_id: str, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", DIETOX, "dietox", "--json", *flags]) == 0
    captured = capsys.readouterr()
    check_against_reference(captured.out, reference_case(case_id))
    assert captured.err == ""


def test_the_summary_is_printed_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", DIETOX, "dietox"]) == 0
    out = capsys.readouterr().out
    assert DIETOX in out
    assert "2217.05" in out
    for word in ("Intercept", "Time", "Pig"):
        assert word in out


def test_crossed_factors(capsys: pytest.CaptureFixture[str]) -> None:
    """Figures by lme4."""
    assert main(["fit", "diameter ~ 1 + (1|plate) + (1|sample)", "Penicillin", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["glance"]["loglik"] == pytest.approx(-165.430294495543, rel=1e-9)
    assert content["n_groups"] == {"plate": 24, "sample": 6}
    variances = [row["estimate"] for row in content["variance_components"]]
    assert variances == pytest.approx([0.71690817, 3.73091758, 0.30241546], rel=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".TSV.gz", ".parquet"])
def test_files_are_read(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / f"table{suffix}"
    frame = datasets.load("sleepstudy")
    if suffix == ".parquet":
        frame.write_parquet(path)
    else:
        text = frame.write_csv(separator="," if "csv" in suffix else "\t").encode()
        path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    case = reference_case("sleep_rs")
    assert main(["fit", case.formula, str(path), "--json", "--factor", "Subject"]) == 0
    check_against_reference(capsys.readouterr().out, case)


def test_factor_makes_a_number_categorical(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "table.csv"
    datasets.load("sleepstudy").write_csv(path)
    formula = "Reaction ~ Days + (1 | Subject)"
    assert main(["fit", formula, str(path), "--json", "--factor", "Days"]) == 0
    terms = [row["term"] for row in json.loads(capsys.readouterr().out)["fixed_effects"]]
    assert terms == ["Intercept", *(f"Days[T.{day}]" for day in range(1, 10))]


def test_na_in_a_csv_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.csv"
    frame = datasets.load("Rail").with_columns(pl.col("travel").cast(pl.String))
    pl.concat([frame, pl.DataFrame({"Rail": "1", "travel": "NA"})]).write_csv(path)
    assert main(["fit", "travel ~ 1 + (1 | Rail)", str(path), "--json"]) == 0
    check_against_reference(capsys.readouterr().out, reference_case("rail"))


def test_out_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "result.json"
    assert main(["fit", DIETOX, "dietox", "--json", "--out", str(path)]) == 0
    assert capsys.readouterr().out == ""
    check_against_reference(path.read_text(encoding="utf-8"), reference_case("dietox_rs"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "Wieght ~ Time + (Time | Pig)", "dietox"], ["'Wieght'", "Weight"]),
        (["fit", "Weight ~ Time + (Time | Pgi)", "dietox"], ["'Pgi'", "Pig"]),
        (["fit", "Weight ~ Time + (Time | Pig", "dietox"], ["Pig"]),
        (["fit", DIETOX, "diettox"], ["'diettox'", "'dietox'"]),
        (["fit", DIETOX, "absent.csv"], ["CSV", "'absent.csv'"]),
        (["fit", DIETOX, "dietox", "--factor", "Tiem"], ["--factor", "'Tiem'", "Time"]),
        (["fit", DIETOX, "dietox", "--factor", "Weight"], ["--factor Weight", "leave this option"]),
        (["fit", DIETOX, "dietox", "--out", "absent/file"], ["--out", "absent"]),
        (["datasets", "sleepstdy"], ["'sleepstdy'", "'sleepstudy'"]),
    ],
)
def test_wrong_input_is_one_message_and_status_2(
    arguments: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("lmmkit: error: ")
    for word in words:
        assert word in captured.err


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", ["CSV", "empty.csv"]),
        ("not.parquet", b"a,b\n1,2\n", ["Parquet", "not.parquet"]),
        ("table.xlsx", b"PK", [".csv, .csv.gz, .tsv, .tsv.gz or .parquet", "table.xlsx"]),
    ],
)
def test_unreadable_files(
    name: str,
    content: bytes,
    words: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert main(["fit", "y ~ x + (x | g)", str(path)]) == 2
    error = capsys.readouterr().err
    assert all(word in error for word in words)


def test_datasets_are_listed_and_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert tuple(line.split()[0] for line in lines) == datasets.names()
    assert main(["datasets", "dietox"]) == 0
    assert capsys.readouterr().out == f"{datasets.describe('dietox')}\n"


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "lmmkit", "fit", "Weight ~ Tiem + (1 | Pig)", "dietox"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "'Tiem'" in done.stderr
    assert "Time" in done.stderr


def test_the_version_is_that_of_the_project(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    try:
        expected = version("lmmkit")
    except PackageNotFoundError:
        expected = "(not installed)"
    assert capsys.readouterr().out == f"lmmkit {expected}\n"


def check_write_error(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 2
    assert done.stderr.startswith("lmmkit: error: cannot write to standard output: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["datasets"], ["fit", DIETOX, "dietox"]])
def test_a_closed_pipe_is_one_message(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "lmmkit", *arguments]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        check_write_error(
            subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
        )
    finally:
        os.close(writing)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "lmmkit", "datasets"]
    with open("/dev/full", "w") as full:
        check_write_error(
            subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        )
    assert main(["fit", DIETOX, "dietox", "--out", "/dev/full"]) == 2
    assert capsys.readouterr().err.startswith("lmmkit: error: --out: cannot write '/dev/full': ")
