"""Files timed by the program that boards run, here and over a real ssh server on loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.export.tflite import write_tflite
from mobileseg.latency.design import design
from mobileseg.latency.place import BOOT, HERE, Job, Place, run_job, ssh_place
from mobileseg.latency.profile import load_profile
from mobileseg.workflow.calibrate import calibrate_machine
from mobileseg.workflow.where import Where, measure_on

SMALL = Job(rounds=2, ms=5, least=2, warmup=1)
MODEL = next(model for model in design() if model.family == "stem")
FILES = {"stem.tflite": write_tflite(MODEL.graph)}


def quiet(_done: int) -> None:
    """Hear nothing."""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that programs started here keep temporary files in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def empty_soon(folder: Path) -> bool:
    """Whether the folder is empty within a few seconds."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if not list(folder.iterdir()):
            return True
        time.sleep(0.1)
    return False


def test_times_and_facts_come_back(temporary: Path) -> None:
    heard: list[int] = []
    answer = run_job(HERE, SMALL, FILES, heard.append)
    rounds = answer["files"]["stem.tflite"]
    assert heard == [1, 2] and len(rounds) == 2
    assert all(0 < one["us"] <= one["p90_us"] and one["runs"] >= 2 for one in rounds)
    assert answer["runtime"].startswith("LiteRT") and answer["cpu"] and answer["cores"] >= 1
    assert empty_soon(temporary)


def test_a_python_without_a_runtime_gets_the_command_to_install_one() -> None:
    bare = Place("the board", (sys.executable, "-I", "-S", "-u", "-c"))
    with pytest.raises(MobilesegError, match=r"the board: .* -m pip install ai-edge-litert"):
        run_job(bare, SMALL, FILES, quiet)


def test_a_file_that_the_runtime_refuses(temporary: Path) -> None:
    with pytest.raises(MobilesegError, match="this machine: the runtime refused the file"):
        run_job(HERE, SMALL, {"odd.tflite": b"no model"}, quiet)
    assert empty_soon(temporary)


def test_whoever_leaves_stops_the_board(temporary: Path) -> None:
    def leave(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(HERE, Job(rounds=1000, ms=1000), FILES, leave)
    assert empty_soon(temporary)


@pytest.mark.parametrize(
    "address",
    [
        "pi@host",
        "http://host",
        "ssh://",
        "ssh://-oProxyCommand=x",
        "ssh://user@-oProxyCommand=x",
        "ssh://-l@host",
        "ssh://a b@host",
        "ssh://host;reboot",
        "ssh://$(reboot)",
        "ssh://host/path",
        "ssh://user:secret@host",
        "ssh://host:70000",
        "ssh://host:x",
        "ssh://host\nother",
    ],
)
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(MobilesegError, match="is no address; give ssh://user@host"):
        ssh_place(address)


@pytest.mark.parametrize("python", ["", "-x", "python3; reboot", "$(x)", "a b", "a'b"])
def test_what_is_no_python(python: str) -> None:
    with pytest.raises(MobilesegError, match="is no path of a program"):
        ssh_place("ssh://host", python)


def test_the_command_is_a_list_of_words() -> None:
    place = ssh_place("ssh://pi@raspberrypi.local:2222", "venv/bin/python")
    assert place.command[0] == "ssh"
    end = ("-p", "2222", "-l", "pi", "--", "raspberrypi.local", "venv/bin/python", "-u", "-c")
    assert place.command[-len(end) :] == end
    assert "BatchMode=yes" in place.command
    assert "'" not in BOOT


@dataclass(frozen=True)
class Server:
    """A real sshd of this test's own, and what its client needs."""

    address: str
    config: Path
    temporary: Path
    folder: Path

    def place(self, python: str = sys.executable) -> Place:
        return ssh_place(self.address, python, self.config)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def client_config(folder: Path, name: str, identity: Path, known: Path) -> Path:
    path = folder / name
    lines = [
        f"IdentityFile {identity}",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        f"UserKnownHostsFile {known}",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking yes",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    program = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("needs OpenSSH's sshd and ssh: apt-get install openssh-server")
    if os.geteuid() == 0:
        # An sshd of root's changes into this empty folder; Debian makes it when the service starts.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    folder = tmp_path_factory.mktemp("sshd")
    temporary = folder / "temporary"
    temporary.mkdir()
    host, mine, port = key(folder / "host"), key(folder / "mine"), free_port()
    authorized = folder / "authorized"
    authorized.write_text(mine.with_suffix(".pub").read_text(encoding="utf-8"), encoding="utf-8")
    known = folder / "known"
    public = " ".join(host.with_suffix(".pub").read_text(encoding="utf-8").split()[:2])
    known.write_text(f"[127.0.0.1]:{port} {public}\n", encoding="utf-8")
    config = folder / "sshd_config"
    lines = [
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        f"HostKey {host}",
        f"AuthorizedKeysFile {authorized}",
        f"PidFile {folder / 'pid'}",
        f"SetEnv TMPDIR={temporary}",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "StrictModes no",
        "UsePAM no",
    ]
    config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    log = (folder / "log").open("wb")
    process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=log)
    try:
        _await(port, process)
        found = client_config(folder, "client", mine, known)
        address = f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
        yield Server(address, found, temporary, folder)
    finally:
        process.terminate()
        process.wait(timeout=10)
        log.close()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    pytest.skip(f"sshd does not run here (status {process.poll()})")


def test_measures_over_ssh_and_cleans_up(server: Server) -> None:
    where = Where(server.address, sys.executable, server.config)
    found = measure_on(FILES["stem.tflite"], where, threads=1)
    assert 0 < found.median_ms <= found.p90_ms
    assert found.runtime.startswith("LiteRT") and server.address in found.runtime
    assert found.how == "LiteRT's profiler"
    assert len(found.operators) == len(MODEL.graph.nodes)
    assert empty_soon(server.temporary)


@pytest.mark.slow
def test_calibrates_over_ssh(server: Server, tmp_path: Path) -> None:
    where = Where(server.address, sys.executable, server.config)
    heard: list[tuple[int, int]] = []
    found = calibrate_machine("board", tmp_path, where, 1, True, lambda *at: heard.append(at))
    assert load_profile(tmp_path / "board.toml") == found.profile
    assert heard[-1][0] == heard[-1][1] == len(heard)
    assert empty_soon(server.temporary)


def test_leaving_stops_and_cleans_the_board_over_ssh(server: Server) -> None:
    def leave(_done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(server.place(), Job(rounds=1000, ms=500), FILES, leave)
    assert empty_soon(server.temporary)


def test_no_python_over_there(server: Server) -> None:
    with pytest.raises(MobilesegError, match="--board-python"):
        run_job(server.place("no_such_python3"), SMALL, FILES, quiet)


def test_a_host_key_that_is_not_known(server: Server) -> None:
    config = client_config(server.folder, "stranger", server.folder / "mine", Path("/dev/null"))
    place = ssh_place(server.address, sys.executable, config)
    with pytest.raises(MobilesegError, match="key is not known here: run `ssh`"):
        run_job(place, SMALL, FILES, quiet)


def test_a_host_key_that_has_changed(server: Server) -> None:
    other, port = key(server.folder / "other"), server.address.rpartition(":")[2]
    public = " ".join(other.with_suffix(".pub").read_text(encoding="utf-8").split()[:2])
    known = server.folder / "changed"
    known.write_text(f"[127.0.0.1]:{port} {public}\n", encoding="utf-8")
    config = client_config(server.folder, "changed_client", server.folder / "mine", known)
    place = ssh_place(server.address, sys.executable, config)
    with pytest.raises(MobilesegError, match="ssh-keygen -R"):
        run_job(place, SMALL, FILES, quiet)


def test_a_login_that_is_refused(server: Server) -> None:
    wrong = key(server.folder / "wrong")
    config = client_config(server.folder, "refused", wrong, server.folder / "known")
    place = ssh_place(server.address, sys.executable, config)
    with pytest.raises(MobilesegError, match="no key opens it: `ssh-copy-id`"):
        run_job(place, SMALL, FILES, quiet)


def test_nobody_listens(server: Server) -> None:
    place = ssh_place(f"ssh://127.0.0.1:{free_port()}", sys.executable, server.config)
    with pytest.raises(MobilesegError, match="no ssh server listens there"):
        run_job(place, SMALL, FILES, quiet)


def test_there_is_no_ssh_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MobilesegError, match="install the OpenSSH client"):
        run_job(ssh_place("ssh://host"), SMALL, FILES, quiet)
