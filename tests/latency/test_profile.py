"""Profiles as files: read back equal, and every mistake told at once."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mobileseg.errors import MobilesegError
from mobileseg.latency.profile import load_profile, profiles
from mobileseg.latency.toml import profile_toml
from tests.latency.small import DEVICE

TEXT = profile_toml(DEVICE, "a test")
SHIPPED = profiles(Path(__file__).parents[2] / "assets" / "devices")


def written(folder: Path, text: str) -> Path:
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_profile_reads_back_equal(tmp_path: Path) -> None:
    assert load_profile(written(tmp_path, TEXT)) == DEVICE


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_profiles_load_and_name_their_sources(name: str) -> None:
    profile = load_profile(SHIPPED[name])
    assert profile.name == name
    assert all(source for source in profile.source)
    # The first line says whether a fit or a calibration wrote it.
    first, _, rest = SHIPPED[name].read_text("utf-8").partition("\n")
    commands = (
        "# Written by `mobileseg devices fit`",
        "# Written by `mobileseg latency calibrate`",
    )
    assert first.startswith(commands)
    assert profile_toml(profile, "").partition("\n")[2] == rest


def test_profiles_are_found_by_name(tmp_path: Path) -> None:
    written(tmp_path, TEXT)
    (tmp_path / "notes.txt").write_text("")
    assert profiles(tmp_path) == {"small": tmp_path / "small.toml"}


def test_all_mistakes_are_listed_with_file_and_key(tmp_path: Path) -> None:
    text = TEXT.replace("threads = 1", 'threads = "one"').replace("year = 2020\n", "")
    text = text.replace("overhead_us = 7.0", "overhead_us = -7.0\ncolour = 3", 1)
    with pytest.raises(MobilesegError) as caught:
        load_profile(written(tmp_path, text))
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for key in (
        'threads: "one"',
        "year: this key is needed",
        "float32.overhead_us: -7.0",
        "float32.colour: there is no such key",
    ):
        assert any(line.startswith("small.toml: ") and key in line for line in lines), key


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "small"', 'name = "large"', "must be the file's, 'small'"),
        (
            "[float32.kernels.dense]",
            "[float32.kernels.fancy]",
            "kernels.fancy: is no kernel",
        ),
        ("dram_gb_per_s = 4.0", "dram_gb_per_s = 40.0", "is above bandwidth_gb_per_s"),
        ('source = ["by hand"]', "source = []", "source: is empty"),
        ("overlap = 2.0", "overlap = nan", "float32.overlap"),
        ("overlap = 2.0", "overlap = inf", "float32.overlap"),
        ("giga_per_s = 2.0", "giga_per_s = 0.0", "giga_per_s: 0.0"),
        ("threads = 1", "threads = 0", "threads: 0"),
        ("threads = 1", "thread = 1", "did you mean 'threads'"),
        ("year = 2020", "year = 2020-01-01", "year: 2020-01-01: a date is no value"),
        ('basis = "fitted"', 'basis = "guessed"', 'basis: "guessed"'),
        ("threads = 1", "threads = = 1", "is not TOML"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(MobilesegError, match=r"small\.toml: ") as caught:
        load_profile(written(tmp_path, TEXT.replace(old, new, 1)))
    assert told in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MobilesegError, match="cannot be read"):
        load_profile(tmp_path / "none.toml")


def test_a_file_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MobilesegError, match="not UTF-8"):
        load_profile(path)


lines = st.integers(0, len(TEXT.splitlines()) - 1)
values = st.sampled_from(["-1", "nan", '"x"', "[]", "{}", "true", "1979-05-27", "0", "", "1e999"])


@given(at=lines, value=values)
@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_bad_value_is_one_error_or_a_good_profile(tmp_path: Path, at: int, value: str) -> None:
    text = TEXT.splitlines()
    key = text[at].partition(" = ")[0]
    text[at] = f"{key} = {value}"
    path = written(tmp_path, "\n".join(text))
    try:
        load_profile(path)
    except MobilesegError as error:
        assert "small.toml" in str(error)
    else:
        assert tomllib.loads(path.read_text("utf-8"))
