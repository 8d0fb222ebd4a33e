import torch

# The suite's tensors are tiny: threads of one kernel would only wait for each other.
torch.set_num_threads(1)
