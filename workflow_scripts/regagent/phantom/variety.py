"""Heads that differ far more than those of one hospital, so that what learns on them meets nothing new (§4).

Shapes, ages and diseases beyond what is usual let a network learn structure instead of one scanner's patients
(SynthSeg, Billot et al. 2023). Without the settings for it nothing is drawn, and no head changes.

Coordinates are those of the standard head (mm, LPS, the origin on the Frankfurt plane between the ears).
"""

import numpy as np

from regagent.phantom.canvas import Canvas, Field, Points, Triple, ellipsoid, smooth_noise
from regagent.settings import Phantom

#: The warp of a whole head varies over so many mm.
WARP_SCALE_MM = 80.0
#: Radii in mm of a lesion: a stroke, a tumour, a haematoma or a cavity.
LESION_MM = (8.0, 28.0)
#: Radii in mm of the piece of skull that was cut out.
FLAP_MM = (18.0, 38.0)
#: The layers of each lesion: a tissue, and by how many mm it lies outside. A tumour lies in its oedema.
LESIONS = {
    "stroke": [("scar", 0.0)],
    "haematoma": [("scar", 2.0), ("vein", 0.0)],
    "tumour": [("scar", 7.0), ("tumour", 0.0), ("fluid", -7.0)],
    "cavity": [("scar", 2.0), ("csf", 0.0)],
}


class Variety:
    """What one simulated head has beyond the usual ones."""

    def __init__(self, rng: np.random.Generator, settings: Phantom):
        self.rng, self.warp_mm = rng, settings.warp_mm * rng.uniform(0.5, 1.0)
        self.ventricles = float(np.exp(settings.ventricles * rng.uniform(-1, 1)))
        self.toothless, self.diseased, self.opened = (
            bool(rng.random() < share)
            for share in (settings.toothless, settings.diseased, settings.craniotomy)
        )

    def warp(self, extent: Triple, shape: tuple[int, ...]) -> list[Field]:
        """Return a smooth displacement (x, y, z) in mm on a grid (Z, Y, X), for no warp an empty list."""
        if not self.warp_mm:
            return []
        fields = [smooth_noise(self.rng, extent, shape, WARP_SCALE_MM) for _ in range(3)]
        fields = [field - field.mean() for field in fields]
        return [field * np.float32(self.warp_mm / np.abs(field).max()) for field in fields]

    def thickness_mm(self, least: float, most: float) -> float:
        """Return the thickness of a scan's slices in mm."""
        return self.rng.uniform(least, most) if most > least else least

    def paint_lesions(self, canvas: Canvas, inside: Field) -> None:
        """Paint large lesions into a diseased patient's brain; ``inside`` is the distance to the cavity."""
        if not self.diseased:
            return
        rng = self.rng
        for _ in range(rng.integers(1, 3)):
            side = rng.choice([-1, 1])
            centre = (side * rng.uniform(8, 52), rng.uniform(-52, 70), rng.uniform(24, 86))
            radii = tuple(np.exp(rng.uniform(np.log(LESION_MM[0]), np.log(LESION_MM[1]), size=3)))
            seed, layers = rng.integers(2**32), LESIONS[rng.choice(list(LESIONS))]
            reach = max(radii) + 12
            box = canvas.box([c - reach for c in centre], [c + reach for c in centre])
            field = ellipsoid(canvas.at(box), centre, radii)
            field = field + np.float32(2.5) * canvas.grain(seed, field.shape, 9.0)
            for tissue, outside in layers:
                canvas.fill(np.maximum(field - np.float32(outside), inside[box] + 2), tissue, box)

    def open_skull(self, canvas: Canvas, inside: Field, skull: Field) -> None:
        """Take out a piece of the vault, or show the gap around one that was put back, after a craniotomy."""
        if not self.opened:
            return
        rng = self.rng
        away = rng.standard_normal(3)
        away[2] = abs(away[2]) + 0.3
        away /= np.linalg.norm(away)
        centre = tuple(np.array([0.0, 6.0, 38.0]) + away * [69, 86, 67])
        radius = rng.uniform(*FLAP_MM)
        box = canvas.box([c - radius - 3 for c in centre], [c + radius + 3 for c in centre])

        def ball(p: Points) -> Field:
            return ellipsoid(p, centre, (radius,) * 3)

        bone, piece = np.maximum(skull[box] - 1, -inside[box] - 1), ball(canvas.at(box))
        if rng.random() < 0.5:
            canvas.fill(np.maximum(bone, piece), "muscle", box)
        else:
            canvas.fill(np.maximum(bone, np.abs(piece) - np.float32(1.3)), "scar", box)
