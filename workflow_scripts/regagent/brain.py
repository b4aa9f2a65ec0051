"""The brain of the simulated cohort (§4 Dataset): cortex folds, deep nuclei, ventricles and cerebellum.

Coordinates are those of the standard head (mm, LPS, the origin on the Frankfurt plane between the ears).
"""

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from regagent.tissue import Canvas, Field, Points, blend, ellipsoid, smooth_noise, tube

BOUNDS = ((-74, -88, -30), (74, 100, 112))
CENTRE = (0.0, 8.0, 42.0)


def cavity(p: Points) -> Field:
    """Return the signed distance to the inside of the skull: vault, middle and posterior fossa."""
    x, y, z = p
    vault = ellipsoid((x, y, z), (0, 6, 40), (67, 84, 63))
    floor = np.float32(27) - z - np.float32(0.16) * np.minimum(y + 10, 0) * 0.6
    vault = np.maximum(vault, floor)
    temporal = ellipsoid((np.abs(x), y, z), (39, -12, 19), (25, 34, 19))
    posterior = ellipsoid(p, (0, 50, 10), (52, 38, 29))
    stem = tube(p, [(0, 4, 24), (0, 16, 4), (0, 27, -18)], [14, 16, 14])
    field = blend(blend(vault, temporal, 8.0), blend(posterior, stem, 8.0), 8.0)
    return field.astype(np.float32)


def folds(canvas: Canvas, p: Points, scale: float) -> Field:
    """Return a noise field whose zeros are the sulci: waves of ``scale`` mm, upright on the surface."""
    cell, extent = 3.0, (180.0, 216.0, 180.0)
    shape = [int(e / cell) for e in extent]
    white = canvas.rng.standard_normal(shape, dtype=np.float32)
    width = scale / cell / 2 / np.pi
    waves = gaussian_filter(white, width * 1.05, mode="wrap") - gaussian_filter(
        white, width * 1.75, mode="wrap"
    )
    waves /= waves.std()
    unit = [
        (axis - np.float32(c)) / np.float32(r) for axis, c, r in zip(p, CENTRE, (66, 84, 62), strict=True)
    ]
    radius = np.maximum(np.sqrt(unit[0] ** 2 + unit[1] ** 2 + unit[2] ** 2), np.float32(0.4))
    stretch = radius ** np.float32(-0.5)
    where = [
        ((axis - np.float32(c)) * stretch + np.float32(e / 2)) / np.float32(cell)
        for axis, c, e in zip(p[::-1], CENTRE[::-1], extent, strict=True)
    ]
    return map_coordinates(waves, np.stack(where), order=1, mode="grid-wrap", prefilter=False)


def paint_brain(canvas: Canvas, inside: Field) -> None:
    """Paint everything within the cranial cavity; ``inside`` is its signed distance on the grid."""
    rng = canvas.rng
    box = canvas.box(*BOUNDS)
    p = x, y, z = canvas.at(box)
    depth = -inside[box]
    box_extent = tuple(n * canvas.spacing for n in depth.shape)
    seeds = rng.integers(2**32, size=2)
    slow, fine = (
        smooth_noise(np.random.default_rng(seed), box_extent, depth.shape, scale)
        for seed, scale in zip(seeds, (28.0, 14.0), strict=True)
    )
    atrophy = rng.uniform(0.7, 1.5)
    canvas.fill(-depth, "dura", box)
    canvas.fill(1.0 - depth, "csf", box)

    # The tentorium parts cerebrum from cerebellum; before the petrous ridge there is cerebrum only.
    tent = np.float32(33) - np.float32(0.2) * (y - 15) - np.float32(0.007) * x * x
    below = np.where(y > 6, z - tent, np.float32(30))
    brain = depth - np.float32(1.6 + 1.0 * atrophy) - np.float32(0.7) * slow
    brain = np.minimum(brain, below - 1.2)

    scale = rng.uniform(21.0, 25.0)
    sulcus = np.abs(folds(canvas, p, scale) + np.float32(0.35) * fine) * np.float32(scale / 6.6)
    reach = np.float32(18) + np.float32(3.5) * slow
    sulcus = np.maximum(sulcus - np.float32(0.55 + 0.45 * atrophy), brain - reach)
    callosum = ellipsoid(p, (0, 4, 44), (40, 42, 22))
    drift = np.float32(rng.uniform(-2, 2)) + np.float32(0.8) * fine
    fissure = np.maximum(np.abs(x + drift) - np.float32(0.8 + 0.5 * atrophy), -callosum)
    side = np.abs(x)
    sylvian = np.abs(z - np.float32(23) - np.float32(0.28) * (y + 10) + 2 * fine) - np.float32(1.4 * atrophy)
    sylvian = np.maximum(sylvian, np.maximum(38 - side, np.maximum(-34 - y, y - 32)))
    insula = np.abs(side - 38 + fine) - np.float32(1.0 * atrophy)
    insula = np.maximum(insula, np.maximum(np.abs(z - 29) - 13, np.abs(y) - 24))
    pial = np.minimum(np.minimum(brain, sulcus), np.minimum(fissure, np.minimum(sylvian, insula)))
    thickness = np.float32(3.2) + np.float32(0.25) * fine
    canvas.fill(-pial, "grey matter", box)
    canvas.fill(thickness - pial, "white matter", box)
    canvas.fill(np.maximum(np.abs(x + drift) - 0.7, np.maximum(-callosum, -depth)) + 0.2, "dura", box)
    canvas.fill(np.maximum(np.abs(below) - 0.8, -depth), "dura", box)
    paint_cerebellum(canvas, box, p, np.minimum(depth - 2.2, -below - 1.5), fine)
    paint_deep(canvas, atrophy)


def paint_cerebellum(canvas: Canvas, box: tuple[slice, ...], p: Points, depth: Field, fine: Field) -> None:
    """Paint the cerebellum with its folia and the brainstem within its cisterns."""
    rng = canvas.rng
    x, y, z = p
    lobes = blend(
        blend(ellipsoid(p, (27, 52, 2), (27, 30, 24)), ellipsoid(p, (-27, 52, 2), (27, 30, 24)), 4.0),
        ellipsoid(p, (0, 52, 6), (13, 24, 22)),
        3.0,
    )
    depth = np.minimum(depth, -lobes)
    radius = np.sqrt((y - 34) ** 2 + (z - 6) ** 2 + (0.35 * x) ** 2)
    folia = np.abs(((radius + 2.2 * fine) / np.float32(5.0)) % 1 - np.float32(0.5)) * 5
    folia = np.maximum(np.float32(2.2) - folia - 1.9, depth * 0 - 9)
    crack = np.maximum(np.minimum(np.abs(folia + 0.25), 9) - 0.35, depth - 9)
    canvas.fill(-np.minimum(depth, crack + 0.6), "grey matter", box)
    core = depth - np.float32(7) - np.float32(2.2) * np.sin(radius * np.float32(2 * np.pi / 9.0) + fine)
    canvas.fill(-core, "white matter", box)
    stem = [(0, 0, 30), (0, 6, 20), (0, 10, 8), (0, 17, -5), (0, 27, -20), (0, 31, -34)]
    canvas.tube(
        [(0, 1, 30), (0, 5, 20), (0, 10, 6), (0, 19, -8), (0, 29, -24)], [13, 14, 16, 13, 10], ("csf", 0)
    )
    canvas.tube([(0, -8, 30), (0, -6, 26)], [11, 10], ("csf", 0))
    canvas.tube(stem, [10, 11, 12.5, 9.5, 6.5, 5.5], ("white matter", 0))
    canvas.tube([(0, 2, 24), (0, 12, 4)], [5, 6], ("deep grey", 0))
    canvas.ellipsoid((0, 27, 4), (8, 5.5, 9), ("csf", 0))
    canvas.tube([(0, 20, 20), (0, 24, 8)], [1.3, 2], ("csf", 0))
    for side in (-1, 1):
        canvas.tube([(side * 8, 12, 6), (side * 22, 36, 4)], [6.5, 6], ("white matter", 0))
        canvas.tube([(side * 14, 18, 3), (side * 24, 17, 7)], [4.5, 2], ("csf", 0))
        canvas.ellipsoid((side * 12, 45, 2), (6, 7, 4), ("deep grey", 0))
        canvas.ellipsoid((side * 7, 66, -12 + rng.uniform(-2, 2)), (8, 8, 6), ("grey matter", 0))


def paint_deep(canvas: Canvas, atrophy: float) -> None:
    """Paint the deep nuclei, the ventricles and a few lesions of age."""
    rng = canvas.rng
    width = 0.75 + 0.35 * atrophy * rng.uniform(0.8, 1.3)
    for side in (-1, 1):
        w = width * rng.uniform(0.85, 1.15)
        horn = [
            (7, -26, 42),
            (9, -10, 46),
            (10, 8, 50),
            (14, 26, 49),
            (23, 38, 42),
            (25, 50, 40),
            (22, 62, 40),
        ]
        temporal = [(25, 38, 40), (30, 26, 29), (32, 8, 21), (31, -6, 20)]
        horn = [(side * cx, cy, cz) for cx, cy, cz in horn]
        temporal = [(side * cx, cy, cz) for cx, cy, cz in temporal]
        canvas.ellipsoid((side * 13, 9, 38), (9.5, 15, 8.5), ("deep grey", 0))
        canvas.ellipsoid((side * 24, 0, 34), (6.5, 20, 11), ("deep grey", 0))
        canvas.ellipsoid((side * 17, 2, 32), (4.5, 9, 6), ("white matter", 0))
        caudate = [(side * 12, -20, 40), (side * 15, -8, 48), (side * 17, 8, 52), (side * 21, 22, 49)]
        canvas.tube(caudate, [7, 5, 3.5, 2], ("deep grey", 0))
        canvas.tube(horn, [4.5 * w, 5.5 * w, 5 * w, 6 * w, 8 * w, 5.5 * w, 2.0], ("csf", 0))
        canvas.tube(temporal, [6 * w, 3 * w, 2.6 * w, 2 * w], ("csf", 0))
        canvas.tube([horn[3], horn[4]], [1.6, 2.6], ("deep grey", 0))
        if rng.random() < 0.6:
            canvas.ellipsoid((side * 22, 37, 42), (1.6, 2.6, 1.6), ("calcification", 0))
        canvas.ellipsoid((side * 27, -8, 20), (8, 8, 7), ("deep grey", 0))
    canvas.block((0, 6, 37), (1.0 + width, 14, 9), 1.5, ("csf", 0))
    canvas.tube([(0, -24, 43), (0, -2, 52), (0, 14, 52)], [1.2, 1.0, 0.8], ("white matter", 0))
    canvas.tube(
        [(0, -34, 44), (0, -26, 54), (0, -4, 60), (0, 16, 59), (0, 31, 50), (0, 30, 44)],
        [4, 3, 2.4, 2.4, 4, 4],
        ("white matter", 0),
    )
    canvas.ellipsoid((0, 26, 36), (3, 4.5, 3), ("deep grey", 0))
    if rng.random() < 0.7:
        canvas.ellipsoid((0, 27, 36), (2, 2.4, 1.8), ("calcification", 0))
    canvas.tube([(0, -10, 22), (0, -8, 27)], [5, 5], ("csf", 0))
    canvas.tube([(-12, -18, 24), (0, -10, 24), (12, -2, 26)], [2, 2.5, 2.5], ("nerve", 0))
    canvas.tube([(12, -18, 24), (0, -10, 24), (-12, -2, 26)], [2, 2.5, 2.5], ("nerve", 0))
    sinus = [(0, -70, 70), (0, -30, 100), (0, 20, 101), (0, 65, 82), (0, 88, 45), (0, 90, 22)]
    canvas.tube(sinus, [1.5, 3, 4, 4.5, 5, 5], ("vein", 0))
    for side in (-1, 1):
        canvas.tube([(0, 88, 20), (side * 38, 70, 14), (side * 50, 44, 8)], [5, 4.5, 4.5], ("vein", 0))
    for _ in range(rng.integers(1, 9)):
        side = rng.choice([-1, 1])
        centre = (side * rng.uniform(18, 34), rng.uniform(-35, 50), rng.uniform(48, 66))
        radius = rng.uniform(1.5, 4.5)
        canvas.ellipsoid(centre, (radius, 1.4 * radius, radius), ("scar", 0), rough=0.6)
