"""Nothing is followed out of a folder of somebody else, also where a folder becomes a link after it was checked."""

import inspect
import os
import shutil
import sys

import pytest

from segrobust.untrusted import folders
from segrobust.untrusted.data_fault import DataFault
from segrobust.untrusted.folders import OpenFolder, opened_folder
from segrobust.untrusted.regular_files import (
    open_regular,
    open_to_append,
    read_limited,
    remove,
    replace_file,
    require_plain,
)

SECRET = b"a secret\nwithout a line end"


@pytest.fixture(params=[True, False], ids=["descriptors", "paths"])
def way(request, monkeypatch):
    """How names are reached: relative to descriptors, or by paths that are looked at before."""
    if request.param and not folders.HAS_DESCRIPTORS:
        pytest.skip("this system opens no name relative to a folder")
    monkeypatch.setattr(folders, "HAS_DESCRIPTORS", request.param)
    return request.param


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    (folder / "tiles").mkdir(parents=True)
    for name in ("a.json", "tiles/a.json"):
        (folder / name).write_bytes(SECRET)
    return folder


@pytest.fixture
def root(tmp_path):
    (tmp_path / "run" / "panels" / "tiles").mkdir(parents=True)
    for name in ("a.json", "panels/a.json", "panels/tiles/a.json"):
        (tmp_path / "run" / name).write_bytes(b"whole\n")
    return tmp_path / "run"


def read(path, root):
    return read_limited(path, 100, "a file", root=root)


def append(path, root):
    with open_to_append(path, root=root) as file:
        file.write(b"more\n")


def write(path, root):
    replace_file(path, b"new", root=root)


WORK = {"read": read, "append": append, "write": write, "remove": lambda path, root: remove(path, root=root)}


def swap(path, target):
    """A folder becomes a link to another one."""
    os.rename(path, path.with_name(f"{path.name}-moved"))
    path.symlink_to(target)


def content_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["panels", "panels/tiles"])
@pytest.mark.parametrize("work", WORK)
def test_a_folder_that_is_a_link_is_not_followed(root, outside, name, work):
    before = content_of(outside)
    swap(root / name, outside)
    with pytest.raises(DataFault, match=f"{root / name} is a link"):
        WORK[work](root / "panels" / "tiles" / "a.json", root)
    assert content_of(outside) == before


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("work", ["read", "append"])
def test_a_file_that_is_a_link_is_not_followed(root, outside, work):
    (root / "a.json").unlink()
    (root / "a.json").symlink_to(outside / "a.json")
    with pytest.raises(DataFault, match=r"a\.json is a link"):
        WORK[work](root / "a.json", root)
    assert (outside / "a.json").read_bytes() == SECRET


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("work", ["write", "remove"])
def test_of_a_file_that_is_a_link_the_link_alone_is_replaced(root, outside, work):
    (root / "a.json").unlink()
    (root / "a.json").symlink_to(outside / "a.json")
    WORK[work](root / "a.json", root)
    assert (outside / "a.json").read_bytes() == SECRET
    assert not (root / "a.json").is_symlink()


@pytest.mark.usefixtures("way")
def test_what_is_no_link_is_read_continued_replaced_and_removed(root):
    path = root / "panels" / "tiles" / "a.json"
    append(path, root)
    assert read(path, root) == b"whole\nmore\n"
    write(path, root)
    assert read(path, root) == b"new"
    remove(path, root=root)
    remove(path, root=root)
    remove(root / "panels" / "gone" / "a.json", root=root)
    with pytest.raises(FileNotFoundError, match=r"tiles/a\.json"):
        read(path, root)
    write(root / "new" / "er" / "a.json", root)
    append(root / "newer" / "a.json", root)
    remove(root / "panels", root=root)
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert found == {"a.json", "new/er/a.json", "newer/a.json"}


@pytest.mark.usefixtures("way")
def test_the_root_may_be_a_link_and_nothing_leads_above_it(root, tmp_path):
    (tmp_path / "link").symlink_to(root)
    assert read(tmp_path / "link" / "panels" / "a.json", tmp_path / "link") == b"whole\n"
    with pytest.raises(DataFault, match="leads out of"):
        read(root / "panels" / ".." / ".." / "outside" / "a.json", root)


@pytest.mark.usefixtures("way")
def test_a_file_in_the_place_of_a_folder_is_named(root):
    with pytest.raises(DataFault, match=r"a\.json is a regular file, and a folder is needed"):
        write(root / "a.json" / "b.json", root)


class Racing:
    """Swaps a folder for a link at a moment that a check cannot see: after the look, before the use."""

    def __init__(self, monkeypatch, at, folder, target):
        real, self.done = getattr(OpenFolder, at), False

        def first(opened, *arguments, **options):
            if not self.done:
                self.done = True
                swap(folder, target)
            return real(opened, *arguments, **options)

        monkeypatch.setattr(OpenFolder, at, first)


@pytest.mark.skipif(not folders.HAS_DESCRIPTORS, reason="this system opens no name relative to a folder")
@pytest.mark.parametrize(
    ("work", "at"), [("read", "open"), ("append", "open"), ("write", "open"), ("write", "rename"), ("remove", "remove")]
)
@pytest.mark.parametrize("name", ["panels", "panels/tiles"])
def test_a_folder_that_becomes_a_link_after_it_was_opened_is_used_as_it_was(root, outside, monkeypatch, work, at, name):
    """The descriptor still means the folder that was checked; the link and what is behind it are not touched."""
    require_plain(root, ["panels"], [])
    before = content_of(outside)
    race = Racing(monkeypatch, at, root / name, outside)
    WORK[work](root / "panels" / "tiles" / "a.json", root)
    assert race.done
    assert content_of(outside) == before
    moved = root / f"{name}-moved" / ("tiles" if name == "panels" else "") / "a.json"
    after = {"read": b"whole\n", "append": b"whole\nmore\n", "write": b"new"}
    assert not moved.exists() if work == "remove" else moved.read_bytes() == after[work]


@pytest.mark.skipif(not folders.HAS_DESCRIPTORS, reason="this system opens no name relative to a folder")
@pytest.mark.parametrize("work", WORK)
def test_a_folder_that_becomes_a_link_between_check_and_opening_is_refused(root, outside, monkeypatch, work):
    require_plain(root, ["panels"], [])
    before = content_of(outside)
    Racing(monkeypatch, "inner", root / "panels", outside)
    with pytest.raises(DataFault, match="panels is a link"):
        WORK[work](root / "panels" / "tiles" / "a.json", root)
    assert content_of(outside) == before


@pytest.mark.skipif(not folders.HAS_DESCRIPTORS, reason="this system opens no name relative to a folder")
@pytest.mark.parametrize("work", ["read", "append"])
def test_a_file_that_becomes_a_link_after_the_look_is_refused_by_the_opening(root, outside, monkeypatch, work):
    path, real = root / "panels" / "a.json", os.open

    def late(name, flags, *arguments, **options):
        if name == "a.json" and not path.is_symlink():
            path.unlink()
            path.symlink_to(outside / "a.json")
        return real(name, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(DataFault, match=r"a\.json is a link"):
        WORK[work](path, root)
    assert (outside / "a.json").read_bytes() == SECRET


@pytest.mark.skipif(not folders.HAS_DESCRIPTORS, reason="this system opens no name relative to a folder")
def test_a_pipe_that_comes_after_the_look_is_refused_and_not_waited_for(root, monkeypatch):
    path, real = root / "a.json", os.open

    def late(name, flags, *arguments, **options):
        if name == "a.json":
            path.unlink()
            os.mkfifo(path)
        return real(name, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", late)
    with pytest.raises(DataFault, match="named pipe"):
        read(path, root)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("work", ["read", "append"])
def test_what_is_no_regular_file_is_not_even_opened(root, monkeypatch, work):
    """A device acts on being opened."""
    path, real, opened = root / "a.json", os.open, []
    path.unlink()
    os.mkfifo(path)

    def noted(name, *arguments, **options):
        opened.append(os.path.basename(name))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", noted)
    with pytest.raises(DataFault, match="named pipe"):
        WORK[work](path, root)
    assert "a.json" not in opened


def test_posix_systems_have_descriptors():
    assert folders.HAS_DESCRIPTORS is (os.name == "posix")


@pytest.mark.usefixtures("way")
def test_a_disk_that_is_full_leaves_the_old_file_and_no_other(root, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OpenFolder, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        write(root / "a.json", root)
    assert (root / "a.json").read_bytes() == b"whole\n"
    assert sorted(path.name for path in root.iterdir()) == ["a.json", "panels"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="lists descriptors in /proc")
def test_descriptors_are_closed_also_after_refusals(root, outside):
    (root / "panels" / "tiles" / "b.json").symlink_to(outside)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for work in WORK.values():
            for name in ("b.json", "c/d.json", "gone"):
                try:
                    work(root / "panels" / "tiles" / name, root)
                except (DataFault, OSError):
                    continue
    assert len(os.listdir("/proc/self/fd")) == before


def test_files_of_a_data_set_are_reached_without_reading_the_folder(root):
    """A folder may allow its files to be opened and not its list to be read."""
    assert open_regular(root / "a.json").read() == b"whole\n"
    (root / "link.json").symlink_to(root / "a.json")
    assert open_regular(root / "link.json").read() == b"whole\n"


def test_a_folder_is_made_below_the_root_alone(tmp_path):
    with opened_folder(tmp_path / "run" / "records", tmp_path / "run", make=True) as folder:
        assert folder.path == tmp_path / "run" / "records"
    assert (tmp_path / "run" / "records").is_dir()
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="run"), opened_folder(tmp_path / "run" / "records", tmp_path / "run"):
        pass


def test_a_folder_that_is_too_deep_to_be_removed_is_named_or_removed(root):
    deep = root / "deep"
    (deep / "/".join("d" * 300)).mkdir(parents=True)
    limit, said = sys.getrecursionlimit(), ""
    sys.setrecursionlimit(len(inspect.stack(0)) + 120)
    try:
        remove(deep, root=root)
    except DataFault as fault:
        said = str(fault)
    finally:
        sys.setrecursionlimit(limit)
    assert "nested too deeply to be removed" in said or not deep.exists()  # recent versions of Python remove it
    assert len(said) < 1000


def test_folders_within_one_another_are_refused_before_their_path_is_too_long(root):
    (root / "deep" / "/".join("d" * 8)).mkdir(parents=True)
    require_plain(root, ["deep"], [])
    (root / "deep" / "/".join("d" * 99)).mkdir(parents=True)
    with pytest.raises(DataFault, match="more than 8 folders deep"):
        require_plain(root, ["deep"], [])
