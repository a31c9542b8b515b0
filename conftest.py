"""Tests run on one thread, so that parallel runs do not crowd the machine; on MIXKIT_TEST_THREADS where it is set."""

import os

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(int(os.environ.get("MIXKIT_TEST_THREADS", "1")))
