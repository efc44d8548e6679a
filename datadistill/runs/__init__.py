"""What everything that runs long stands on: run folders, checkpoints, atomic files, locks, signals.

Knows nothing of distillation. Only `checkpoints`, `state`, `tensors` and their `header` import torch.
"""
