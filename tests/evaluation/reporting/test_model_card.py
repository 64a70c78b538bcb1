"""The card of a network for the hub holds the numbers of its run, as the hub's own library reads them."""

import pytest
from evaluation.toy import CRITERION, ToyScenes, toy_network
from huggingface_hub import ModelCard

from segrobust.attacks import PGD, AlmaProx
from segrobust.evaluation import evaluate, save_evaluated_network, summarize_run
from segrobust.networks import load_network, weights_digest

ATTACKS = {
    "pgd": PGD(num_steps=4, criterion=CRITERION),
    "alma": AlmaProx(num_steps=12, step_size=0.05, criterion=CRITERION),
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("card") / "run"
    evaluate(
        toy_network(), ToyScenes(4), attacks=ATTACKS, eps=(16 / 255, 64 / 255), run_dir=folder, progress=False, panels=0
    )
    return folder


@pytest.fixture(scope="module")
def card(run_dir):
    path = save_evaluated_network(toy_network(), run_dir.parent / "hub", run_dir=run_dir, license="apache-2.0")
    return ModelCard.load(path)


def test_the_hub_reads_the_numbers_of_the_run(card, run_dir):
    summary = summarize_run(run_dir).summary
    found = {entry.metric_name: entry.metric_value for entry in card.data.eval_results}
    (pgd,) = summary.fixed_budget
    for scores, eps in zip(pgd.scores, (16, 64), strict=True):
        name = f"mIoU^D, pgd within linf {eps}/255, % ({scores.bound})"
        assert found[name] == pytest.approx(100 * scores.miou, abs=1e-6)
    assert found["mIoU^D, clean, %"] == pytest.approx(100 * summary.clean.miou, abs=1e-6)
    assert any(name.startswith("median") and "alma" in name and "upper" in name for name in found)
    assert card.data.license == "apache-2.0"


def test_the_text_says_how_to_load_what_and_with_which_bounds(card, run_dir):
    assert "load_network" in card.text
    assert "network=my_network" in card.text  # the toy network is no network of a library
    assert (run_dir / "summary.md").read_text().strip() in card.text


def test_the_folder_gives_the_network_that_was_evaluated(card, run_dir):
    del card
    loaded = load_network(str(run_dir.parent / "hub"), network=toy_network(seed=1))
    assert weights_digest(loaded) == weights_digest(toy_network())


def test_the_numbers_of_other_weights_are_refused(run_dir, tmp_path):
    with pytest.raises(ValueError, match="measured the weights"):
        save_evaluated_network(toy_network(seed=1), tmp_path / "hub", run_dir=run_dir)
    assert not (tmp_path / "hub").exists()


def test_a_run_that_is_not_finished_is_refused(run_dir, tmp_path):
    records = run_dir / "records" / "rank000.jsonl"
    whole = records.read_bytes()
    try:
        records.write_bytes(b"".join(whole.splitlines(keepends=True)[:-2]))
        with pytest.raises(ValueError, match="lacks 2 records"):
            save_evaluated_network(toy_network(), tmp_path / "hub", run_dir=run_dir)
    finally:
        records.write_bytes(whole)
