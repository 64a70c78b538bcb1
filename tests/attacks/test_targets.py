"""What targeted attacks are told to do."""

import math

import numpy as np
import pytest
import torch
from conformance import ConvNetwork, make_batch
from PIL import Image

from segrobust.attacks import LagrangianFMN, Localized, Targeted, Untargeted
from segrobust.attacks.targets import (
    Box,
    Constant,
    EraseClasses,
    LabelMap,
    Localize,
    MapClasses,
    MaskFile,
    OfClasses,
    Outside,
    Scene,
    SecondBest,
    majority_map,
    write_label_map,
)
from segrobust.functional.modes import attackable
from segrobust.label_space import LabelSpace

SPACE = LabelSpace(
    names=("road", "walk", "house", "sky", "person"),
    palette=((128, 64, 128), (244, 35, 232), (70, 70, 70), (70, 130, 180), (220, 20, 60)),
)


def make_scene(label_space=SPACE, seed=0, size=(9, 12), names=("a", "b/c")):
    """Labels in patches with void pixels, and logits whose prediction is another map."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(5, (2, 3, 4), generator=generator)
    labels = coarse.repeat_interleave(3, 1).repeat_interleave(3, 2)
    labels[:, :2, :3] = 255
    return Scene(labels, torch.randn(2, 5, *size, generator=generator), names, 255, label_space)


@pytest.fixture
def scene():
    return make_scene()


def test_every_pixel_wants_the_one_class_by_index_or_by_name(scene):
    aim = Constant(label="sky").maps(scene)
    assert aim.targets.eq(3).all()
    assert aim.keep_mask is None
    assert torch.equal(Constant(label=3).maps(scene).targets, aim.targets)


def test_every_pixel_wants_its_second_class(scene):
    expected = scene.logits.sort(1, descending=True).indices[:, 1]
    assert torch.equal(SecondBest().maps(scene).targets, expected)


@pytest.mark.parametrize("source", ["prediction", "label"])
def test_classes_become_what_the_table_says_and_others_stay(scene, source):
    aim = MapClasses(pairs=(("person", "road"), (2, 3)), source=source).maps(scene)
    classes = scene.read(source)
    table = {4: 0, 2: 3}
    for value, target, kept in zip(
        classes.flatten().tolist(), aim.targets.flatten().tolist(), aim.keep_mask.flatten().tolist(), strict=True
    ):
        assert (target, kept) == (table.get(value, value), value not in table)


def nearest_other(classes, hidden, y, x):
    """Classes of the pixels at the least distance that are not hidden: brute force."""
    found, least = set(), math.inf
    for i in range(classes.shape[0]):
        for j in range(classes.shape[1]):
            distance = (i - y) ** 2 + (j - x) ** 2
            if not hidden[i, j] and distance <= least:
                found = found | {int(classes[i, j])} if distance == least else {int(classes[i, j])}
                least = distance
    return found


@pytest.mark.parametrize("source", ["prediction", "label"])
def test_erased_pixels_want_the_class_of_the_nearest_other(scene, source):
    aim = EraseClasses(classes=("person", "walk"), source=source).maps(scene)
    classes = scene.read(source)
    erased = (classes == 4) | (classes == 1)
    assert torch.equal(aim.keep_mask, ~erased)
    assert torch.equal(aim.targets[~erased], classes[~erased])
    assert erased.any()
    hidden = erased | (scene.labels == 255)
    for b, y, x in erased.nonzero().tolist():
        assert aim.targets[b, y, x].item() in nearest_other(classes[b], hidden[b], y, x)


def test_others_may_count_for_nothing(scene):
    aim = EraseClasses(classes=(4,), source="label", others="ignore").maps(scene)
    person = scene.labels == 4
    assert aim.keep_mask is None
    assert aim.targets[~person].eq(255).all()
    assert aim.targets[person].lt(4).all()


def test_an_image_without_the_class_or_with_nothing_else_is_not_attacked():
    """Through the attack: no pixel is valid, nothing is spent."""
    network, batch = ConvNetwork(), make_batch(ConvNetwork(), batch_size=3)
    labels = batch.labels.clone()
    labels[0], labels[1] = 4, 1
    aim = EraseClasses(classes=(4,), source="label")(network, batch.images, labels)
    attack = LagrangianFMN(num_passes=4, criterion=Localized(targeted=True))
    result = attack(network, batch.images, labels, targets=aim.targets, keep_mask=aim.keep_mask)
    assert result.apsr.isnan().tolist() == [True, True, False]
    assert result.num_backwards[:2].sum() == 0


def test_targets_never_depend_on_other_images(scene):
    parts = [Scene(scene.labels[[i]], scene.logits[[i]], scene.names[i : i + 1], 255, SPACE) for i in range(2)]
    for targets in (SecondBest(), EraseClasses(classes=(4,)), MapClasses(pairs=((1, 2),), source="label")):
        alone = torch.cat([targets.maps(part).targets for part in parts])
        assert torch.equal(targets.maps(scene).targets, alone)


def test_targets_of_a_network_are_those_of_its_clean_logits():
    """Called with a network in training mode, which is left so."""
    network, batch = ConvNetwork(), make_batch(ConvNetwork())
    network.train()
    aim = SecondBest()(network, batch.images, batch.labels)
    with torch.no_grad(), attackable(network):
        expected = network(batch.images).sort(1, descending=True).indices[:, 1]
    assert torch.equal(aim.targets, expected)
    assert network.training


def test_pixels_of_regions(scene):
    box = Box(top=1 / 3, left=0.5, bottom=2 / 3, right=1.0).pixels(scene)
    expected = torch.zeros_like(box)
    expected[:, 3:6, 6:12] = True
    assert torch.equal(box, expected)
    assert torch.equal(Outside(region=Box(top=1 / 3, left=0.5, bottom=2 / 3, right=1)).pixels(scene), ~expected)
    assert torch.equal(OfClasses(classes=("sky", 0)).pixels(scene), (scene.labels == 3) | (scene.labels == 0))
    assert torch.equal(OfClasses(classes=(3,), source="prediction").pixels(scene), scene.prediction == 3)


@pytest.mark.parametrize("source", ["prediction", "label"])
def test_some_pixels_are_attacked_and_some_kept(scene, source):
    box, people = Box(top=0, left=0, bottom=0.5, right=0.5), OfClasses(classes=("person",))
    aim = Localize(attacked=people, keep=box, source=source).maps(scene)
    attacked = scene.labels == 4
    kept = box.pixels(scene) & ~attacked
    assert torch.equal(aim.keep_mask, kept)
    assert torch.equal(aim.targets[attacked], scene.labels[attacked])
    assert torch.equal(aim.targets[kept], scene.read(source)[kept])
    assert aim.targets[~attacked & ~kept].eq(255).all()
    everything_else = Localize(attacked=people, targets=Constant(label=0)).maps(scene)
    assert torch.equal(everything_else.keep_mask, ~attacked)
    assert everything_else.targets[attacked].eq(0).all()


@pytest.mark.parametrize(
    ("targets", "criterion"),
    [
        (Constant(label=0), Targeted()),
        (SecondBest(), Targeted()),
        (EraseClasses(classes=(0,)), Localized(targeted=True)),
        (EraseClasses(classes=(0,), others="ignore"), Targeted()),
        (Localize(attacked=OfClasses(classes=(0,))), Localized()),
        (Localize(attacked=OfClasses(classes=(0,)), targets=Constant(label=1)), Localized(targeted=True)),
    ],
)
def test_targets_go_with_one_criterion(targets, criterion):
    targets.require_criterion(criterion)
    for other in {Untargeted(), Targeted(), Localized(), Localized(targeted=True)} - {criterion}:
        with pytest.raises(ValueError, match=type(criterion).__name__):
            targets.require_criterion(other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EraseClasses(classes=()), "at least one class"),
        (lambda: OfClasses(classes=()), "at least one class"),
        (lambda: MapClasses(pairs=()), "at least one class"),
        (lambda: MapClasses(pairs=((1, 2), (1, 3))), "none twice"),
        (lambda: EraseClasses(classes=(1,), source="truth"), "prediction, label"),
        (lambda: EraseClasses(classes=(1,), others="drop"), "keep, ignore"),
        (lambda: Box(top=0.5, left=0, bottom=0.5, right=1), "top < bottom"),
        (lambda: Box(top=0, left=0, bottom=200, right=1), "shares"),
        (lambda: Localize(attacked=OfClasses(classes=(1,)), targets=EraseClasses(classes=(2,))), "not be localised"),
    ],
)
def test_settings_without_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("label", "space", "message"),
    [
        ("tree", SPACE, "no class 'tree'; the data has road, walk"),
        ("sky", None, "no label space; give its index"),
        (5, SPACE, r"0\.\.4"),
    ],
)
def test_unknown_classes_are_named(label, space, message):
    with pytest.raises(ValueError, match=message):
        Constant(label=label).maps(make_scene(space))


def save_map(path, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, dtype=np.uint8)).convert(mode).save(path)


def test_one_map_serves_all_images_at_any_size(scene, tmp_path):
    small = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 255], [1, 1, 0, 0]])
    save_map(tmp_path / "map.png", small)
    aim = LabelMap(path=str(tmp_path / "map.png")).maps(scene)
    expected = small.repeat_interleave(3, 0).repeat_interleave(3, 1)
    assert torch.equal(aim.targets, expected.expand(2, -1, -1))
    large = expected.repeat_interleave(5, 0).repeat_interleave(5, 1)
    save_map(tmp_path / "large.png", large)
    assert torch.equal(LabelMap(path=str(tmp_path / "large.png")).maps(scene).targets, aim.targets)


def test_a_folder_has_a_map_for_each_sample(scene, tmp_path):
    save_map(tmp_path / "a.png", np.full((9, 12), 1))
    save_map(tmp_path / "b" / "c.png", np.full((9, 12), 2))
    assert LabelMap(path=str(tmp_path)).maps(scene).targets.amax((1, 2)).tolist() == [1, 2]
    with pytest.raises(ValueError, match="give the samples' names"):
        LabelMap(path=str(tmp_path)).maps(make_scene(names=None))
    with pytest.raises(ValueError, match=r"d\.png cannot be read"):
        LabelMap(path=str(tmp_path)).maps(make_scene(names=("a", "d")))


def test_a_mask_file_is_a_region(scene, tmp_path):
    mask = np.zeros((9, 12))
    mask[2:5, 3:7] = 255
    save_map(tmp_path / "mask.png", mask, "1")
    region = MaskFile(path=str(tmp_path / "mask.png"))
    assert torch.equal(region.pixels(scene), torch.from_numpy(mask > 0).expand(2, -1, -1))


def test_files_are_known_by_their_content(tmp_path):
    for name, value in (("one", 1), ("same", 1), ("other", 2)):
        save_map(tmp_path / f"{name}.png", np.full((3, 3), value))
    one, same, other = (LabelMap(path=str(tmp_path / f"{name}.png")) for name in ("one", "same", "other"))
    assert one.identity == same.identity != other.identity
    assert str(tmp_path) not in one.identity
    nested = {
        Localize(attacked=Outside(region=MaskFile(path=targets.path)), targets=targets).identity
        for targets in (one, same, other)
    }
    assert len(nested) == 2
    folder = LabelMap(path=str(tmp_path))
    before = folder.identity
    (tmp_path / "one.png").rename(tmp_path / "first.png")
    assert folder.identity != before


def test_files_that_are_no_label_maps_are_refused(scene, tmp_path):
    with pytest.raises(ValueError, match="no label map at"):
        _ = LabelMap(path=str(tmp_path / "none.png")).identity
    Image.new("RGB", (4, 4)).save(tmp_path / "colour.png")
    with pytest.raises(ValueError, match="mode RGB"):
        LabelMap(path=str(tmp_path / "colour.png")).maps(scene)
    write_label_map(
        tmp_path / "others.png", torch.zeros(3, 3), label_space=LabelSpace(names=("x",), palette=((1,) * 3,))
    )
    with pytest.raises(ValueError, match="made for the classes x; the data has road"):
        LabelMap(path=str(tmp_path / "others.png")).maps(scene)


def test_a_map_is_written_and_read_again_void_included(scene, tmp_path):
    labels = scene.labels[0]
    write_label_map(tmp_path / "map.png", labels, label_space=SPACE, made_from="a test")
    assert torch.equal(LabelMap(path=str(tmp_path / "map.png")).maps(scene).targets[0], labels)
    with Image.open(tmp_path / "map.png") as picture:
        colors = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(colors, SPACE.colorize(labels))


def masks():
    generator = torch.Generator().manual_seed(4)
    found = [torch.randint(4, (6, 7), generator=generator) for _ in range(9)]
    for mask in found:
        mask[0, 0] = 255
        mask[1, 1] = 2
    return found


def test_the_majority_is_that_of_each_place():
    found = majority_map(iter(masks()), 4, smoothing=0)
    stacked = torch.stack(masks())
    for y in range(6):
        for x in range(7):
            values = stacked[:, y, x][stacked[:, y, x] != 255].tolist()
            counts = [values.count(c) for c in range(4)]
            assert found[y, x].item() == (counts.index(max(counts)) if values else 255)
    assert found[0, 0] == 255


def test_smoothing_takes_in_what_is_there_by_chance():
    """A single pixel in a wide field vanishes; a field stays; void places get the class around them."""
    field = torch.zeros(40, 60, dtype=torch.int64)
    field[:, 30:] = 1
    field[20, 10] = 2
    field[5:7, 45:47] = 255
    found = majority_map([field] * 3, 3, smoothing=0.03)
    expected = torch.zeros_like(field)
    expected[:, 30:] = 1
    assert torch.equal(found, expected)


def test_masks_of_other_sizes_are_brought_to_the_size_of_the_map():
    large = masks()[0].repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(majority_map([large], 4, size=(6, 7), smoothing=0), masks()[0])
    assert torch.equal(majority_map([masks()[0], large], 4, smoothing=0), masks()[0])


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        ([], {}, "at least one mask"),
        ([torch.full((2, 2), 7)], {}, r"hold \[7\]"),
        (masks(), {"smoothing": -1}, "at least 0"),
    ],
)
def test_majorities_without_meaning_are_refused(given, settings, message):
    with pytest.raises(ValueError, match=message):
        majority_map(given, 4, **settings)
