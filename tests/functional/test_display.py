"""Images of any number of channels as pictures."""

import pytest
import torch

from segrobust.functional.display import ChannelView


def ramp(channels):
    """Channel c rises from c / 100 to c / 100 + 0.5 over 51 pixels."""
    return torch.linspace(0, 0.5, 51)[None, None] + torch.arange(channels)[:, None, None] / 100


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_shown_as_they_are(channels):
    image = torch.rand(channels, 4, 5)
    view = ChannelView.of(image)
    assert view.note == ""
    assert torch.equal(view.rgb(image), image.expand(3, -1, -1))


@pytest.mark.parametrize(
    ("channels", "bands", "shown", "note"),
    [
        (2, None, (0, 1, 1), "channels 0, 1 of 2, stretched"),
        (4, None, (0, 1, 2), "channels 0, 1, 2 of 4, stretched"),
        (13, (3, 2, 1), (3, 2, 1), "channels 3, 2, 1 of 13, stretched"),
        (13, (12,), (12, 12, 12), "channel 12 of 13, stretched"),
        (3, (2, 1, 0), (2, 1, 0), "channels 2, 1, 0 of 3, stretched"),
    ],
)
def test_channels_are_those_that_are_named_and_stretched(channels, bands, shown, note):
    image = ramp(channels) + 0.01 * torch.arange(channels)[:, None, None]
    view = ChannelView.of(image, bands)
    assert view.note == note
    picture = view.rgb(image)
    for place, channel in enumerate(shown):
        low, high = image[channel, 0, 1], image[channel, 0, 49]  # quantiles 2 % and 98 % of 51 values
        torch.testing.assert_close(picture[place], ((image[channel] - low) / (high - low)).clamp(0, 1))


def test_two_pictures_of_one_view_can_be_compared():
    image = ramp(4)
    view = ChannelView.of(image)
    brighter = view.rgb(image + 0.01) - view.rgb(image)
    torch.testing.assert_close(brighter[:, :, 10], torch.full((3, 1), 0.01 / 0.48))


def test_differences_are_not_stretched():
    image, other = torch.zeros(5, 2, 2), torch.zeros(5, 2, 2)
    other[3, 0, 0], other[4, 0, 0], other[1, 1, 1] = 0.01, 0.5, -0.02
    picture = ChannelView.of(image, (3, 2, 1)).difference(other, image, 10)
    expected = torch.full((3, 2, 2), 0.5)
    expected[0, 0, 0], expected[2, 1, 1] = 0.6, 0.3
    torch.testing.assert_close(picture, expected)


def test_a_constant_channel_has_no_contrast_to_stretch():
    image = torch.full((4, 3, 3), 0.25)
    assert torch.equal(ChannelView.of(image).rgb(image), torch.full((3, 3, 3), 0.25))


@pytest.mark.parametrize("bands", [(), (0, 1, 2, 3), (4,), (-1,), (0.5,), (True,)])
def test_bands_that_an_image_does_not_have_are_refused(bands):
    with pytest.raises(ValueError, match="bands are"):
        ChannelView.of(torch.rand(4, 2, 2), bands)
