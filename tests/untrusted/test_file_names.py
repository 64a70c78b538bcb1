"""Names that are parts of file names."""

import pytest

from segrobust.attacks import FGSM, PGD
from segrobust.callbacks import RobustnessEvaluation
from segrobust.evaluation import Job, plan_attacks
from segrobust.untrusted.file_names import check_file_name, file_key

REFUSED = [
    "",
    ".",
    "..",
    ".pgd",
    "pgd.",
    "a/b",
    "a\\b",
    "a:b",
    "a b",
    "å",
    "a\n",
    "a" * 101,
    "con",
    "NUL",
    "aux.v2",
    "Com1",
]
ALLOWED = ["pgd", "a", "alma_prox_500", "sea.0.pgd", "PGD-linf", "console", "com10", "a" * 100, "_"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_some_system_cannot_hold_is_refused_wherever_one_is_given(name):
    for make in (
        lambda: check_file_name(name, "a name"),
        lambda: Job(name=name, attack=FGSM(eps=0.1)),
        lambda: RobustnessEvaluation(name=name),
    ):
        with pytest.raises(
            ValueError, match="letters a to z" if name.lower()[:3] not in ("con", "nul", "aux", "com") else "device"
        ):
            make()


@pytest.mark.parametrize("name", ALLOWED)
def test_other_names_are_allowed(name):
    check_file_name(name, "a name")
    assert Job(name=name, attack=FGSM(eps=0.1)).name == name


def test_names_that_a_disk_without_case_takes_for_one_are_refused():
    assert file_key("PGD") == file_key("pgd.") == file_key("Pgd ")
    assert file_key("pgd") != file_key("p.gd")
    with pytest.raises(ValueError, match="upper and lower case"):
        plan_attacks({"PGD": PGD(), "pgd": PGD(num_steps=3)}, (0.1,))
    with pytest.raises(ValueError, match="'clean'"):
        Job(name="Clean", attack=FGSM(eps=0.1))
