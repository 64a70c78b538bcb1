"""Puts `tests/` on the import path (oracles, conformance, tolerances) and keeps small tensors on one thread."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the commands that tests start: two workers share the machine

import torch

torch.set_num_threads(1)  # the suite's tensors are too small to share; more threads only contend
