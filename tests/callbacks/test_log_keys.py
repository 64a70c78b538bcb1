"""Names in logs: every logger keeps them, and they say what is better."""

import re

import pytest

from segrobust.attacks import FGSM, PGD, AlmaProx, LagrangianFMN
from segrobust.callbacks import RobustnessEvaluation
from segrobust.callbacks.log_keys import FAILED_CHECKS, LogKey, at_radius, default_monitor, higher_is_better, log_keys
from segrobust.callbacks.measurement import Measurement
from segrobust.evaluation import plan_attacks
from segrobust.evaluation.numbers.metrics import METRICS, NORM_METRICS

MLFLOW = re.compile(r"[/\w.\- ]*", re.ASCII)
"""Of `mlflow.utils.validation`; ASCII because Lightning's logger drops other letters."""

PLAN = plan_attacks(
    {
        "alma.prox-500_a": AlmaProx(num_steps=1),
        "fmn": LagrangianFMN(num_passes=2),
        "PGD": PGD(num_steps=1),
        "f_at_8": FGSM(),
        "clean_l2": PGD(num_steps=1, norm="l2", eps=5000.0),
        "by_product_": PGD(num_steps=1, norm="l2", eps=1e-7),
    },
    (0.3 / 255, 1 / 3, 2.5 / 255, 8 / 255),
)


def test_every_logger_keeps_the_keys():
    keys = [*log_keys(PLAN, "val"), *RobustnessEvaluation({"pgd": PGD(num_steps=1)}).keys]
    assert len(keys) > 60
    for key in keys:
        assert MLFLOW.fullmatch(key), key
        assert not re.search(r"(^|/)\.*(/|$)", key), key
    for name in ("a@b", "a b", "größe", "a/b", ""):
        with pytest.raises(ValueError, match="a job's name has letters a to z"):
            plan_attacks({name: FGSM()}, (0.1,))


def test_keys_can_be_read_back():
    radii = {"0.3", "85", "2.5", "8", "1275000", "0.0000255"}
    sources = {*(job.name for job in PLAN.jobs), "robust_subset", "smallest_linf", "worst_linf", "worst_l2"}
    found = [LogKey.parse(key) for key in log_keys(PLAN, "val")]
    assert {key.source for key in found} == sources
    assert {key.radius for key in found} == radii | {""}
    assert {key.metric for key in found} == {
        metric.log_name for metric in (*METRICS, *NORM_METRICS) if any("log" in place for place in metric.places)
    }
    assert {key.source for key in found if key.kind == "by_product_"} == {"alma.prox-500_a", "fmn"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("miou", "miou_at_8"), ("by_product_acc", "by_product_acc_at_8")],
)
def test_a_radius_is_in_units_of_an_8_bit_picture(name, expected):
    assert at_radius(name, 8 / 255) == expected
    assert at_radius("miou", 0.5 / 255) == "miou_at_0.5"


def test_the_direction_is_that_of_the_metric():
    for key, expected in (
        ("val/pgd/miou_at_4", True),
        ("val/pgd/acc_at_0.5", True),
        ("val/pgd/apsr_at_4", False),
        ("val/fmn/asr", False),
        ("val/fmn/asr_at_8", False),
        ("val/fmn/mean_norm_capped", True),
        ("test/fmn/by_product_apsr_at_4", False),
        ("val/robust_subset/clean_miou", True),
        ("eval/clean/apsr", False),
        (f"val/robust_subset/{FAILED_CHECKS}", False),
    ):
        assert higher_is_better(key) == expected, key
    assert higher_is_better(default_monitor(PLAN))
    with pytest.raises(ValueError, match=r"no metric is logged as 'val/pgd/loss'.*miou"):
        higher_is_better("val/pgd/loss")


def test_the_history_of_an_older_checkpoint_has_the_names_of_today():
    measurement = Measurement(epoch=0, step=1, num_images=2, values={"val/pgd/miou_at_4": 1.0})
    old = measurement.to_state() | {"values": {"val/pgd/miou@4": 1.0}}
    assert Measurement.from_state(old) == measurement
