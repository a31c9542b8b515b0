"""Every test runs on one thread, so that parallel runs do not crowd the machine, unless MIXKIT_TEST_THREADS says more."""

import os

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(int(os.environ.get("MIXKIT_TEST_THREADS", "1")))
