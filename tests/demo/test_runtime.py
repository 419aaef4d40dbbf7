"""LiteRT.js, found or fetched: what is not the pinned package is never unpacked."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from mobileseg.demo import runtime
from mobileseg.demo.runtime import FILES, PACKAGES, VERSION, Package, fetch, find_runtime, unpack
from mobileseg.errors import MobilesegError
from tests.browser.chromium import MODULES, missing

NPM = """#!{python}
import pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--pack-destination") + 1])
{body}
"""


def npm(folder: Path, body: str) -> str:
    """A registry's answer, as a program that stands in the place of npm."""
    program = folder / "bin" / "npm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(NPM.format(python=sys.executable, body=body))
    program.chmod(0o755)
    return str(program)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_nothing_is_fetched_unasked(cache: Path) -> None:
    with pytest.raises(MobilesegError, match="mobileseg demo --setup fetches it by npm"):
        find_runtime()
    assert not cache.exists()


def test_without_npm(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MobilesegError, match=r"there is no npm; install Node\.js"):
        runtime.set_up()
    assert not cache.exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('(folder / "a.tgz").write_bytes(b"other")', "is not the package that mobileseg pins"),
        ('print("npm error code E404\\x1b[31m", file=sys.stderr); sys.exit(1)', "npm error code"),
        ("pass", "it said nothing"),
        ("for n in 'ab': (folder / f'{n}.tgz').write_bytes(b'x')", "failed"),
    ],
)
def test_what_npm_may_bring(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    program = npm(tmp_path, body)
    monkeypatch.setenv("PATH", f"{Path(program).parent}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(MobilesegError) as wrong:
        runtime.set_up()
    assert said in str(wrong.value) and str(wrong.value).isprintable()
    # Nothing stays, not even a folder begun.
    assert not list((cache / "mobileseg").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm")
def test_npm_brings_the_pinned_packages(cache: Path) -> None:
    said: list[str] = []
    try:
        folder = runtime.set_up(said.append)
    except MobilesegError as error:
        if "is the network up?" not in str(error):
            raise
        pytest.skip(str(error))
    assert set(find_runtime()) == set(FILES) and len(said) == 2
    # A damaged one is fetched anew, a whole one is not.
    (folder / next(iter(FILES))).write_bytes(b"damaged")
    with pytest.raises(MobilesegError, match="--setup fetches it anew"):
        find_runtime()
    assert runtime.set_up(said.append) == runtime.set_up(said.append) == folder
    assert len(said) == 4 and [each.name for each in (cache / "mobileseg").iterdir()] == [
        folder.name
    ]


def test_the_right_package_is_taken(tmp_path: Path) -> None:
    data = b"an archive"
    digest = base64.b64encode(hashlib.sha512(data).digest()).decode()
    program = npm(tmp_path, f'(folder / "a.tgz").write_bytes({data!r})')
    assert fetch(program, Package("@litertjs/core", digest), tmp_path) == data


def test_names_of_an_archive_lead_nowhere(tmp_path: Path) -> None:
    core = PACKAGES[0]
    wanted = "dist/index.js"
    inside = io.BytesIO()
    with tarfile.open(fileobj=inside, mode="w:gz") as packed:
        for name in ("../../evil.js", "/evil.js", "package/../../evil.js", "package/dist/other.js"):
            add(packed, name, b"evil")
        link = tarfile.TarInfo("package/wasm/litert_wasm_internal.js")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        packed.addfile(link)
        add(packed, f"package/{wanted}", b"right")
    folder = tmp_path / "deep" / "made"
    unpack(inside.getvalue(), core, folder)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written == [folder / core.name / wanted]
    assert written[0].read_bytes() == b"right"


def add(packed: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    packed.addfile(member, io.BytesIO(data))


def test_every_file_is_held_against_its_digest(tmp_path: Path) -> None:
    with pytest.raises(MobilesegError, match=rf"cannot be read .* npm install .*@{VERSION} made"):
        find_runtime(tmp_path)
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"other")
    with pytest.raises(MobilesegError, match=f"is not the one of LiteRT.js {VERSION}"):
        find_runtime(tmp_path)


@pytest.mark.browser
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_tests_own_packages_are_the_pinned_ones(tmp_path: Path) -> None:
    found = find_runtime(MODULES)
    assert set(found) == set(FILES)
    lock = (MODULES.parent / "package-lock.json").read_text()
    assert all(package.sha512 in lock for package in PACKAGES)
    # One byte more is another file.
    copied = tmp_path / "copied"
    for name in FILES:
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODULES / name, copied / name)
    name = next(iter(FILES))
    (copied / name).write_bytes(found[name] + b"\n")
    with pytest.raises(MobilesegError, match="is not the one"):
        find_runtime(copied)
