"""What the evaluation measures without attack is what `validation_step` gets right, or the fit is refused."""

import re
from dataclasses import replace

import pytest
from callbacks import dishonest, honest, libraries
from callbacks.strangers import Habit, clean, fit
from callbacks.tiny import make_trainer

from segrobust.networks import FullResolution, Normalized

SLOW = {"compiled", "compiled_task"}


def proposed(error: Exception) -> dict:
    """The arguments that a message says to write."""
    (line,) = re.findall(r"Write (.*?)(?: \(from segrobust\.networks\)|, or set .*)?$", str(error))
    line = line.replace(" in the place of module.model in network=", "")  # a wrapper that the case has stays around it
    if line.startswith("Normalized("):
        line = f"network=lambda module: FullResolution({line})"
    return eval(
        f"dict({line.replace(' and image=', ', image=')})", {"Normalized": Normalized, "FullResolution": FullResolution}
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in honest.HABITS]
)
def test_an_honest_project_is_neither_refused_nor_doubted(tmp_path, name):
    habit = honest.HABITS[name]()
    counts, robustness = fit(habit, tmp_path)
    if "mixed" in str(habit.trainer.get("precision")):  # attacks are in float32
        make_trainer(tmp_path).validate(habit.module, habit.val, verbose=False)
        counts = habit.module.counts
    assert clean(robustness) == pytest.approx((counts.accuracy, counts.miou), abs=1e-4)
    assert robustness.history[-1].failed_checks == ()


def refused(habit: Habit, root, message: str) -> ValueError:
    with pytest.raises(ValueError, match=message) as caught:
        fit(habit, root / "refused")
    assert habit.module.global_step == 0
    return caught.value


AFTER, BEFORE = "on_after_batch_transfer may be where", "on_before_batch_transfer may be where"
EXPLAINED = {
    "forward_normalizes": r"of Normalizes gives 'model' images as \(image - mean\) / std, mean=\(0.485, ",
    "step_normalizes": r"of Normalizes gives 'model' images as \(image - mean\) / std, mean=\(0.485, ",
    "module_normalizes_after_the_transfer": rf"\(Normalizes.{AFTER}\)",
    "data_module_normalizes_before_the_transfer": rf"\(NormalizingData.{BEFORE}\)",
    "data_module_normalizes_after_the_transfer": rf"\(NormalizingData.{AFTER}\)",
    "collate_function_normalizes": r"images as \(image - mean\) / std",
    "red_and_blue_swapped_in_the_step": "images with the channels in the opposite order",
    "step_multiplies_by_255": "std=.0.00392157",
    "another_image_than_the_network_sees": r"mean=\(0.1, 0.1, 0.1\), std=\(0.8, 0.8, 0.8\)",
    "sum_of_two_networks": "other classes from 'Sums' than network='model'",
    "head_outside_of_the_network": "other classes from 'Head' than network='model'",
    "logits_shifted_after_the_network": "something changes the logits after the network",
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_refusal_names_the_line_that_makes_both_equal(tmp_path, name):
    arguments = proposed(refused(dishonest.HABITS[name](), tmp_path, EXPLAINED[name]))
    habit = dishonest.HABITS[name]()
    counts, robustness = fit(replace(habit, evaluation={**habit.evaluation, **arguments}), tmp_path)
    assert clean(robustness) == pytest.approx((counts.accuracy, counts.miou), abs=1e-4)
    assert robustness.history[-1].failed_checks == ()


REFUSED = {
    "another_network_is_validated": "not called by .*: write network=lambda module: module.teacher",
    "step_inverts_images_of_the_second_loader": "other images than network='model' is attacked on",
    "step_resizes": "images of 3 channels and 16 x 20 pixels, but what is attacked is of 3 channels and 24 x 32 pixels",
    "step_crops": "images of 3 channels and 16 x 16 pixels",
    "data_module_crops_after_the_transfer": rf"16 x 16 pixels, but what .* \(Crops.{AFTER}\)",
    "gamma_in_the_step": "no mean and std per channel explains it",
    "dropout_in_the_validation": "by a module in training mode",
    "batch_statistics_in_the_validation": "by a module in training mode",
    "masks_mapped_after_the_transfer": rf"other masks than mask= gives \(Maps.{AFTER}\)",
    "a_class_becomes_void_after_the_transfer": rf"other masks than mask= gives \(Ignores.{AFTER}\)",
    "augmentation_left_in": "RandomBrightness gives another image whenever the same sample is read",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_line_explains_is_refused_by_its_name(tmp_path, name):
    refused(dishonest.HABITS[name](), tmp_path, REFUSED[name])


def test_constants_of_one_image_are_refused_for_the_next(tmp_path):
    make = dishonest.HABITS["each_image_is_standardized"]
    arguments = proposed(refused(make(), tmp_path, "images as .image - mean. / std"))
    refused(replace(make(), evaluation=arguments), tmp_path, "images as .image - mean. / std")


@pytest.mark.parametrize(
    "name",
    [
        "hook_of_a_layer_normalizes",
        "split_in_the_sampler",
        "split_in_the_batch_sampler",
        "the_shortest_loader_ends_the_validation",
        "weights_taken_out_before_the_attack",
        "weights_taken_out_by_the_module",
    ],
)
def test_what_would_differ_by_images_or_weights_is_equal(tmp_path, name):
    counts, robustness = fit(dishonest.HABITS[name](), tmp_path)
    assert clean(robustness) == pytest.approx((counts.accuracy, counts.miou), abs=1e-4)


LIBRARIES = {
    "torchgeo_with_the_values_of_files": None,
    "torchgeo_that_normalizes": rf"\(PicturesData.{AFTER}\)",
    "torchgeo_that_normalizes_the_values_of_files": rf"\(PicturesData.{AFTER}\)",
    "torchgeo_with_a_grid_of_patches": None,
    "smp_as_documented": "validation_step of CamVidModel gives 'model' images as .image - mean. / std",
    "segformer_whose_samples_are_put_into_image_units": "in the place of module.model in network=",
}


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_are_equal_or_refused_with_the_line(tmp_path, name):
    arguments = {}
    if LIBRARIES[name]:
        arguments = proposed(refused(libraries.HABITS[name](tmp_path), tmp_path, LIBRARIES[name]))
    habit = libraries.HABITS[name](tmp_path)
    counts, robustness = fit(replace(habit, evaluation={**habit.evaluation, **arguments}), tmp_path)
    assert clean(robustness) == pytest.approx((counts.accuracy, counts.miou), abs=1e-4)
    assert robustness.history[-1].failed_checks == ()
    own = habit.module.trainer.callback_metrics.get("val_MulticlassAccuracy")
    if own is not None:  # torchgeo's own count
        assert 100 * own.item() == pytest.approx(counts.accuracy, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("segformer_without_a_wrapper", TypeError, "wrap it in segrobust.networks.FullResolution"),
        ("segformer_that_normalizes_samples", ValueError, r"images must lie in \[0, 1\], got"),
    ],
)
def test_segformer_is_refused_before_the_training(tmp_path, name, error, message):
    with pytest.raises(error, match=message):
        fit(libraries.HABITS[name](tmp_path), tmp_path)
