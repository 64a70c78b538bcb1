import dataclasses
from dataclasses import dataclass, field, replace

import pytest
import torch

from segrobust.attacks import (
    DLR,
    FGSM,
    PGD,
    SEA,
    AlmaProx,
    LagrangianFMN,
    MinimalNormSearch,
    Polished,
    Targeted,
    Untargeted,
    WorstOf,
)
from segrobust.evaluation import Job, Plan, choose_samples, plan_attacks
from segrobust.evaluation.engine.runtime_estimate import estimate, max_passes
from segrobust.evaluation.engine.work import SharedWork, StridedWork


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "", "attack": FGSM(), "eps": (0.1,)}, "name"),
        ({"name": "a/b", "attack": FGSM(), "eps": (0.1,)}, "a/b"),
        ({"name": "clean", "attack": FGSM(), "eps": (0.1,)}, "clean"),
        ({"name": "a", "attack": FGSM(), "eps": (8.0,)}, "8/255"),
        ({"name": "a", "attack": FGSM(), "eps": (0.1, 0.1)}, "must differ"),
        ({"name": "a", "attack": FGSM()}, "needs radii"),
        ({"name": "a", "attack": FGSM(eps=0.2), "eps": (0.1,)}, "only one"),
        ({"name": "a", "attack": MinimalNormSearch(attack=PGD(norm="l2")), "eps": (-1.0,)}, "positive"),
    ],
)
def test_a_job_refuses_names_and_radii_without_meaning(arguments, message):
    with pytest.raises(ValueError, match=message):
        Job(**arguments)


def test_an_attack_that_does_not_tell_its_settings_is_refused():
    class Hidden(PGD):
        def __post_init__(self):
            object.__setattr__(self, "extra", 3)

    with pytest.raises(ValueError, match=r"job 'a': .*Hidden has attributes that are no fields: extra; declare them"):
        Job(name="a", attack=Hidden(), eps=(0.1,))


def test_hidden_fields_count():
    @dataclass(frozen=True, kw_only=True)
    class Secret(PGD):
        power: float = field(default=1.0, repr=False, compare=False)

    one, two = (Job(name="a", attack=Secret(power=power), eps=(0.1,)) for power in (1.0, 2.0))
    assert repr(one.attack) == repr(two.attack)
    assert one.attack == two.attack
    assert one.digest != two.digest


@pytest.mark.parametrize(
    ("jobs", "message"),
    [
        ((), "at least one"),
        ((Job(name="a", attack=FGSM(eps=0.1)), Job(name="a", attack=FGSM(eps=0.2))), "must differ"),
        ((Job(name="a", attack=FGSM(), eps=(0.1,)), Job(name="b", attack=FGSM(), eps=(0.2,))), "all the radii"),
        (
            (Job(name="a", attack=FGSM(eps=0.1)), Job(name="b", attack=PGD(eps=0.1, criterion=Untargeted(apsr=0.5)))),
            "0.5",
        ),
        ((Job(name="a", attack=AlmaProx(criterion=Targeted())),), "targets"),
    ],
)
def test_a_plan_refuses_what_cannot_be_compared(jobs, message):
    with pytest.raises(ValueError, match=message):
        Plan(jobs=jobs)


def test_units_of_a_plan_follow_the_kind_of_attack():
    plan = plan_attacks({"a": AlmaProx(), "b": PGD(), "c": FGSM(eps=0.25)}, (0.1, 0.2))
    assert [(call.job.name, call.eps, call.recorded) for call in plan.attack_calls] == [
        ("a", "min", ("min", 0.1, 0.2)),
        ("b", 0.1, (0.1,)),
        ("b", 0.2, (0.2,)),
        ("c", 0.25, (0.25,)),
    ]


def test_digest_depends_on_every_setting_and_on_nothing_else():
    attack = PGD(num_steps=3)
    assert Job(name="a", attack=attack, eps=(0.1,)).digest == Job(name="b", attack=PGD(num_steps=3), eps=(0.2,)).digest
    others = [dataclasses.replace(attack, **change) for change in ({"num_steps": 4}, {"loss": DLR()}, {"norm": "l2"})]
    assert len({Job(name="a", attack=a, eps=(0.1,)).digest for a in (attack, *others)}) == 4


def test_estimate_adds_up_passes():
    plan = plan_attacks({"a": AlmaProx(num_steps=10), "b": PGD(num_steps=5)}, (0.1, 0.2))
    # a: 11 iterates, judging, 2 by-products; b: twice 6 iterates and judging. Clean: 1.
    expected = {"a": 14 * 2 + 10 * 3, "b": 2 * (7 * 2 + 5 * 3)}
    result = estimate(plan, 7, forward_seconds=2.0, backward_seconds=3.0)
    assert dict(result.seconds_by_job) == {name: 7 * seconds for name, seconds in expected.items()}
    assert result.seconds == 7 * (2 + sum(expected.values()))


def test_polishing_adds_its_forwards():
    (call,) = plan_attacks({"a": Polished(attack=AlmaProx(num_steps=10), num_forwards=4)}, (0.1, 0.2)).attack_calls
    assert max_passes(call) == (11 + 1 + 2 + 4, 10)


def test_subsets_are_nested_seeded_and_ascending():
    small, large = choose_samples(100, 5, seed=3), choose_samples(100, 20, seed=3)
    assert set(small) < set(large)
    assert list(large) == sorted(large)
    assert choose_samples(100, 20, seed=4) != large
    assert choose_samples(4, None, seed=3) == (0, 1, 2, 3)
    assert choose_samples(4, 9, seed=3) == (0, 1, 2, 3)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_batches_are_the_same_for_any_number_of_processes_and_shared_out_once(world_size, batch_size):
    shares = [list(StridedWork(range(10, 15), rank, world_size, batch_size)) for rank in range(world_size)]
    assert sorted(batch for share in shares for batch in share) == list(StridedWork(range(10, 15), 0, 1, batch_size))
    assert sorted(i for share in shares for batch in share for i in batch) == [10, 11, 12, 13, 14]


def test_a_shared_counter_hands_every_batch_to_one_process():
    store = torch.distributed.HashStore()
    takers = [iter(SharedWork(range(7), store, 3)) for _ in range(2)]
    taken = [next(takers[0]), next(takers[1]), next(takers[1])]
    assert taken == [(0, 1, 2), (3, 4, 5), (6,)]
    assert [list(taker) for taker in takers] == [[], []]


@pytest.mark.parametrize("work", [StridedWork((1, 2), batch_size=1), SharedWork((1, 2), torch.distributed.HashStore())])
def test_a_batch_holds_something(work):
    with pytest.raises(ValueError, match="batch_size"):
        list(replace(work, batch_size=0))


def test_a_rank_outside_the_world_is_refused():
    with pytest.raises(ValueError, match="rank"):
        StridedWork((1, 2), rank=2, world_size=2)


def test_a_fixed_budget_ensemble_takes_part_as_its_members():
    plan = plan_attacks({"sea": SEA(num_steps=8), "pgd": PGD(num_steps=3)}, (0.1,))
    assert [job.name for job in plan.jobs] == ["sea.mce_balanced", "sea.mce", "sea.js", "pgd"]
    assert [job.attack for job in plan.jobs[:3]] == list(SEA(num_steps=8).members.values())


def test_a_minimal_norm_ensemble_is_one_attack():
    attack = WorstOf(attacks=(AlmaProx(num_steps=3), LagrangianFMN(num_passes=4)))
    assert [job.attack for job in plan_attacks({"both": attack}, None).jobs] == [attack]
