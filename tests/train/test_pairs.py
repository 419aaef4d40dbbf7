"""Lists, folders and CamVid's layout; the seeded split."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mobileseg.errors import MobilesegError
from mobileseg.train.data import pairs, split_note
from tests.train.pictures import write_list


def stems(found: tuple[object, ...]) -> list[str]:
    return [pair.image.stem for pair in found]  # type: ignore[attr-defined]


def test_list_folder_and_camvid_find_the_same_pairs(tmp_path: Path) -> None:
    config = write_list(tmp_path, 6)
    by_list = pairs(replace(config, val=Path("train.txt")), "train")
    by_folder = pairs(replace(config, train=Path(), val=Path()), "train")
    assert by_list == by_folder
    for folder, name in (("images", "day"), ("masks", "dayannot")):
        shutil.copytree(tmp_path / folder, tmp_path / name)
    camvid = pairs(replace(config, train=Path("day"), val=Path("day")), "val")
    assert stems(camvid) == stems(by_list)
    assert camvid[2].mask == tmp_path / "dayannot/p2.png"


def test_several_lists_are_one_split(tmp_path: Path) -> None:
    for folder, count in (("a", 2), ("b", 3)):
        (tmp_path / folder).mkdir()
        write_list(tmp_path / folder, count)
    both = (Path("a/train.txt"), Path("b/train.txt"))
    config = replace(write_list(tmp_path / "a", 2), root=tmp_path, train=both, val=both)
    assert [p.image.parent.parent.name for p in pairs(config, "train")] == [*"aabbb"]
    assert split_note(config) == "val is a/train.txt, b/train.txt"
    with pytest.raises(MobilesegError, match=r"c\.txt: data\.val is neither"):
        pairs(replace(config, val=(*both, Path("c.txt"))), "val")


def test_original_camvid_mask_names(tmp_path: Path) -> None:
    config = write_list(tmp_path, 3)
    for mask in (tmp_path / "masks").iterdir():
        mask.rename(mask.with_stem(mask.stem + "_L"))
    found = pairs(replace(config, train=Path(), val=Path()), "train")
    assert [pair.mask.name for pair in found] == ["p0_L.png", "p1_L.png", "p2_L.png"]


def test_list_with_spaces_comments_and_root_relative_paths(tmp_path: Path) -> None:
    config = write_list(tmp_path, 2)
    (tmp_path / "images/p0.jpg").rename(tmp_path / "images/my dog.jpg")
    (tmp_path / "lists").mkdir()
    text = "# portraits\n\nimages/my dog.jpg\tmasks/p0.png\nimages/p1.jpg   masks/p1.png\n"
    (tmp_path / "lists/t.txt").write_text("\ufeff" + text, encoding="utf-8")
    found = pairs(replace(config, train=Path("lists/t.txt"), val=Path("lists/t.txt")), "train")
    assert stems(found) == ["my dog", "p1"]


def test_without_val_a_seeded_share_is_held_out(tmp_path: Path) -> None:
    config = write_list(tmp_path, 10)
    config = replace(config, val_share=0.3)
    train, val = pairs(config, "train"), pairs(config, "val")
    assert (len(train), len(val)) == (7, 3)
    assert not set(train) & set(val)
    assert pairs(config, "val") == val
    assert pairs(replace(config, split_seed=5), "val") != val
    assert "30 %" in split_note(config)
    assert "seed 0" in split_note(config)
    assert split_note(replace(config, val=Path("v.txt"))) == "val is v.txt"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("images/p0.jpg", "train.txt:3: 'images/p0.jpg': want `image mask`"),
        ("images/p0.jpg masks/none.png", "train.txt:3: no such file: .*none.png"),
    ],
)
def test_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    config = write_list(tmp_path, 2)
    with (tmp_path / "train.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(MobilesegError, match=message):
        pairs(config, "train")


def test_other_mistakes(tmp_path: Path) -> None:
    config = write_list(tmp_path, 3)
    with pytest.raises(MobilesegError, match=r"data\.test: not set"):
        pairs(config, "test")
    with pytest.raises(MobilesegError, match=r"absent: data\.train is neither"):
        pairs(replace(config, train=Path("absent")), "train")
    with pytest.raises(MobilesegError, match="no folder imagesannot/ beside it"):
        pairs(replace(config, train=Path("images"), val=Path("images")), "train")
    (tmp_path / "masks/p1.png").unlink()
    (tmp_path / "masks/extra.png").write_bytes((tmp_path / "masks/p0.png").read_bytes())
    with pytest.raises(MobilesegError, match=r"2 of 4 are wrong:\n.*p1.jpg.*\n.*extra.png"):
        pairs(replace(config, train=Path(), val=Path()), "train")
    (tmp_path / "images/p0.png").write_bytes(b"")
    with pytest.raises(MobilesegError, match="same name"):
        pairs(replace(config, train=Path(), val=Path()), "train")
