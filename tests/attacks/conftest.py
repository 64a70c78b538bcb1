"""The small network that attacks are tried on, and a batch of images with void pixels."""

import pytest
from conformance import ConvNetwork, make_batch


@pytest.fixture(scope="module")
def network():
    return ConvNetwork()


@pytest.fixture(scope="module")
def batch(network):
    return make_batch(network)
