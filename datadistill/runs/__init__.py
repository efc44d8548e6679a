"""What everything that runs long stands on: run folders, checkpoints, atomic files, locks, signals.

Knows nothing of distillation. `atomic`, `canonical`, `folder`, `jsonconfig`, `lock` and `signals` need no torch.
"""
