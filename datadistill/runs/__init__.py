"""Run folders, checkpoints, atomic files, locks, signals: the ground under everything that runs
long.

Knows nothing of distillation. Only `checkpoints`, `state`, `tensors` and their `header` import
torch.
"""
