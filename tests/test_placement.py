"""A finished file gets its name: whole, durable, and in nobody's place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from node.placement import put_in_place


@pytest.fixture(params=["with links", "without"])
def draft(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished file, on a file system with hard links and on one that has none."""

    def refuse(_source: object, _target: object) -> None:
        raise OSError(1, "Operation not permitted")

    if request.param == "without":
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "draft"
    path.write_text("new")
    return path


@pytest.mark.parametrize("replace", [False, True])
def test_it_gets_its_name(draft: Path, replace: bool) -> None:
    target = draft.with_name("target")
    put_in_place(draft, target, replace=replace)
    assert target.read_text() == "new" and not draft.exists()


def test_what_is_there_stays(draft: Path) -> None:
    target = draft.with_name("target")
    target.write_text("old")
    with pytest.raises(FileExistsError):
        put_in_place(draft, target, replace=False)
    assert (target.read_text(), draft.read_text()) == ("old", "new")
    put_in_place(draft, target, replace=True)
    assert target.read_text() == "new" and not draft.exists()


def test_also_a_link_to_nowhere_is_something(draft: Path) -> None:
    target = draft.with_name("target")
    target.symlink_to(draft.with_name("nowhere"))
    with pytest.raises(FileExistsError):
        put_in_place(draft, target, replace=False)
    assert target.is_symlink() and draft.read_text() == "new"


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_plain_file_is_never_replaced(draft: Path, replace: bool) -> None:
    folder, pipe = draft.with_name("folder"), draft.with_name("pipe")
    folder.mkdir()
    os.mkfifo(pipe)
    for target in (folder, pipe):
        with pytest.raises(FileExistsError):
            put_in_place(draft, target, replace=replace)
    assert folder.is_dir() and pipe.is_fifo() and draft.read_text() == "new"


def test_the_folder_is_synced(draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(Path(f"/proc/self/fd/{descriptor}").readlink()))
    put_in_place(draft, draft.with_name("target"), replace=False)
    assert synced == [draft.parent]
