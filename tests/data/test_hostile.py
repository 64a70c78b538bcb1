"""Files, names, links and archives that somebody made to do harm, or that an accident made as bad."""

import hashlib
import io
import os
import pickle
import shutil
import struct
import tarfile
import urllib.request
import zipfile
import zlib

import numpy as np
import pytest
from dataset_trees import cityscapes_tree, sbd_tree, voc_tree, write_png
from PIL import Image
from trees import camvid_tree, stripes, write_image, write_mask

from segrobust.data import CamVid, Cityscapes, DataFault, Folder, PascalVOC, SegmentationDataModule
from segrobust.data.files.archives import ARCHIVES, Archive, fetch
from segrobust.data.files.unpacking import unpack

VAL_LIST = "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"


@pytest.fixture
def voc(tmp_path):
    voc_tree(tmp_path)
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "harbour"
    for name in ("a", "b"):
        write_image(root / "images" / "val" / f"{name}.png", (8, 9))
        write_mask(root / "masks" / "val" / f"{name}.png", stripes((8, 9), (0, 1)))
    (root / "classes.yaml").write_text("names: [water, quay]\n")
    return root


def bomb(side, color_type=2):
    """A PNG whose header states a size, and no more of it."""
    header = struct.pack(">IIBBBBB", side, side, 8, color_type, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IDAT"


@pytest.mark.parametrize(("part", "color_type"), [("images", 2), ("masks", 0)])
def test_a_bomb_is_refused_before_decoding_with_the_limit_and_the_way_round_it(folder, part, color_type):
    (folder / part / "val" / "b.png").write_bytes(bomb(60_000, color_type))
    with pytest.raises(
        DataFault, match=r"b\.png: .*3600000000 pixels.*limit of \d+ pixels.*Raise PIL\.Image\.MAX_IMAGE_PIXELS"
    ) as caught:
        Folder(folder, "val")
    assert caught.value.kind == "too large"


def test_the_limit_can_be_raised_as_the_message_says(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(DataFault, match="72 pixels"):
        Folder(folder, "val")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 72)
    assert len(Folder(folder, "val")) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../../../secret", r"val\.txt: '\.\./\.\./\.\./\.\./secret' is a path and not a name"),
        ("/etc/passwd", "'/etc/passwd' is a path"),
        ("..", r"'\.\.' is a path"),
        (r"..\secret", "is a path"),
        ("2007_000033\x00.txt", "characters that cannot be printed"),
        ("2007_000033\x1b[31m", "characters that cannot be printed"),
        ("2007_000033", "names 2007_000033 twice"),
        ("2012_999999", r"1 names in .*val\.txt without an image in JPEGImages \(2012_999999\)"),
    ],
)
def test_a_list_names_files_of_its_data_set_alone(voc, name, message):
    write_image(voc.parent / "secret.jpg", (8, 8))
    (voc / VAL_LIST).write_text(f"2007_000033\n{name}\n")
    with pytest.raises(DataFault, match=message):
        PascalVOC(voc, "val")


def test_lists_that_are_no_lists_are_refused(voc):
    (voc / VAL_LIST).write_bytes(b"\xff\xfe2007")
    with pytest.raises(DataFault, match="not a list of names in UTF-8"):
        PascalVOC(voc, "val")
    with (voc / VAL_LIST).open("wb") as file:
        file.truncate(2**24 + 1)
    with pytest.raises(DataFault, match="16777217 bytes; a list of names has at most 16777216"):
        PascalVOC(voc, "val")
    (voc / VAL_LIST).unlink()
    with pytest.raises(DataFault, match=r"the list of names is missing: .*val\.txt"):
        PascalVOC(voc, "val")


def test_lists_of_sbd_are_no_exception(voc):
    sbd_tree(voc / "sbd", voc)
    (voc / "sbd/benchmark_RELEASE/dataset/val.txt").write_text("../../../secret\n")
    with pytest.raises(DataFault, match="is a path and not a name"):
        PascalVOC(voc, "train_aug", sbd=voc / "sbd")


def test_windows_line_ends_are_no_part_of_a_name(voc):
    (voc / VAL_LIST).write_bytes(b"2007_000033\r\n\r\n2009_000042\r\n")
    assert PascalVOC(voc, "val").names == ("2007_000033", "2009_000042")


@pytest.mark.parametrize("name", ["x\ny", "x\x1b[2J", "x\u202egnp"])
def test_file_names_that_cannot_be_printed_are_refused(folder, name):
    shutil.copy(folder / "images/val/a.png", folder / "images/val" / f"{name}.png")
    with pytest.raises(DataFault, match="holds characters that cannot be printed; rename the file"):
        Folder(folder, "val")


def test_names_in_other_scripts_and_of_markup_are_names(folder):
    for name in ("Straße 1", "港", "<script>alert(1)</script>"[:7], "a b & c"):
        for part in ("images", "masks"):
            shutil.copy(folder / part / "val/a.png", folder / part / "val" / f"{name}.png")
    assert {"Straße 1", "港", "<script", "a b & c"} < set(Folder(folder, "val").names)


@pytest.mark.parametrize("what", ["file", "folder", "list"])
def test_links_that_leave_the_root_are_refused_unless_trusted(tmp_path, what, monkeypatch):
    root = tmp_path / "root"
    voc_tree(root)
    inside = {
        "file": "VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg",
        "folder": "VOCdevkit/VOC2012/SegmentationClass",
        "list": VAL_LIST,
    }[what]
    outside = tmp_path / "outside"
    shutil.move(root / inside, outside)
    (root / inside).symlink_to(outside)
    with pytest.raises(
        DataFault, match=rf"{inside} is a symbolic link to .*outside.*SEGROBUST_FOLLOW_LINKS=1"
    ) as caught:
        PascalVOC(root, "val")
    assert caught.value.kind == "link"
    monkeypatch.setenv("SEGROBUST_FOLLOW_LINKS", "1")
    assert len(PascalVOC(root, "val")) == 2


def test_links_within_the_root_and_to_the_root_are_followed(tmp_path):
    root = tmp_path / "root"
    cityscapes_tree(root)
    shutil.move(root / "gtFine/val/munster", root / "elsewhere")
    (root / "gtFine/val/munster").symlink_to(root / "elsewhere")
    (tmp_path / "link").symlink_to(root)
    assert len(Cityscapes(tmp_path / "link", "val")) == 2


def test_a_city_that_is_a_link_out_of_the_root_is_refused(tmp_path):
    root = tmp_path / "root"
    cityscapes_tree(root)
    shutil.move(root / "gtFine/val/munster", tmp_path / "elsewhere")
    (root / "gtFine/val/munster").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataFault, match="munster is a symbolic link"):
        Cityscapes(root, "val")


@pytest.mark.parametrize("name", ["classes.yaml", "images", "masks/val"])
def test_no_part_of_a_path_may_be_a_link_out_of_the_root(folder, name):
    shutil.move(folder / name, folder.parent / "outside")
    (folder / name).symlink_to(folder.parent / "outside")
    with pytest.raises(DataFault, match=f"{name} is a symbolic link to .*outside"):
        Folder(folder, "val")


def test_a_link_to_itself_is_named(folder):
    (folder / "images/val/c.png").symlink_to("c.png")
    with pytest.raises(DataFault, match=r"c\.png"):
        Folder(folder, "val")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow remarks on damaged TIFF files
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_damaged_images_are_faults_and_nothing_else(tmp_path, suffix):
    """Bytes are changed at random: what comes out is pixels or a fault that names the file."""
    camvid_tree(tmp_path)
    path = tmp_path / "val" / "0016E5_00001.png"
    path.unlink()
    path = path.with_suffix(suffix)
    write_image(path, (13, 17))
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(whole[: rng.integers(len(whole) // 2, len(whole) + 1)])
        for place in rng.integers(0, min(len(damaged), 200), 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            CamVid(tmp_path, "val")[1]
            outcomes.add("read")
        except DataFault as fault:
            outcomes.add(fault.kind if path.name in str(fault) else "nameless")
    assert {"unreadable"} <= outcomes <= {"unreadable", "read", "size", "mode", "too large"}


def test_a_header_that_pillow_has_no_error_for_is_a_fault(folder):
    """Its parser raises a plain ValueError on an IHDR of four bytes."""
    chunk = struct.pack(">I", 4) + b"IHDR" + bytes(4) + struct.pack(">I", zlib.crc32(b"IHDR" + bytes(4)))
    (folder / "images" / "val" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(DataFault, match=r"b\.png cannot be read as an image"):
        Folder(folder, "val")


def test_faults_come_out_of_loading_processes_as_what_they_are(folder):
    path = folder / "masks" / "val" / "b.png"
    write_mask(path, stripes((8, 9), (0, 7)))
    module = SegmentationDataModule(val=Folder(folder, "val"), eval_batch_size=2, num_workers=1)
    with pytest.raises(DataFault, match=r"b\.png: 32 of 72 pixels hold 7 \(32\)"):
        list(module.val_dataloader())
    assert pickle.loads(pickle.dumps(DataFault("text", kind="size"))).kind == "size"


def test_damaged_matlab_files_are_faults_and_nothing_else(voc):
    sbd_tree(voc / "sbd", voc)
    path = voc / "sbd/benchmark_RELEASE/dataset/cls/2011_000123.mat"
    data = PascalVOC(voc, "train_aug", sbd=voc / "sbd")
    index = data.names.index("2011_000123")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(150):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(damaged), 3):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            data[index]
        except DataFault as fault:
            kinds.add(fault.kind if path.name in str(fault) else "nameless")
    assert {"unreadable"} <= kinds <= {"unreadable", "size", "mode", "labels"}


# --- archives


def tar_with(path, name, *, kind=tarfile.REGTYPE, link=""):
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, content = kind, link, b"evil"
        member.size = len(content) if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("../evil.txt", {}),
        ("a/../../evil.txt", {}),
        ("link", {"kind": tarfile.SYMTYPE, "link": "../../evil.txt"}),
        ("link", {"kind": tarfile.SYMTYPE, "link": "/etc/passwd"}),
        ("device", {"kind": tarfile.CHRTYPE}),
    ],
)
def test_tar_members_stay_inside(tmp_path, name, settings):
    tar_with(tmp_path / "evil.tar", name, **settings)
    with pytest.raises(DataFault, match=r"evil\.tar is not unpacked"):
        unpack(tmp_path / "evil.tar", tmp_path / "data")
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/evil.txt", r"..\evil.txt", "C:/evil.txt"])
def test_zip_members_stay_inside(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("good.txt", "good")
        archive.writestr(name, "evil")
    with pytest.raises(DataFault, match=r"evil\.zip is not unpacked: .*leads outside of its folder"):
        unpack(tmp_path / "evil.zip", tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_zip_links_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(DataFault, match="'link' is a symbolic link"):
        unpack(tmp_path / "evil.zip", tmp_path / "data")


@pytest.mark.parametrize("name", ["cut.tar", "cut.tgz", "cut.zip"])
def test_cut_archives_are_faults(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 and nothing")
    with pytest.raises(DataFault, match=f"{name} is not unpacked"):
        unpack(tmp_path / name, tmp_path / "data")


def test_an_archive_is_loaded_checked_and_unpacked(tmp_path):
    """From a file: URL, since tests reach no server."""
    (tmp_path / "tree").mkdir()
    voc_tree(tmp_path / "tree")
    source = tmp_path / "source" / "VOC.tar"
    source.parent.mkdir()
    with tarfile.open(source, "w") as archive:
        archive.add(tmp_path / "tree" / "VOCdevkit", "VOCdevkit")
    digest = hashlib.md5(source.read_bytes()).hexdigest()
    url = "file:" + urllib.request.pathname2url(str(source))
    good = Archive(url=url, algorithm="md5", digest=digest, terms="none")
    seen = []
    path = fetch(good, tmp_path / "data", lambda done, total: seen.append((done, total)))
    unpack(path, tmp_path / "data")
    assert len(PascalVOC(tmp_path / "data", "val")) == 2
    assert seen[-1] == (source.stat().st_size, source.stat().st_size)
    assert fetch(good, tmp_path / "data") == path  # it is there: nothing is loaded
    bad = Archive(url=url, algorithm="sha1", digest="0" * 40, terms="none")
    with pytest.raises(DataFault, match=r"VOC\.tar\.part is another file: its sha1 is .*, expected is 0000"):
        fetch(bad, tmp_path / "other")
    assert not os.listdir(tmp_path / "other")
    source.write_text("<!DOCTYPE html><title>Sign in</title>")
    with pytest.raises(DataFault, match="a page in HTML and no archive"):
        fetch(bad, tmp_path / "other")
    source.unlink()
    with pytest.raises(OSError, match=r"cannot be loaded: .*Load it by other means"):
        fetch(bad, tmp_path / "other")


def test_archives_state_where_they_are_from_and_what_they_are():
    lengths = {"md5": 32, "sha1": 40}
    for archive in ARCHIVES.values():
        assert len(archive.digest) == lengths[archive.algorithm]
        assert archive.terms
    assert "cityscapes" not in ARCHIVES


def test_masks_with_an_alpha_channel_are_refused(folder):
    write_png(folder / "masks/val/b.png", np.zeros((8, 9, 4), dtype=np.uint8))
    with pytest.raises(DataFault, match=r"b\.png has mode RGBA, and 72 of 72 pixels are transparent"):
        Folder(folder, "val")[1]
