"""Published strategies of augmentation, as `data.siamese` reads them. No torch."""

from __future__ import annotations

DC_STRATEGY = "dc:crop_scale_rotate"
"""DC's, of MNIST, where a set is tested."""
DSA_STRATEGY = "color_crop_cutout_flip_scale_rotate"
DSA_STRATEGY_OF_DIGITS = "color_crop_cutout_scale_rotate"
"""DSA's without mirror images, which are other digits."""
