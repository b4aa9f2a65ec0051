"""The brain of a simulated patient (§4 Dataset): folded cortex, deep nuclei, ventricles and cerebellum.

Coordinates are those of the standard head (mm, LPS, the origin on the Frankfurt plane between the ears).
"""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from regagent.phantom.canvas import Canvas, Field, Points, Triple, Voxels, blend, ellipsoid, tube

BOUNDS = ((-76, -92, -30), (76, 104, 112))
CENTRE = (0.0, 8.0, 42.0)
VAULT_POWER = 2.3


def vault(p: Points) -> Field:
    """Return the signed distance to the cranial vault: an egg with its broad end at the back."""
    x, y, z = p
    egg = x * (1 - np.float32(0.0013) * (y - 6))
    return ellipsoid((egg, y, z), (0, 6, 38), (66, 83, 64), VAULT_POWER)


def cavity(p: Points) -> Field:
    """Return the signed distance to the inside of the skull: vault, middle and posterior fossa."""
    x, y, z = p
    floor = np.float32(27) - z - np.float32(0.1) * np.minimum(y + 10, 0)
    upper = np.maximum(vault(p), floor)
    temporal = ellipsoid((np.abs(x), y, z), (38, -12, 19), (26, 35, 20))
    posterior = ellipsoid(p, (0, 50, 10), (53, 37, 29))
    stem = tube(p, [(0, 4, 24), (0, 16, 4), (0, 27, -18)], [14, 16, 13])
    field = blend(blend(upper, temporal, 8.0), blend(posterior, stem, 8.0), 8.0)
    return field.astype(np.float32)


def folds(rng: np.random.Generator, p: Points, scale: float) -> Field:
    """Return noise that is zero in the sulci: waves of ``scale`` mm, upright on the brain's surface."""
    cell, extent = 3.0, (180.0, 216.0, 180.0)
    white = rng.standard_normal([int(e / cell) for e in extent], dtype=np.float32)
    width = scale / cell / 2 / np.pi
    waves = gaussian_filter(white, width * 1.05, mode="wrap") - gaussian_filter(
        white, width * 1.75, mode="wrap"
    )
    waves /= waves.std()
    unit = [
        (axis - np.float32(c)) / np.float32(r) for axis, c, r in zip(p, CENTRE, (66, 84, 62), strict=True)
    ]
    radius = np.maximum(np.sqrt(unit[0] ** 2 + unit[1] ** 2 + unit[2] ** 2), np.float32(0.4))
    stretch = radius ** np.float32(-0.45)
    where = [
        ((axis - np.float32(c)) * stretch + np.float32(e / 2)) / np.float32(cell)
        for axis, c, e in zip(p[::-1], CENTRE[::-1], extent, strict=True)
    ]
    return map_coordinates(waves, np.stack(where), order=1, mode="grid-wrap", prefilter=False)


def paint_brain(canvas: Canvas, inside: Field, ventricles: float = 1.0) -> None:
    """Paint all that is in the cranial cavity; ``inside`` is the signed distance to it on the grid.

    ``ventricles`` is a factor on the width of the ventricles.
    """
    rng = canvas.rng
    box = canvas.box(*BOUNDS)
    region = inside[box]
    index = np.flatnonzero(region < 1)
    grains = [
        canvas.grain(seed, region.shape, scale).ravel()[index]
        for seed, scale in zip(rng.integers(2**32, size=3), (30.0, 14.0, 6.0), strict=True)
    ]
    atrophy = rng.uniform(0.7, 1.5)
    points = tuple(axis.ravel()[index] for axis in canvas.at(box))
    with canvas.voxels(box, index) as voxels:
        paint_cortex(voxels, rng, points, -region.ravel()[index], grains, atrophy)
    paint_brainstem(canvas)
    paint_deep(canvas, atrophy, ventricles)


def paint_cortex(
    cells: Voxels, rng: np.random.Generator, p: Points, depth: Field, grains: list[Field], atrophy: float
) -> None:
    """Paint meninges, cerebral cortex and white matter, and the cerebellum.

    ``p`` are the voxels' points, ``depth`` their depth in mm under the bone, ``grains`` smooth noise of 30,
    14 and 6 mm at them.
    """
    x, y, z = p
    slow, fine, crisp = grains
    cells.fill(-depth, "dura")
    cells.fill(1.0 - depth, "csf")

    # The tentorium separates cerebrum and cerebellum. In front of the petrous ridge there is only cerebrum.
    tent = np.float32(32) - np.float32(0.2) * (y - 15) - np.float32(0.006) * x * x + fine
    below = np.where(y > 6, z - tent, np.float32(30))
    brain = depth - np.float32(1.4 + 0.9 * atrophy) - np.float32(0.6) * slow
    brain = np.minimum(brain, below - 1.2)

    scale = rng.uniform(20.5, 24.0)
    sulcus = np.abs(folds(rng, p, scale) + np.float32(0.2) * crisp) * np.float32(scale / 6.6)
    reach = np.float32(18) + np.float32(4.0) * slow
    sulcus = np.maximum(sulcus - np.float32(0.35 + 0.5 * atrophy), brain - reach)
    callosum = ellipsoid(p, (0, 4, 44), (40, 44, 23))
    drift = np.float32(rng.uniform(-2, 2)) + np.float32(1.0) * fine
    fissure = np.maximum(np.abs(x + drift) - np.float32(0.8 + 0.5 * atrophy), -callosum)
    side = np.abs(x)
    sylvian = np.abs(z - np.float32(23) - np.float32(0.28) * (y + 10) + 2.5 * fine) - np.float32(
        1.3 * atrophy
    )
    sylvian = np.maximum(sylvian, np.maximum(38 - side, np.maximum(-34 - y, y - 30) + 4 * fine))
    insula = np.abs(side - 38 + 1.2 * fine + 0.02 * (y * y / 10)) - np.float32(1.0 * atrophy)
    insula = np.maximum(insula, (((z - 29) / 14) ** 2 + (y / 25) ** 2 - 1) * 9)
    pial = np.minimum(np.minimum(brain, sulcus), np.minimum(fissure, np.minimum(sylvian, insula)))
    thickness = np.float32(2.9) + np.float32(0.3) * fine
    cells.fill(-pial, "grey matter")
    cells.fill(thickness - pial, "white matter")
    cells.fill(np.maximum(np.abs(x + drift) - 0.5, np.maximum(-callosum, -depth)), "dura")
    cells.fill(np.maximum(np.abs(below) - 0.8, -depth), "dura")
    back = (y > 6) & (below < 1)
    behind = tuple(axis[back] for axis in p)
    with cells.part(back) as part:
        paint_cerebellum(part, behind, np.minimum(depth - 2.0, -below - 1.5)[back], fine[back], crisp[back])


def paint_cerebellum(cells: Voxels, p: Points, depth: Field, fine: Field, crisp: Field) -> None:
    """Paint the cerebellar hemispheres and vermis: thin folia on a branching white core."""
    x, y, z = p
    lobes = blend(
        ellipsoid((np.abs(x), y, z), (26, 51, 3), (27, 30, 24)), ellipsoid(p, (0, 53, 5), (12, 24, 23)), 4
    )
    depth = np.minimum(depth, -lobes)
    # Folia follow the tentorial surface: shells around the fourth ventricle, cracked at regular steps.
    radius = (
        np.sqrt((0.45 * (np.abs(x) - 10)) ** 2 + (y - 28) ** 2 + (1.2 * (z - 4)) ** 2)
        + 1.5 * fine
        + 0.5 * crisp
    )
    phase = np.abs((radius / np.float32(4.2)) % 1 - np.float32(0.5)) * np.float32(4.2)
    crack = np.maximum(phase - np.float32(0.35), depth - 11)
    cells.fill(-np.minimum(depth, crack), "grey matter")
    branch = (
        np.float32(5.0) * np.cos(np.arctan2(z - 4 + fine, y - 28) * 9 + 0.06 * x) + np.float32(1.5) * crisp
    )
    cells.fill(np.float32(10) - depth - branch, "white matter")


def paint_brainstem(canvas: Canvas) -> None:
    """Paint midbrain, pons and medulla in their cisterns, and the fourth ventricle."""
    canvas.tube(
        [(0, 1, 30), (0, 5, 20), (0, 10, 6), (0, 19, -8), (0, 29, -24)], [13, 14, 16, 13, 10], ("csf", 0)
    )
    canvas.tube([(0, -8, 30), (0, -6, 26)], [11, 10], ("csf", 0))
    stem = [(0, 0, 30), (0, 6, 20), (0, 10, 8), (0, 17, -5), (0, 27, -20), (0, 31, -34)]
    canvas.tube(stem, [10, 11, 12.5, 9.5, 6.5, 5.5], ("white matter", 0), wide=1.2)
    canvas.tube([(0, 2, 24), (0, 12, 4)], [5, 6], ("deep grey", 0))
    canvas.ellipsoid((0, 27, 4), (8, 5.5, 9), ("csf", 0), rough=0.6)
    canvas.tube([(0, 20, 20), (0, 24, 8)], [1.3, 2], ("csf", 0))
    for s in (-1, 1):
        canvas.tube([(s * 8, 12, 6), (s * 22, 36, 4)], [6.5, 6], ("white matter", 0))
        canvas.tube([(s * 14, 18, 3), (s * 24, 17, 7)], [4.5, 2], ("csf", 0))
        canvas.ellipsoid((s * 12, 43, 2), (6, 6, 4), ("deep grey", 0), rough=1.0)


def paint_deep(canvas: Canvas, atrophy: float, ventricles: float) -> None:
    """Paint the deep nuclei, the ventricles, the veins and a few age-related lesions."""
    rng = canvas.rng
    width = ventricles * (0.75 + 0.35 * atrophy * rng.uniform(0.8, 1.3))
    for s in (-1, 1):

        def mirrored(*corners: Triple, s: int = s) -> list[Triple]:
            return [(s * x, y, z) for x, y, z in corners]

        w = width * rng.uniform(0.85, 1.15)
        horn = mirrored(
            (7, -26, 42), (9, -10, 46), (10, 8, 50), (14, 26, 49), (23, 38, 42), (25, 50, 40), (22, 62, 40)
        )
        temporal = mirrored((25, 38, 40), (30, 26, 29), (32, 8, 21), (31, -6, 20))
        canvas.ellipsoid((s * 12, 9, 38), (9, 15, 8.5), ("deep grey", 0), rough=0.7)
        canvas.ellipsoid((s * 25, 0, 34), (6, 19, 11), ("deep grey", 0), rough=0.7)
        canvas.ellipsoid((s * 19, 2, 32), (4, 8, 6), ("white matter", 0), rough=0.5)
        caudate = mirrored((12, -20, 40), (15, -8, 48), (17, 8, 52), (21, 22, 49))
        canvas.tube(caudate, [7, 5, 3.5, 2], ("deep grey", 0))
        canvas.tube(horn, [3.6 * w, 4.8 * w, 4.6 * w, 5.5 * w, 6.5 * w, 4.5 * w, 2.0], ("csf", 0))
        canvas.tube(temporal, [5.5 * w, 3 * w, 2.4 * w, 2 * w], ("csf", 0))
        canvas.tube([horn[3], horn[4]], [1.6, 2.6], ("deep grey", 0))
        if rng.random() < 0.6:
            canvas.ellipsoid((s * 22, 37, 42), (1.6, 2.6, 1.6), ("calcification", 0))
        canvas.ellipsoid((s * 27, -8, 20), (8, 8, 7), ("deep grey", 0), rough=0.7)
    canvas.block((0, 6, 37), (1.0 + width, 14, 9), 1.5, ("csf", 0))
    canvas.tube([(0, -24, 43), (0, -2, 52), (0, 14, 52)], [1.2, 1.0, 0.8], ("white matter", 0))
    callosum = [(0, -34, 44), (0, -26, 54), (0, -4, 60), (0, 16, 59), (0, 31, 50), (0, 30, 44)]
    canvas.tube(callosum, [4, 3, 2.4, 2.4, 4, 4], ("white matter", 0), wide=2.5)
    canvas.ellipsoid((0, 26, 36), (3, 4.5, 3), ("deep grey", 0))
    if rng.random() < 0.7:
        canvas.ellipsoid((0, 27, 36), (2, 2.4, 1.8), ("calcification", 0))
    canvas.tube([(0, -10, 22), (0, -8, 27)], [5, 5], ("csf", 0))
    canvas.tube([(-12, -18, 24), (0, -10, 24), (12, -2, 26)], [2, 2.5, 2.5], ("nerve", 0))
    canvas.tube([(12, -18, 24), (0, -10, 24), (-12, -2, 26)], [2, 2.5, 2.5], ("nerve", 0))
    sinus = [(0, -70, 70), (0, -30, 100), (0, 20, 101), (0, 65, 82), (0, 88, 45), (0, 87, 22)]
    canvas.tube(sinus, [1.5, 3, 4, 4.5, 5, 5], ("vein", 0))
    for s in (-1, 1):
        canvas.tube([(0, 86, 20), (s * 38, 70, 14), (s * 50, 44, 8)], [5, 4.5, 4.5], ("vein", 0))
    for _ in range(rng.integers(1, 9)):
        side = rng.choice([-1, 1])
        centre = (side * rng.uniform(18, 34), rng.uniform(-35, 50), rng.uniform(48, 66))
        radius = rng.uniform(1.5, 4.5)
        canvas.ellipsoid(centre, (radius, 1.4 * radius, radius), ("scar", 0), rough=0.6)
