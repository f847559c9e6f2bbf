"""One thread a process: the tests run side by side, and bits may depend on the thread count."""

import torch

torch.set_num_threads(1)
