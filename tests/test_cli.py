"""The command line as a person meets it: help, errors, exit codes, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mobileseg.files import shipped

VERBS = [
    ["slim"],
    ["eval"],
    ["predict"],
    ["export"],
    ["check"],
    ["quantize"],
    ["qat"],
    ["profile"],
    ["find-lr"],
    ["search"],
    ["latency"],
    ["latency", "calibrate"],
    ["compare"],
    ["data", "check"],
    ["data", "preview"],
    ["demo"],
    ["report"],
    ["nets"],
    ["nets", "show"],
    ["recipes", "ls"],
    ["recipes", "cat"],
    ["recipes", "validate"],
    ["devices", "ls"],
    ["devices", "fit"],
    ["weights", "import"],
]


SAMPLE = str(shipped("assets", "data", "portrait_sample"))


def run(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line as a process of its own."""
    command = [sys.executable, "-m", "mobileseg.cli", *words]
    # Else Typer asks which shell started the tests, which may be none.
    env = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_helps_with_an_example(verb: list[str]) -> None:
    done = run(*verb, "--help")
    assert done.returncode == 0
    assert "Example: mobileseg" in " ".join(done.stdout.split())


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from mobileseg.cli import app;"
        "CliRunner().invoke(app, ['--help']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'onnx', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_version() -> None:
    assert run("--version").stdout.strip().count(".") == 2


def test_completion_for_the_shell() -> None:
    done = run("--show-completion", "bash")
    assert "complete" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["slim", "nothing.toml"], 1, "there is no such file"),
        (["slim", "portrait", "--set", "train.epoch=3"], 1, "did you mean 'epochs'"),
        (["slim", "portrait", "--dry-run", "--data", "nowhere"], 0, ""),
        (["eval", "nothing"], 1, "is no run"),
        (["predict", "no.tflite", "no.jpg"], 1, "there is no such file"),
        (["export", "nothing", "--int8"], 1, "is no run"),
        (["export", "nothing", "--precision", "int4"], 2, "int4"),
        (["check", "no.tflite"], 1, "there is no such file"),
        (["latency", "portrait.toml"], 1, "there is no such file"),
        (["latency", "portait"], 1, "did you mean 'portrait'"),
        (["latency", "recipes/portrait.toml", "--device", "pixel44"], 1, "did you mean 'pixel4'"),
        (["compare", "nothing"], 1, "is no run"),
        (["recipes", "validate", "nothing"], 1, "shipped recipe"),
        (["weights", "import", "no.npz", "--images", SAMPLE, "--out", "out"], 1, "no.npz"),
    ],
)
def test_exit_codes_and_errors(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    root = Path(__file__).parent.parent
    words = [str(root / word) if word.startswith("recipes/") else word for word in words]
    done = run(*words, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_recipes_travel() -> None:
    listed = json.loads(run("recipes", "ls", "--json").stdout)
    assert {"portrait", "article"} <= set(listed)
    assert run("recipes", "cat", "portrait").stdout.startswith("# ")
    assert "good" in run("recipes", "validate", "article").stdout


def test_devices_say_their_error() -> None:
    rows = json.loads(run("devices", "ls", "--json").stdout)
    assert len(rows) >= 2
    for row in rows:
        assert row["float32"]["median_error_percent"] > 0


def test_dry_run_is_complete() -> None:
    steps = json.loads(run("slim", "article", "--dry-run", "--json").stdout)["steps"]
    assert [step["step"] for step in steps][:3] == ["base160", "v0", "v1"]
    for step in steps:
        assert step["int8_bytes"] < step["float32_bytes"]
        assert 0 < step["live_bytes"]["int8"] < step["live_bytes"]["float32"]
        assert step["estimated_ms"]["pixel4"]["int8"]["ms"] > 0
        assert 0 <= step["inherited_share"] <= 1


def test_latency_prices_every_operator() -> None:
    done = json.loads(run("latency", "portrait", "--json", "--device", "pixel1").stdout)
    (priced,) = done["devices"]
    assert priced["ms"] == pytest.approx(sum(row["ms"] for row in priced["rows"]))
    assert all(row["ms"] > 0 or row["bound"] == "folded" for row in priced["rows"])
    tables = run("latency", "portrait", "--device", "pixel1").stdout
    assert f"{done['live_bytes'] / 1e3:.1f} KB of activations" in tables
    for words in ("Run order", "Top 10 by time", "Sum by kind", "source:"):
        assert words in tables
