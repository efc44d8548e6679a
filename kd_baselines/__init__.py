"""kd_baselines: the model-distillation methods that dataset distillation is compared with.

    import kd_baselines as kd
    trained = kd.train(kd.recipe("hinton-missing-digit"))          # a teacher, a student, its
                                                                   scores

    teacher = kd.Teacher(net)                                      # or in your own loop:
    distiller = kd.Distiller(student, kd.CE() + kd.KD(temperature=4, weight=0.9), teacher)
    distiller.step((images, labels))["loss"].backward()

    kd.train(config, net=net, objective=kd.CE() + kd.KD(), teacher=teacher, out="runs/mine")
    kd.train(config, data_from="runs/mnist-dm")                    # a student of a distilled set

Losses as pure functions are in `kd_baselines.losses`. What does not fit raises a
`datadistill.errors.UsageError` that says what was found and what to pass. Names are loaded when
they are first used, so that the command line answers `--help` without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd_baselines.config import KdConfig as KdConfig
    from kd_baselines.distiller import Distiller as Distiller
    from kd_baselines.evaluation import Scores as Scores
    from kd_baselines.evaluation import score as score
    from kd_baselines.heads import two_headed as two_headed
    from kd_baselines.image_training import Trained as Trained
    from kd_baselines.language.config import LanguageConfig as LanguageConfig
    from kd_baselines.language.netfile import SavedLanguageModel as SavedLanguageModel
    from kd_baselines.language.training import train_language as train_language
    from kd_baselines.ledger.config import LedgerConfig as LedgerConfig
    from kd_baselines.ledger.ledger_study import make_ledger as make_ledger
    from kd_baselines.ledger.table import Ledger as Ledger
    from kd_baselines.losses import CE as CE
    from kd_baselines.losses import CRD as CRD
    from kd_baselines.losses import CWTM as CWTM
    from kd_baselines.losses import DIST as DIST
    from kd_baselines.losses import DKD as DKD
    from kd_baselines.losses import DKPP as DKPP
    from kd_baselines.losses import KD as KD
    from kd_baselines.losses import AttentionJacobian as AttentionJacobian
    from kd_baselines.losses import AttentionTransfer as AttentionTransfer
    from kd_baselines.losses import BornAgain as BornAgain
    from kd_baselines.losses import DeepMutual as DeepMutual
    from kd_baselines.losses import FitNetsKD as FitNetsKD
    from kd_baselines.losses import GradientAttention as GradientAttention
    from kd_baselines.losses import Hint as Hint
    from kd_baselines.losses import InputNoise as InputNoise
    from kd_baselines.losses import JacobianMatching as JacobianMatching
    from kd_baselines.losses import JacobianNorm as JacobianNorm
    from kd_baselines.losses import Linear as Linear
    from kd_baselines.losses import LogitRegression as LogitRegression
    from kd_baselines.losses import NoisyLogits as NoisyLogits
    from kd_baselines.losses import Objective as Objective
    from kd_baselines.losses import ReviewKD as ReviewKD
    from kd_baselines.losses import RKDAngle as RKDAngle
    from kd_baselines.losses import RKDDistance as RKDDistance
    from kd_baselines.losses import SimilarityPreserving as SimilarityPreserving
    from kd_baselines.losses import Term as Term
    from kd_baselines.net_export import export as export
    from kd_baselines.netfile import SavedNet as SavedNet
    from kd_baselines.recipes import recipe as recipe
    from kd_baselines.sharing import share_layers as share_layers
    from kd_baselines.stage_loop import fit as fit
    from kd_baselines.stages import Stage as Stage
    from kd_baselines.studies.bridge import make_bridge as make_bridge
    from kd_baselines.studies.bridge_table import Bridge as Bridge
    from kd_baselines.studies.compare import compare as compare
    from kd_baselines.studies.generations import born_again_generations as born_again_generations
    from kd_baselines.teacher_cache import CachedTeacher as CachedTeacher
    from kd_baselines.teachers import Teacher as Teacher
    from kd_baselines.training import train as train

_HOME = {
    "make_bridge": "studies.bridge",
    "Bridge": "studies.bridge_table",
    "compare": "studies.compare",
    "KdConfig": "config",
    "Distiller": "distiller",
    "Scores": "evaluation",
    "score": "evaluation",
    "LanguageConfig": "language.config",
    "SavedLanguageModel": "language.netfile",
    "train_language": "language.training",
    "LedgerConfig": "ledger.config",
    "make_ledger": "ledger.ledger_study",
    "Ledger": "ledger.table",
    "CE": "losses",
    "CRD": "losses",
    "CWTM": "losses",
    "DKPP": "losses",
    "BornAgain": "losses",
    "KD": "losses",
    "AttentionJacobian": "losses",
    "AttentionTransfer": "losses",
    "DeepMutual": "losses",
    "FitNetsKD": "losses",
    "DIST": "losses",
    "DKD": "losses",
    "RKDAngle": "losses",
    "RKDDistance": "losses",
    "ReviewKD": "losses",
    "SimilarityPreserving": "losses",
    "GradientAttention": "losses",
    "Hint": "losses",
    "InputNoise": "losses",
    "JacobianMatching": "losses",
    "JacobianNorm": "losses",
    "Linear": "losses",
    "LogitRegression": "losses",
    "NoisyLogits": "losses",
    "Objective": "losses",
    "Term": "losses",
    "export": "net_export",
    "SavedNet": "netfile",
    "recipe": "recipes",
    "share_layers": "sharing",
    "fit": "stage_loop",
    "Stage": "stages",
    "CachedTeacher": "teacher_cache",
    "Teacher": "teachers",
    "Trained": "image_training",
    "train": "training",
    "two_headed": "heads",
    "born_again_generations": "studies.generations",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kd_baselines' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kd_baselines.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
