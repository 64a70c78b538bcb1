import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from trees import camvid_tree, stripes, write_image, write_mask

from segrobust.data import CAMVID, CamVid


@pytest.fixture
def root(tmp_path):
    return camvid_tree(tmp_path)


@pytest.fixture(scope="module")
def camvid():
    if not os.environ.get("SEGROBUST_CAMVID"):
        pytest.skip("SEGROBUST_CAMVID does not name the CamVid data set")
    return {split: CamVid(split=split) for split in ("train", "val")}


def test_sample_holds_the_pixels_of_the_files(root):
    data = CamVid(root, "val")
    sample = data[1]
    image = np.asarray(Image.open(root / "val" / "0016E5_00001.png"))
    assert sample["image"].dtype == torch.float32
    assert torch.equal((sample["image"] * 255).round().byte().permute(1, 2, 0), torch.from_numpy(image.copy()))
    assert torch.equal(sample["mask"], torch.from_numpy(stripes((13, 17), (0, 3, 10, 255)).copy()).long())
    assert sample["sample_id"] == 1
    assert data.names == ("0016E5_00000", "0016E5_00001", "0016E5_00002")
    assert data.sequences == ("0016E5",) * 3
    assert data.describe() == "CamVid val, 3 images, 11 classes"


@pytest.mark.parametrize("index", [-1, 3])
def test_index_outside_names_the_range(root, index):
    with pytest.raises(IndexError, match=rf"sample {index} of CamVid val.*0\.\.2"):
        CamVid(root, "val")[index]


def test_resizing_averages_images_and_picks_labels(tmp_path):
    for split in ("train", "val"):
        write_mask(tmp_path / f"{split}annot" / "a_0.png", np.kron([[1, 2], [3, 11]], np.ones((4, 4))))
        board = np.kron(np.indices((8, 8)).sum(0) % 2 * 255, np.ones((1, 1)))[..., None].repeat(3, 2)
        (tmp_path / split).mkdir()
        Image.fromarray(board.astype(np.uint8)).save(tmp_path / split / "a_0.png")
    sample = CamVid(tmp_path, "val", size=(2, 2))[0]
    assert sample["mask"].tolist() == [[1, 2], [3, 255]]
    # A chess board of single pixels, shrunk four times, is grey everywhere only when the filter covers all pixels.
    assert torch.allclose(sample["image"], torch.tensor(0.5), atol=0.02)


def test_root_comes_from_the_environment(root, monkeypatch):
    monkeypatch.setenv("SEGROBUST_CAMVID", str(root))
    assert len(CamVid(split="train")) == 3
    monkeypatch.delenv("SEGROBUST_CAMVID")
    with pytest.raises(ValueError, match=r"root=\.\.\., or set the environment variable SEGROBUST_CAMVID"):
        CamVid(split="train")


def test_another_layout_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="no folder trainannot, val, valannot"):
        CamVid(tmp_path, "train")


def test_wrong_split_is_refused(root):
    with pytest.raises(ValueError, match="'train' or 'val', got 'test'"):
        CamVid(root, "test")


@pytest.mark.parametrize("size", [(0, 4), (4,)])
def test_wrong_size_is_refused(root, size):
    with pytest.raises(ValueError, match="height, width"):
        CamVid(root, "val", size=size)


def test_files_without_partner_are_counted_and_named(root):
    (root / "valannot" / "0016E5_00002.png").unlink()
    for index in range(7):
        write_mask(root / "valannot" / f"extra_{index}.png", stripes((13, 17), (0,)))
    with pytest.raises(ValueError, match=r"1 images without a mask.*0016E5_00002.*7 masks without an image") as caught:
        CamVid(root, "val")
    assert "extra_4, ..." in str(caught.value)


def test_two_files_for_one_name_are_refused(root):
    write_image(root / "val" / "0016E5_00002.jpg", (13, 17))
    with pytest.raises(ValueError, match=r"two files for one sample: .*0016E5_00002\.jpg"):
        CamVid(root, "val")


def test_sizes_that_differ_are_named_at_construction(root):
    write_mask(root / "valannot" / "0016E5_00001.png", stripes((13, 18), (0,)))
    with pytest.raises(ValueError, match=r"0016E5_00001\.png is 17x13 but its mask .* is 18x13"):
        CamVid(root, "val")


def test_foreign_labels_are_named_with_their_file(root):
    write_mask(root / "valannot" / "0016E5_00001.png", stripes((13, 17), (0, 12, 40)))
    data = CamVid(root, "val")
    data[0]
    with pytest.raises(ValueError, match=r"0016E5_00001\.png: .* hold 12, 40; allowed are 0\.\.10"):
        data[1]


@pytest.mark.parametrize("mode", ["RGB", "I;16", "RGBA"])
def test_masks_of_other_modes_are_refused_at_construction(root, mode):
    Image.new(mode, (17, 13)).save(root / "valannot" / "0016E5_00001.png")
    with pytest.raises(
        ValueError, match=rf"0016E5_00001\.png has mode {mode}; a mask of this data set is one 8-bit channel"
    ):
        CamVid(root, "val")


def test_images_of_16_bits_are_refused_at_construction(root):
    Image.new("I;16", (17, 13)).save(root / "val" / "0016E5_00001.png")
    with pytest.raises(ValueError, match=r"0016E5_00001\.png has values of uint16, more than 8 bits"):
        CamVid(root, "val")


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_a_decompression_bomb_is_refused_by_its_header(root, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    (root / "val" / "0016E5_00001.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IDAT")
    with pytest.raises(ValueError, match=r"0016E5_00001\.png: .*pixels.*MAX_IMAGE_PIXELS"):
        CamVid(root, "val")


@pytest.mark.parametrize("folder", ["val", "valannot"])
def test_a_cut_file_is_named(root, folder):
    path = root / folder / "0016E5_00001.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(ValueError, match=rf"{folder}.0016E5_00001\.png cannot be read as an image"):
        CamVid(root, "val")[1]


def test_text_is_not_an_image(root):
    (root / "val" / "0016E5_00001.png").write_text("nothing")
    with pytest.raises(ValueError, match=r"0016E5_00001\.png cannot be read as an image"):
        CamVid(root, "val")


def test_fingerprint_follows_names_sizes_and_split(root, tmp_path_factory):
    fingerprint = CamVid(root, "val").fingerprint()
    assert CamVid(camvid_tree(tmp_path_factory.mktemp("copy")), "val").fingerprint() == fingerprint
    others = [
        CamVid(root, "train"),
        CamVid(root, "val", size=(8, 8)),
        CamVid(camvid_tree(tmp_path_factory.mktemp("more"), num=4), "val"),
        CamVid(camvid_tree(tmp_path_factory.mktemp("larger"), size=(14, 17)), "val"),
    ]
    assert len({fingerprint, *(other.fingerprint() for other in others)}) == 5


@pytest.mark.camvid
def test_real_camvid_has_its_counts_and_sequences(camvid):
    assert {split: len(data) for split, data in camvid.items()} == {"train": 367, "val": 101}
    assert set(camvid["train"].sequences) == {"0001TP", "0006R0", "0016E5"}
    assert set(camvid["val"].sequences) == {"0016E5"}
    assert not set(camvid["train"].names) & set(camvid["val"].names)


@pytest.mark.camvid
def test_real_camvid_labels_survive_resizing(camvid):
    seen = set()
    for index in range(0, 101, 20):
        native = camvid["val"][index]
        assert native["image"].shape == (3, 360, 480)
        small = CamVid(split="val", size=(97, 131))[index]["mask"]
        assert small.shape == (97, 131)
        assert set(small.unique().tolist()) <= set(native["mask"].unique().tolist())
        seen |= set(native["mask"].unique().tolist())
    assert seen == {*range(CAMVID.num_classes), 255}


@pytest.mark.camvid
def test_real_camvid_classes_are_where_a_driver_expects_them(camvid):
    """Sky above, road below: catches a shifted label table."""
    masks = torch.stack([camvid["val"][index]["mask"] for index in range(0, 101, 20)])
    rows = torch.arange(masks.shape[1]).view(1, -1, 1).expand_as(masks).double()
    mean_row = {name: rows[masks == index].mean().item() for index, name in enumerate(CAMVID.names)}
    assert min(mean_row, key=mean_row.get) == "sky"
    assert max(mean_row, key=mean_row.get) in {"road", "pavement"}
    assert torch.bincount(masks[masks < 11]).argmax() in (CAMVID.names.index("road"), CAMVID.names.index("building"))
