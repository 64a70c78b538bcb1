"""Tolerances of comparisons that cannot be exact, each with its origin."""

BALL = 1e-6
"""Excess over a radius, image units: rounding of `x + delta` and back in float32 is at most 2^-24 = 6e-8."""

LINEAR_LINF_RATIO = 1.35
"""Largest norm over optimum on 1x1-conv networks, l_inf. Measured over seeds 0-2: see tests/attacks/test_optima.py."""

LINEAR_L2_RATIO = 1.35
"""The same for l2."""
