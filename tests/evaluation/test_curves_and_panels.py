import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation.test_summary import CLEAN, EIGHT, FOUR, attacked, minimal

from segrobust.evaluation import (
    norm_curves,
    panel_title,
    plain_label_space,
    save_figure,
    score_curves,
    summarize,
)
from segrobust.evaluation.reporting.figures.panels import compose
from segrobust.evaluation.reporting.figures.tiles import make_tiles
from segrobust.label_space import LabelSpace

NORMS = [2 / 255, math.inf, 4 / 255, 3 / 255]
RECORDS = [
    CLEAN,
    *(minimal(i, norm) for i, norm in enumerate(NORMS)),
    attacked(0, "ce", FOUR, (4, 4, 0), (1, 1, 0), (1, 1, 0)),
    attacked(0, "ce", EIGHT, (0, 0, 0), (5, 5, 0), (5, 5, 0)),
]


def test_the_norm_curve_is_the_distribution_with_a_plateau_of_failures():
    figure = norm_curves(RECORDS, summarize(RECORDS), "linf")
    curve, points = figure.axes[0].lines
    xs, ys = curve.get_data()
    for eps in (1.5, 2.001, 3.5, 4.001, 8.0):
        expected = 100 * np.mean([norm * 255 <= eps for norm in NORMS])
        assert ys[np.searchsorted(xs, eps, side="right") - 1] == expected
    assert xs[-1] > 8
    assert "1 of 4 not broken" in curve.get_label()
    np.testing.assert_allclose(points.get_xdata(), [4, 8])
    np.testing.assert_allclose(points.get_ydata(), [0, 100])


def test_the_score_curves_start_at_the_clean_score():
    figure = score_curves(summarize(RECORDS), "linf")
    (miou,), (pixels,) = (axes.lines for axes in figure.axes)
    np.testing.assert_allclose(miou.get_xdata(), [0, 4, 8])
    np.testing.assert_allclose(miou.get_ydata(), [100 * (5 / 7 + 3 / 5) / 2, 100 * 4 / 6, 0])
    np.testing.assert_allclose(pixels.get_ydata(), [80, 80, 0])
    np.testing.assert_allclose(figure.axes[0].get_xticks(), [0, 4, 8])


def test_curves_refuse_a_norm_that_was_not_attacked():
    for draw in (
        lambda: norm_curves(RECORDS, summarize(RECORDS), "l2"),
        lambda: score_curves(summarize(RECORDS), "l2"),
    ):
        with pytest.raises(ValueError, match="l2"):
            draw()


def test_figures_are_files_without_global_state(tmp_path):
    import matplotlib.pyplot as plt

    save_figure(norm_curves(RECORDS, summarize(RECORDS), "linf"), tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert plt.get_fignums() == []


SPACE = LabelSpace(names=("road", "sky"), palette=((250, 1, 2), (3, 4, 251)))
IMAGE = torch.full((3, 2, 4), 0.25)
MASK = torch.tensor([[0, 0, 1, 255], [1, 1, 0, 0]])
BEFORE = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0]])  # one pixel wrong
AFTER = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0]])  # two pixels newly wrong
MARGIN, CAPTION = 12, 26


def tile(panel, number, height=160, width=320):
    """The tile at a place, one value per pixel of the original image."""
    pixels = np.asarray(panel)
    top = pixels.shape[0] - 2 * (height + CAPTION + MARGIN)
    y = top + number // 4 * (height + CAPTION + MARGIN) + CAPTION
    x = MARGIN + number % 4 * (width + MARGIN)
    return pixels[y : y + height : height // 2, x : x + width : width // 4][:, :, :]


def draw(adv):
    return compose(make_tiles(IMAGE, adv, MASK, BEFORE, AFTER, SPACE), "a title")


def test_tiles_show_what_their_captions_say():
    adv = IMAGE.clone()
    adv[0, 0, 0] += 2 / 255
    adv[1, 1, 3] -= 1 / 255
    panel = draw(adv)
    assert (tile(panel, 0) == 64).all()
    noise = tile(panel, 2).astype(int)  # amplified by 50, the largest round factor that stays in range
    np.testing.assert_allclose(noise[0, 0], [127.5 + 50 * 2, 127.5, 127.5], atol=0.6)
    np.testing.assert_allclose(noise[1, 3], [127.5, 127.5 - 50, 127.5], atol=0.6)
    assert (noise == 128).sum() == 22
    np.testing.assert_array_equal(tile(panel, 4), SPACE.colorize(MASK))
    np.testing.assert_array_equal(tile(panel, 5), SPACE.colorize(BEFORE))
    np.testing.assert_array_equal(tile(panel, 6), SPACE.colorize(AFTER))


def test_errors_are_told_apart():
    errors = tile(draw(IMAGE), 3)
    newly = (errors == (213, 94, 0)).all(-1)
    before = (errors == (86, 180, 233)).all(-1)
    void = (errors == 0).all(-1)
    assert newly.tolist() == [[True, False, False, False], [True, False, False, False]]
    assert before.tolist() == [[False, True, False, False], [False, False, False, False]]
    assert void.tolist() == [[False, False, False, True], [False, False, False, False]]


def test_no_perturbation_is_mid_grey():
    assert (tile(draw(IMAGE), 2) == 128).all()


def test_grey_images_and_many_classes_are_drawn():
    space = plain_label_space(150, 255)
    assert len(set(space.palette[:24])) == 24
    mask = torch.arange(150).view(10, 15)
    panel = compose(make_tiles(torch.rand(1, 10, 15), torch.rand(1, 10, 15), mask, mask, mask, space), "t" * 400)
    assert panel.width == 4 * 330 + 5 * MARGIN


@pytest.mark.parametrize("image", [torch.rand(2, 3, 4), torch.rand(3, 3, 4), torch.rand(1, 3, 2, 4)])
def test_panels_refuse_shapes_that_do_not_match(image):
    with pytest.raises(ValueError, match="image"):
        make_tiles(image, image, MASK, BEFORE, AFTER, SPACE)


def test_titles_say_what_was_found():
    title = panel_title(replace(minimal(7, 1.18 / 255), apsr=0.991))
    for part in ("alma", "image 7: a", "l_inf norm 1.18/255", "99.1 %", "clean 20.0 %"):
        assert part in title
    assert "failed" in panel_title(minimal(7, math.inf))
    assert "at eps 8/255" in panel_title(RECORDS[-1])
