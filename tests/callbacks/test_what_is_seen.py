"""What the evaluation measures without attack is what `validation_step` gets right, or the fit is refused."""

import re
from dataclasses import replace

import pytest
from callbacks import dishonest, honest
from callbacks.strangers import clean, fit
from callbacks.tiny import make_trainer

from segrobust.networks import Normalized

SLOW = {"compiled", "compiled_task"}


def proposed(error: Exception) -> dict:
    """The arguments that a message says to write."""
    (line,) = re.findall(r"Write (.*) \(from segrobust\.networks\)", str(error))
    return eval(f"dict({line.replace(' and image=', ', image=')})", {"Normalized": Normalized})


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


NORMALIZED = {
    "forward_normalizes": "validation_step of Normalizes gives 'model' images as .image - mean. / std",
    "step_normalizes": "validation_step of Normalizes gives 'model' images as .image - mean. / std",
    "module_normalizes_after_the_transfer": r"\(Normalizes.on_after_batch_transfer may be where\)",
    "data_module_normalizes_before_the_transfer": r"\(NormalizingData.on_before_batch_transfer may be where\)",
    "data_module_normalizes_after_the_transfer": r"\(NormalizingData.on_after_batch_transfer may be where\)",
    "collate_function_normalizes": "images as .image - mean. / std",
    "red_and_blue_swapped_in_the_step": "with the channels in the opposite order",
    "step_multiplies_by_255": "std=.0.00392157",
    "another_image_than_the_network_sees": r"mean=\(0.1, 0.1, 0.1\), std=\(0.8, 0.8, 0.8\)",
}


@pytest.mark.parametrize("name", NORMALIZED)
def test_a_refusal_names_the_line_that_makes_both_equal(tmp_path, name):
    with pytest.raises(ValueError, match=NORMALIZED[name]) as refused:
        fit(dishonest.HABITS[name](), tmp_path)
    habit = dishonest.HABITS[name]()
    habit = replace(habit, evaluation={**habit.evaluation, **proposed(refused.value)})
    counts, robustness = fit(habit, tmp_path)
    assert clean(robustness) == pytest.approx((counts.accuracy, counts.miou), abs=1e-4)
