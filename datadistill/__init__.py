"""datadistill: learn a few synthetic images, labels and step sizes that train a network in seconds.

    import datadistill as dd
    d = dd.distill(dd.recipe("mnist5k-fixed"))
    net = d.train()

Names are loaded when they are first used, so that the command line answers `--help` without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datadistill.allocator import keep_freed_memory as keep_freed_memory
    from datadistill.config import DistillConfig as DistillConfig
    from datadistill.config import PoolConfig as PoolConfig
    from datadistill.config import RunOptions as RunOptions
    from datadistill.data import Normalization as Normalization
    from datadistill.data import RealData as RealData
    from datadistill.data import load as load
    from datadistill.data import load_folder as load_folder
    from datadistill.distilled import DistilledDataset as DistilledDataset
    from datadistill.evaluation import AttackScores as AttackScores
    from datadistill.evaluation import Comparison as Comparison
    from datadistill.evaluation import attack_scores as attack_scores
    from datadistill.evaluation.compare import compare as compare
    from datadistill.evaluation.held_out import Evaluation as Evaluation
    from datadistill.evaluation.held_out import evaluate as evaluate
    from datadistill.export.wang import import_results as import_results
    from datadistill.innerloop import FullUnroll as FullUnroll
    from datadistill.innerloop import Higher as Higher
    from datadistill.innerloop import StepReplay as StepReplay
    from datadistill.innerloop import Steps as Steps
    from datadistill.innerloop import Truncated as Truncated
    from datadistill.innerloop import adam as adam
    from datadistill.innerloop import momentum as momentum
    from datadistill.innerloop import sgd as sgd
    from datadistill.innerloop import unroll as unroll
    from datadistill.innerloop.check_net import NetCheck as NetCheck
    from datadistill.innerloop.check_net import check_net as check_net
    from datadistill.nets.spec import NetSpec as NetSpec
    from datadistill.pool import Pool as Pool
    from datadistill.recipes import recipe as recipe
    from datadistill.recipes.pools import pool_recipe as pool_recipe
    from datadistill.teacher_labels import relabel as relabel
    from datadistill.training import distill as distill
    from datadistill.training.dry_run import DryRun as DryRun
    from datadistill.training.dry_run import dry_run as dry_run
    from datadistill.training.finetune import FineTuning as FineTuning
    from datadistill.training.finetune import finetune as finetune
    from datadistill.training.fit import fit as fit
    from datadistill.training.fit_plan import FitPlan as FitPlan
    from datadistill.training.pretrain import pretrain as pretrain

__version__ = "0.1.0"

_HOME = {
    "keep_freed_memory": "allocator",
    "DistillConfig": "config",
    "PoolConfig": "config",
    "RunOptions": "config",
    "Normalization": "data",
    "RealData": "data",
    "load": "data",
    "load_folder": "data",
    "DistilledDataset": "distilled",
    "AttackScores": "evaluation",
    "Comparison": "evaluation",
    "Evaluation": "evaluation",
    "attack_scores": "evaluation",
    "compare": "evaluation",
    "evaluate": "evaluation",
    "import_results": "export.wang",
    "FullUnroll": "innerloop",
    "Higher": "innerloop",
    "StepReplay": "innerloop",
    "Steps": "innerloop",
    "Truncated": "innerloop",
    "adam": "innerloop",
    "momentum": "innerloop",
    "sgd": "innerloop",
    "unroll": "innerloop",
    "NetCheck": "innerloop.check_net",
    "check_net": "innerloop.check_net",
    "NetSpec": "nets.spec",
    "Pool": "pool",
    "recipe": "recipes",
    "pool_recipe": "recipes.pools",
    "relabel": "teacher_labels",
    "distill": "training",
    "DryRun": "training.dry_run",
    "dry_run": "training.dry_run",
    "FineTuning": "training.finetune",
    "finetune": "training.finetune",
    "FitPlan": "training.fit_plan",
    "fit": "training.fit",
    "pretrain": "training.pretrain",
}

__all__ = sorted([*_HOME, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'datadistill' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"datadistill.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
