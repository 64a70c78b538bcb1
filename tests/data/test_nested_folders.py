"""Images and masks in folders of scenes or cities, one below the other."""

import numpy as np
import pytest
from data_rows import classes, image, mask, network

import segrobust
from segrobust.attacks import FGSM
from segrobust.data import Folder
from segrobust.untrusted.data_fault import DataFault

NESTED = "images: 'images/**'\nmasks: 'masks/**'\n"


def write(root, *names, keys=NESTED):
    """A sample of each name, with other labels each, and the file of classes."""
    for place, name in enumerate(names):
        image(root / f"images/{name}.png")
        mask(root / f"masks/{name}.png", classes(seed=place))
    (root / "classes.yaml").write_text(f"names: [water, quay, boat]\n{keys}")


def test_the_same_name_in_two_folders_is_two_samples_of_two_recordings(tmp_path):
    write(tmp_path, "a/x", "b/x", "b/deep/x", "x")
    data = Folder(tmp_path)
    assert data.names == ("a/x", "b/deep/x", "b/x", "x")
    assert data.sequences == ("a", "b/deep", "b", "x")
    for index, seed in enumerate((0, 2, 1, 3)):
        assert np.array_equal(data[index]["mask"], classes(seed=seed))


def test_it_is_evaluated_and_stored_under_these_names(tmp_path):
    write(tmp_path / "data", "a/x", "b/x")
    run = {"run_dir": tmp_path / "run", "checks": "off", "progress": False}
    for _ in range(2):  # the second call reads what the first one wrote
        report = segrobust.evaluate(network(3), Folder(tmp_path / "data"), attacks={"fgsm": FGSM()}, eps=[0.01], **run)
        assert {record.sample_name for record in report.records} == {"a/x", "b/x"}
        assert {record.sequence for record in report.records} == {"a", "b"}


def test_a_list_names_them_with_their_folders(tmp_path):
    write(tmp_path, "a/x", "b/x", "b/y", keys=NESTED + "list: '{split}.txt'\n")
    (tmp_path / "val.txt").write_text("b/x.png\na/x\n")
    assert set(Folder(tmp_path, "val").names) == {"a/x", "b/x"}
    (tmp_path / "val.txt").write_text("../b/x\n")
    with pytest.raises(DataFault, match="is a path and not a name"):
        Folder(tmp_path, "val")


def test_folders_without_a_star_are_named_with_the_line_to_write(tmp_path):
    write(tmp_path, "val/a/x", "val/b/x", keys="")
    with pytest.raises(DataFault, match=r"no images in .*`images: images/\{split\}/\*\*` in classes.yaml"):
        Folder(tmp_path, "val")


def test_a_file_without_a_partner_is_named_with_its_folder(tmp_path):
    write(tmp_path, "a/x", "b/x")
    (tmp_path / "masks/b/x.png").unlink()
    with pytest.raises(DataFault, match=r"1 images without a mask .*\(b/x\)"):
        Folder(tmp_path)
    (tmp_path / "images/b/x.png").unlink()
    assert Folder(tmp_path).names == ("a/x",)


def test_links_stay_inside_and_have_an_end(tmp_path):
    root = tmp_path / "data"
    write(root, "a/x")
    (tmp_path / "secret").mkdir()
    image(tmp_path / "secret/x.png")
    (root / "images/out").symlink_to(tmp_path / "secret")
    with pytest.raises(DataFault, match="symbolic link"):
        Folder(root)
    (root / "images/out").unlink()
    (root / "images/a/again").symlink_to(root / "images")
    with pytest.raises(DataFault, match="deeper than 8"):
        Folder(root)
