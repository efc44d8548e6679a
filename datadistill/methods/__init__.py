"""Outer methods: how real data pull on a synthetic set. One paper family a file, and a line in
`METHODS`."""

from datadistill.methods.base import OuterMethod as OuterMethod
from datadistill.methods.distribution_matching import DistributionMatching as DistributionMatching
from datadistill.methods.gradient_matching import GradientMatching as GradientMatching
from datadistill.methods.improved_distribution_matching import (
    ImprovedDistributionMatching as ImprovedDistributionMatching,
)
from datadistill.methods.kernel_regression import KernelRegression as KernelRegression
from datadistill.methods.linear import LinearGradientMatching as LinearGradientMatching
from datadistill.methods.linear import RidgeRegression as RidgeRegression
from datadistill.methods.tesla import Tesla as Tesla
from datadistill.methods.trajectory_matching import TrajectoryMatching as TrajectoryMatching
from datadistill.methods.unrolled import Unrolled as Unrolled

METHODS: dict[str, type[OuterMethod]] = {
    "unrolled": Unrolled,
    "gradient-matching": GradientMatching,
    "distribution-matching": DistributionMatching,
    "improved-distribution-matching": ImprovedDistributionMatching,
    "trajectory-matching": TrajectoryMatching,
    "tesla": Tesla,
    "kernel-regression": KernelRegression,
    "ridge-regression": RidgeRegression,
    "linear-gradient-matching": LinearGradientMatching,
}
