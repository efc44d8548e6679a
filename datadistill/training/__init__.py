"""Learning a distilled set (`distill`), and plain training on real data.

`fit`, `pretrain` and `finetune` lie in modules of their own names, which an import here would hide.
"""

from datadistill.training.distillation import distill

__all__ = ["distill"]
