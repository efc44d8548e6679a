"""Your own folder of images, one sub-folder a class: for any fresh net, or for your pretrained
one."""

from __future__ import annotations

from datadistill.config import DistillConfig

PLACEHOLDER = "FOLDER"  # stands for the folder that the user names


def own_images() -> DistillConfig:
    """One image a class from your own folder trains any fresh ConvNet; pass --data FOLDER.

    20% of each class is held out as the test set, at least one image; images become 32x32 colour
    ones. All of it are options.
    """
    return DistillConfig(
        recipe="own-images",
        dataset="folder",
        data=PLACEHOLDER,
        net="convnet",
        net_args={"depth": 3, "width": 32, "norm": "instance"},
        init="xavier",
        theta_0="random",
        ipc=1,
        steps=1,
        epochs=10,
        images_from="real",
        update="adam",
        step_size=0.01,
        step_sizes="per-tensor",
        iterations=400,
        batch=128,
        nets=2,
        lr_images=0.05,
        lr_step_sizes=0.05,
        validate_every=50,
    )


def own_images_finetune() -> DistillConfig:
    """One image a class from your own folder adapts your pretrained net in five steps; pass --data
    FOLDER and --weights FILE or imagenet.

    The net is torchvision's resnet18 if nothing else is said (--net-args model NAME). Its last
    layer is kept where it fits the classes, else drawn afresh (--head); BatchNorm keeps its
    statistics (--norm); all parameters are trained (--train). Images become 64x64 colour ones
    (--size).
    """
    return DistillConfig(
        recipe="own-images-finetune",
        dataset="folder",
        data=PLACEHOLDER,
        size=64,
        net="torchvision",
        net_args={"model": "resnet18"},
        init="small",
        theta_0="given",
        ipc=1,
        steps=1,
        epochs=5,
        images_from="real",
        update="adam",
        step_size=None,
        step_sizes="per-tensor",
        iterations=100,
        batch=32,
        lr_images=0.05,
        lr_step_sizes=0.05,
        validate_every=20,
    )
