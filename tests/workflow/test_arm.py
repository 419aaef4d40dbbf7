"""`mobileseg check --arm` as a person meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mobileseg.errors import GateError, MobilesegError
from mobileseg.export.arm.emulator import CORES
from mobileseg.export.arm.setup import find_emulator
from mobileseg.export.tflite import write_tflite
from mobileseg.workflow.arm import Agreement, ArmCheck, OnCore, count_instructions
from tests.export import small
from tests.workflow.conftest import Call


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("arm") / "net.tflite"
    path.write_bytes(write_tflite(small.int8_graph()))
    return path


@pytest.fixture
def emulated() -> None:
    try:
        find_emulator()
    except MobilesegError as error:
        pytest.skip(str(error))


def test_setup_belongs_to_arm(network: Path, call: Call) -> None:
    said = call("check", network, "--setup")
    assert said.code == 2
    assert "--setup belongs to --arm" in said.err


def test_nothing_is_fetched_unasked(
    network: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    said = call("check", network, "--arm")
    assert said.code == 1
    assert "error: --arm: " in said.err
    # The rules need no emulator.
    assert "LiteRT loads and runs it" in said.out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("agreement", "wrong"),
    [
        (Agreement(0.99, max_steps=1), ""),
        (Agreement(0.99, max_steps=2), "an output is 2 steps away"),
        (Agreement(0.1, relative_error=1e-6), ""),
        (Agreement(0.1, relative_error=2e-4), "differs by 2.0e-04 of the largest"),
        (Agreement(0.9995), ""),
        (Agreement(0.99), "99.000 % of the classes"),
    ],
)
def test_the_gate(agreement: Agreement, wrong: str) -> None:
    done = ArmCheck(Path("net.tflite"), 4, [OnCore("core", True, 1, {"x": agreement})], [])
    if not wrong:
        done.require()
        return
    with pytest.raises(GateError, match=f"core against x: .*{wrong}"):
        done.require()


@pytest.mark.slow
@pytest.mark.usefixtures("emulated")
def test_a_file_on_arm(network: Path, call: Call) -> None:
    said = call("check", network, "--arm", "--json")
    assert said.code == 0
    done = said.json()["arm"]
    assert [core["core"] for core in done["cores"]] == list(CORES)
    assert not done["notes"]
    for core in done["cores"]:
        assert set(core["against"]) == {"our execution", "LiteRT here"}
        assert core["against"]["LiteRT here"]["max_steps"] == 0
    (counted,) = count_instructions([network])
    for core in done["cores"]:
        assert core["instructions"] == pytest.approx(counted[core["core"]], rel=0.01)
