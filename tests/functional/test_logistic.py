import pytest
import torch

from segrobust.functional.logistic import sigmoid


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("number", [63, 72, 2352])
def test_the_last_bit_does_not_depend_on_the_batch(dtype, number):
    x = 3 * torch.randn(4, number, generator=torch.Generator().manual_seed(0), dtype=dtype)
    together = sigmoid(x)
    assert all(torch.equal(sigmoid(x[i : i + 1])[0], together[i]) for i in range(4))


def test_values_are_those_of_the_definition():
    x = torch.linspace(-40, 40, 1001, dtype=torch.float64)
    torch.testing.assert_close(sigmoid(x), 1 / (1 + (-x).exp()), rtol=0, atol=1e-15)
