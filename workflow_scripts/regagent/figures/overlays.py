"""Pictures of a slice pair: the fixed MR under the lines of the moving CT, with the error written on it."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from regagent.figures.style import ORANGE, SKY
from regagent.images import warp

#: The fixed image is multiplied by this under the lines, so that they stand out.
DARKENED = 0.75


def show(axes: Axes, image: NDArray) -> None:
    """Show an image (H, H) of [0, 1] without axes."""
    axes.imshow(image, vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def annotate(axes: Axes, text: str) -> None:
    """Write a text into the lower left corner of a picture."""
    outline = [withStroke(linewidth=1.8, foreground="black")]
    axes.text(
        0.03, 0.03, text, transform=axes.transAxes, horizontalalignment="left", verticalalignment="bottom",
        color="white", path_effects=outline, linespacing=1.0,
    )  # fmt: skip


def outline(axes: Axes, moving: NDArray, pose: NDArray, skin: float, bone: float) -> None:
    """Draw the moving image (H, H), warped by the pose (4,), as the lines at its levels of skin and bone.

    No line is drawn where the warped image shows what lies outside the moving image's field of view.
    """
    outside = gaussian_filter(warp(np.ones_like(moving), pose), 1.0) < 0.98
    image = np.ma.masked_array(gaussian_filter(warp(moving, pose), 0.8), outside)
    for level, colour, width in ((skin, SKY, 0.9), (bone, ORANGE, 0.7)):
        if image.min() < level < image.max():
            axes.contour(image, levels=[level], colors=[colour], linewidths=width)


def tissue_levels(ct: NDArray, head: NDArray) -> tuple[float, float]:
    """Return the levels of skin (between air and fat) and bone of a CT in [0, 1]; ``head`` is its mask."""
    soft = float(np.median(ct[head])) if head.any() else 0.2
    return 0.2 * soft, soft + 0.2
