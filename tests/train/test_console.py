"""A bar on a terminal, lines elsewhere; never a word on stdout."""

from __future__ import annotations

import io
import sys

import pytest

from mobileseg.train.console import Display


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Display(10, 4, bar=True) as display:
        display.step(7, "epoch 2/3  loss 0.1234  mIoU 91.20 %")
        display.line("epoch [1] done")
    shown = terminal.getvalue()
    assert "loss 0.1234  mIoU 91.20 %" in shown
    assert "7/10" in shown
    assert "epoch [1] done" in shown
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("bar", [True, False])
def test_lines_elsewhere(bar: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with Display(10, 0, bar=bar) as display:
        display.step(1, "unseen")
        display.line("epoch 1/3")
    assert capsys.readouterr() == ("", "epoch 1/3\n")
