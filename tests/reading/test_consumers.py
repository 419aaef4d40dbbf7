"""The rules against those who make them: what we call violated, they do not take."""

from __future__ import annotations

import pytest

from tests.consumers import Answers, ask, consumers_python
from tests.export import small
from tests.reading.consumer_cases import cases

CASES = cases()


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    consumers_python()
    folder = tmp_path_factory.mktemp("cases")
    for case in CASES:
        (folder / f"{case.name}.tflite").write_bytes(case.data)
    return ask(folder, {"photo": small.pictures(1)[0]})


@pytest.mark.consumers
@pytest.mark.parametrize("consumer", ["mediapipe", "task"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_consumer_refuses_what_breaks_its_rules(case, consumer: str, answers: Answers) -> None:
    said = answers.said[case.name][consumer]
    assert (said != "ok") == (consumer in case.breaks), said


@pytest.mark.consumers
@pytest.mark.parametrize("consumer", ["mediapipe", "task"])
def test_labels_arrive(consumer: str, answers: Answers) -> None:
    assert answers.held("uint8", consumer)["labels"].tolist() == ["background", "person", "other"]


@pytest.mark.consumers
def test_one_class_is_0_above_one_half_and_255_elsewhere(answers: Answers) -> None:
    held = answers.held("one class", "mediapipe")
    likely = held["photo confidence"][0] > 0.5
    assert 0 < likely.mean() < 1
    assert ((held["photo"] == 0) == likely).all()
    assert ((held["photo"] == 255) == ~likely).all()
