"""What the masks of the chosen images hold, reported before the first attack."""

from collections.abc import Sequence

import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from segrobust.evaluation.dataset import SampleSource, doubt_labels, label_space_of, load_sample, name_of

_MOST_READ = 16
"""Images that are read, because all of a large set would take too long."""

_MUCH_VOID = 0.5
_SHOWN = 8


def report_masks(dataset: SampleSource, sample_ids: Sequence[int], *, num_classes: int, ignore_index: int) -> None:
    """Says which classes are absent from the first of these masks and how much of them is void, or warns of it.

    Args:
        dataset: the samples.
        sample_ids: positions of the chosen samples.
        num_classes: classes that the network predicts.
        ignore_index: label of void pixels.

    Raises:
        ValueError: a mask with a value that is neither a class nor void, or no valid pixel in all of them.
    """
    read = sample_ids[:_MOST_READ]
    counts, void, pixels = torch.zeros(num_classes, dtype=torch.int64), 0, 0
    for sample_id in read:
        mask = load_sample(dataset, sample_id).mask
        valid = mask[mask != ignore_index]
        foreign = torch.unique(valid[(valid < 0) | (valid >= num_classes)]).tolist()
        if foreign:
            raise ValueError(
                f"the mask of {name_of(dataset, sample_id)} has the values {foreign[:_SHOWN]}, neither one of the "
                f"network's {num_classes} classes nor void ({ignore_index}): set ignore_index=, or give mask= a "
                "function of the sample that returns class indices"
            )
        counts += valid.bincount(minlength=num_classes)
        void += mask.numel() - valid.numel()
        pixels += mask.numel()
    if not counts.any():
        raise ValueError(
            f"the {len(read)} masks that were read have no valid pixel: all are void ({ignore_index}); choose others "
            "by seed= or max_images=, or set ignore_index="
        )
    space = label_space_of(dataset)
    names = space.names if space is not None and space.num_classes == num_classes else range(num_classes)
    absent = [str(name) for name, count in zip(names, counts.tolist(), strict=True) if not count]
    listed = ", ".join(absent[:_SHOWN]) + (", ..." if len(absent) > _SHOWN else "")
    text = (
        f"robustness: {len(read)} of the {len(dataset)} images of the validation were looked at: "
        f"{void / pixels:.1%} of the pixels are void ({ignore_index}); "
        + (f"{len(absent)} of {num_classes} classes occur in none of them: {listed}" if absent else "all classes occur")
    )
    doubt = doubt_labels(dataset, read, ignore_index)
    if doubt or void > _MUCH_VOID * pixels or len(absent) == num_classes - 1:
        rank_zero_warn(f"{text}. {doubt}" if doubt else text)
    else:
        rank_zero_info(text)
