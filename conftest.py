"""One thread for every test and doctest, so that parallel test runs do not crowd the machine."""

import matplotlib
import torch

matplotlib.use("Agg")
torch.set_num_threads(1)
