"""The head and neck of a simulated patient (§4 Dataset): all parts painted, from the large to the small.

Coordinates are those of the standard head (mm, LPS, the origin on the Frankfurt plane between the ears).
Every shape is painted over the earlier ones, so the order matters.
"""

import numpy as np

from regagent.phantom.brain import cavity, paint_brain, vault
from regagent.phantom.canvas import Canvas, Field, Points, Triple, blend, ellipsoid, tube
from regagent.phantom.face import (
    paint_airways,
    paint_face_bones,
    paint_face_muscles,
    paint_orbits,
    paint_teeth,
    paint_tumour,
)
from regagent.phantom.variety import Variety
from regagent.settings import Phantom

#: The corners in mm of the space that is painted. It contains both fields of view in any pose.
LOWER, UPPER = (-98.0, -136.0, -122.0), (98.0, 118.0, 130.0)
SIDES = (-1, 1)


def build_head(
    rng: np.random.Generator, spacing: float, metal: bool, variety: Variety | None = None
) -> Canvas:
    """Paint one patient's head on a grid of ``spacing`` mm; with ``metal`` some teeth have metal fillings.

    Without a ``variety`` it is one of the usual heads.
    """
    variety = variety or Variety(rng.spawn(1)[0], Phantom())
    size = tuple(rng.normal(1.0, 0.025) * s for s in [np.clip(rng.normal(1.0, 0.03), 0.93, 1.07)] * 3)
    canvas = Canvas(rng, LOWER, UPPER, spacing, size, variety.warp)
    fatness = rng.uniform(0.6, 1.5)
    inside = canvas.coarse(cavity)
    skull = inside - skull_thickness(canvas)
    skull = blend(skull, canvas.coarse(bridge), 6.0)
    hull = paint_soft_tissue(canvas, inside, skull, fatness)
    paint_neck(canvas, fatness)
    paint_face_muscles(canvas)
    paint_skull(canvas, inside, skull)
    variety.open_skull(canvas, inside, skull)
    paint_brain(canvas, inside, variety.ventricles)
    variety.paint_lesions(canvas, inside)
    paint_skull_base(canvas)
    paint_spine(canvas)
    paint_face_bones(canvas)
    paint_airways(canvas)
    if not variety.toothless:
        paint_teeth(canvas, metal)
    paint_orbits(canvas)
    paint_temporal_bones(canvas)
    paint_tumour(canvas)
    texture(canvas, hull)
    return canvas


def skull_thickness(canvas: Canvas) -> Field:
    """Return the thickness in mm of the bone around the cranial cavity at each voxel."""
    base = canvas.rng.uniform(5.5, 8.0)
    wobble = canvas.noise(30.0)

    def thickness(p: Points) -> Field:
        x, y, z = p
        temporal = np.exp(-(((np.abs(x) - 66) / 18) ** 2) - ((z - 18) / 22) ** 2 - ((y + 5) / 32) ** 2)
        floor = 1 / (1 + np.exp(np.clip((z - 36) / 3 + np.maximum(np.abs(y + 5) - 70, 0), -30, 30)))
        back = np.exp(-(((y - 92) / 20) ** 2) - ((z - 25) / 16) ** 2)
        return (base * (1 - 0.6 * temporal) * (1 - 0.45 * floor) + 3.5 * back).astype(np.float32)

    return np.maximum(canvas.coarse(thickness) + np.float32(0.9) * wobble, np.float32(1.8))


def bridge(p: Points) -> Field:
    """Return the signed distance to the outer vault over the notch between middle and posterior fossa."""
    x, y, z = p
    return np.maximum(vault(p) - 6, np.maximum(7 - z, -30 - y)).astype(np.float32)


def outline(p: Points) -> Field:
    """Return the signed distance to face, jaw, neck and nose. The scalp is derived from the skull instead."""
    x, y, z = p
    face = ellipsoid(p, (0, -38, -2), (69, 62, 54), 2.2)
    cheeks = ellipsoid((np.abs(x), y, z), (28, -60, 4), (36, 34, 36))
    jaw = ellipsoid(p, (0, -36, -46), (65, 64, 50), 2.2)
    chin = ellipsoid(p, (0, -80, -76), (30, 25, 20))
    temple = ellipsoid(p, (0, 12, -2), (72, 56, 44), 2.2)
    neck = tube((x * 0.9, y, z), [(0, 22, -20), (0, 14, -60), (0, 12, -150)], [56, 54, 58])
    nose = blend(
        tube(p, [(0, -88, 20), (0, -113, -13)], [10, 11]), ellipsoid(p, (0, -103, -18), (19, 14, 10)), 6
    )
    nose = blend(nose, ellipsoid(p, (0, -90, -9), (18, 20, 20)), 6)
    brow = ellipsoid(p, (0, -58, 34), (52, 32, 26))
    lips = ellipsoid(p, (0, -95, -44), (27, 10, 12))
    head = blend(blend(blend(blend(face, brow, 10), cheeks, 8), temple, 10), blend(jaw, neck, 14), 16)
    return blend(blend(head, chin, 12), blend(nose, lips, 6), 10).astype(np.float32)


def paint_soft_tissue(canvas: Canvas, inside: Field, skull: Field, fatness: float) -> Field:
    """Paint skin, fat, scalp and the temporal muscles; return the signed distance to the skin."""
    scalp = np.float32(3.5 + 2.0 * fatness) + np.float32(0.6) * canvas.noise(40.0)
    hull = blend(skull - scalp, canvas.coarse(outline), 10.0)
    for side in SIDES:
        box = canvas.box((side * 82 - 14, -8, -34), (side * 82 + 14, 52, 42))
        hull[box] = np.minimum(hull[box], ear(canvas.at(box), side, canvas.rng))
    canvas.fill(hull, "skin")
    canvas.skin = hull + np.float32(1.8)
    canvas.fill(hull + np.float32(2.0), "fat")
    galea = np.maximum(skull - np.float32(1.8), hull + np.float32(2.5))
    canvas.fill(galea, "muscle")
    thick = canvas.rng.uniform(9, 14)

    def temporalis(p: Points) -> Field:
        x, y, z = p
        return np.maximum(
            48 - np.abs(x), np.maximum(np.abs(y + 24 + 0.2 * z) - 36 + 0.2 * z, np.abs(z - 22) - 42)
        )

    for side in SIDES:
        box = canvas.box((min(side * 45, side * 92), -70, -22), (max(side * 45, side * 92), 20, 66))
        p = canvas.at(box)
        shell = np.maximum(skull[box] - np.float32(thick), hull[box] + np.float32(1.5 + 3 * fatness))
        canvas.fill(np.maximum(shell, temporalis(p)), "muscle", box)
    return hull


def ear(p: Points, side: int, rng: np.random.Generator) -> Field:
    """Return the signed distance to an outer ear: a tilted dish with a rim."""
    x, y, z = p
    out = side * x - np.float32(75) - np.float32(0.35) * (y - 20)
    rim = np.sqrt(((y - 24 - 0.15 * z) / 15) ** 2 + ((z - 4) / (29 * rng.uniform(0.92, 1.08))) ** 2)
    dish = np.maximum(np.abs(out - 5 * rim) - np.float32(2.4), (rim - 1) * 16)
    root = ellipsoid(p, (side * 73, 17, 1), (9, 8, 17))
    return np.minimum(dish, root).astype(np.float32)


def paint_neck(canvas: Canvas, fatness: float) -> None:
    """Paint the muscles, glands, vessels and nodes of the neck."""
    rng = canvas.rng
    bulk = rng.uniform(0.95, 1.25)
    box = canvas.box((-80, -112, -140), (80, 90, 2))
    x, y, z = canvas.at(box)
    seeds = rng.integers(2**32, size=2)
    pockets = (
        canvas.grain(seeds[0], z.shape, 13.0) - np.float32(1.6 - 0.6 * fatness) + np.float32(0.3) * (y < 0)
    )
    assert canvas.skin is not None, "the soft tissue is painted before the neck"
    wall = (
        canvas.skin[box]
        + np.float32(2 + 4 * fatness)
        + np.float32(1.2) * canvas.grain(seeds[1], z.shape, 20.0)
    )
    wall = np.maximum(np.maximum(wall, z + 6 + 4 * pockets), 3 * pockets)
    canvas.fill(wall, "muscle", box)
    for s in SIDES:
        muscles: list[tuple[float, list[Triple], list[float]]] = [
            (1.3, [(s * 9, 42, -28), (s * 13, 46, -70), (s * 13, 46, -130)], [6, 9, 9]),
            (1.5, [(s * 24, 42, -26), (s * 28, 44, -60), (s * 24, 46, -130)], [6, 8, 8]),
            (2.2, [(s * 12, 56, -26), (s * 16, 60, -75), (s * 24, 58, -130)], [5, 6, 6]),
            (2.8, [(s * 16, 68, -32), (s * 24, 68, -75), (s * 36, 62, -130)], [2.5, 3, 4]),
            (1.2, [(s * 44, 36, -22), (s * 44, 34, -70), (s * 44, 36, -130)], [8, 9, 9]),
            (1.0, [(s * 48, 22, -40), (s * 42, 20, -80), (s * 42, 22, -130)], [5, 7, 9]),
            (0.8, [(s * 57, 36, -22), (s * 56, 14, -70), (s * 38, -20, -126)], [8, 10, 9]),
            (1.2, [(s * 7, 4, -24), (s * 8, 5, -60), (s * 9, 6, -130)], [4.5, 5, 6]),
            (1.3, [(s * 30, 33, -18), (s * 8, 46, -44)], [6, 6]),
            (1.0, [(s * 44, 26, -16), (s * 24, -40, -82)], [4, 3.5]),
            (1.6, [(s * 8, -82, -82), (s * 14, -45, -88), (s * 10, -30, -92)], [5, 6, 4]),
            (1.0, [(s * 30, -70, -66), (s * 28, -45, -82)], [2.5, 2.5]),
            (1.6, [(s * 10, -32, -94), (s * 12, -28, -130)], [5, 6]),
        ]
        for wide, line, radii in muscles:
            sheath = rng.uniform(-0.2, 0.45)
            canvas.tube(line, [r * bulk for r in radii], ("deep fat", sheath), ("muscle", -0.2), wide=wide)
        canvas.ellipsoid((s * 63, 2, -32), (9, 17, 24), ("gland", 0), rough=1.0)
        canvas.ellipsoid((s * 36, -40, -78), (9, 15, 11), ("gland", 0), rough=0.7)
        canvas.tube([(s * 26, 4, -10), (s * 27, 2, -55), (s * 24, 2, -130)], [2.6, 3, 4], ("vessel", 0))
        canvas.tube([(s * 32, 10, -6), (s * 33, 10, -60), (s * 30, 8, -130)], [4, 5, 6], ("vein", 0))
        for _ in range(rng.integers(2, 7)):
            centre = (s * rng.uniform(34, 50), rng.uniform(-10, 30), rng.uniform(-110, -40))
            radius = rng.uniform(2.5, 7.0)
            canvas.ellipsoid(centre, (radius, radius, 1.4 * radius), ("node", 0))


def paint_skull(canvas: Canvas, inside: Field, skull: Field) -> None:
    """Paint the bone around the cavity: two tables, with diploë between them where it is thick."""
    opening = canvas.coarse(lambda p: tube(p, [(0, 22, -8), (0, 34, -40)], [16, 16]))
    box = canvas.box((-88, -104, -34), (88, 116, 126))
    inside, skull, opening = inside[box], skull[box], opening[box]
    canvas.fill(np.maximum(np.maximum(skull, -inside), -opening), "bone", box)
    seeds = canvas.rng.integers(2**32, size=2)
    rough = np.float32(0.4) * canvas.grain(seeds[0], inside.shape, 9.0)
    trabeculae = np.float32(140) * canvas.grain(seeds[1], inside.shape, 3.5)
    within = np.maximum(np.maximum(skull, -inside) + np.float32(1.6) + rough, -opening)
    canvas.fill(within, "diploe", box, ct=trabeculae + np.float32(canvas.values["diploe"][1]))


def paint_skull_base(canvas: Canvas) -> None:
    """Paint sphenoid, clivus, pterygoid plates, occipital condyles and the hypophysis."""
    canvas.block((0, -20, 9), (17, 16, 13), 6, ("bone", 0), ("marrow", -1.8))
    canvas.tube([(0, -4, 16), (0, 10, -10)], [8, 5], ("bone", 0), ("marrow", -1.6))
    canvas.ellipsoid((0, -12, 24), (7, 5.5, 4), ("deep grey", 0))
    for s in SIDES:
        canvas.tube(
            [(s * 14, -26, 8), (s * 32, -34, 6), (s * 46, -46, 12)], [6, 5, 4], ("bone", 0), ("marrow", -1.8)
        )
        canvas.block((s * 13, -33, -18), (1.6, 4, 14), 1.2, ("bone", 0))
        canvas.block((s * 19, -32, -16), (1.6, 6, 14), 1.2, ("bone", 0))
        canvas.block((s * 16, -39, -14), (4.5, 2.6, 14), 1.5, ("bone", 0))
        canvas.ellipsoid((s * 18, 20, -20), (7, 11, 6), ("bone", 0), ("marrow", -1.6))
        canvas.tube([(s * 12, -2, 22), (s * 13, -10, 16), (s * 12, -18, 22)], [3, 3, 3], ("vessel", 0))
        canvas.ellipsoid((s * 13, -8, 19), (5, 10, 6), ("vein", 0))
        canvas.tube([(s * 13, -4, 14), (s * 24, 4, 2), (s * 26, 4, -10)], [3, 3, 3], ("vessel", 0))


def paint_spine(canvas: Canvas) -> None:
    """Paint atlas, axis and the vertebrae below with discs, canal and cord."""
    rng = canvas.rng
    canal = [(0, 30, -20), (0, 31, -40), (0, 30, -70), (0, 31, -135)]
    step = rng.uniform(16.5, 19.0)
    cortex = ("bone", 0.0), ("marrow", -1.5)
    ring = [(0, 7, -30), (-16, 11, -30), (-22, 24, -31), (-14, 40, -32), (0, 46, -32)]
    for s in (-1, 1):
        line = [(s * cx, cy, cz) for cx, cy, cz in ring]
        canvas.tube(line, [3.5, 3.5, 4.5, 3.5, 4], *cortex)
        canvas.ellipsoid((s * 19, 20, -30), (7, 9, 6), *cortex)
        canvas.tube([(s * 24, 20, -31), (s * 36, 22, -32)], [4, 3.5], *cortex)
    canvas.tube([(0, 14, -24), (0, 15, -42)], [5, 7], *cortex)
    for level in range(6):
        z = -47 - level * step
        y = 15 - 3 * np.sin(level / 1.6)
        canvas.block((0, y, z), (9.5, 8, step / 2 - 2.4), 3, *cortex)
        canvas.block((0, y, z - step / 2), (9, 7.5, 1.6), 1.2, ("cartilage", 0))
        for s in SIDES:
            canvas.tube([(s * 9, y + 4, z), (s * 17, y + 9, z)], [3.5, 4], *cortex)
            canvas.ellipsoid((s * 19, y + 13, z), (6, 7, 8), *cortex)
            canvas.tube([(s * 17, y + 18, z - 2), (0, y + 30, z - 5)], [3.2, 4], *cortex)
            canvas.tube([(s * 10, y - 2, z), (s * 24, y + 1, z)], [2.6, 3.2], *cortex)
        canvas.tube([(0, y + 28, z - 4), (0, y + (44 if level == 0 else 38), z - 9)], [3.5, 4], *cortex)
    canvas.tube(canal, [13, 10.5, 8.5, 8.5], ("dura", 0.5), ("csf", 0))
    canvas.tube(canal, [6.0, 5.5, 5.5, 5.5], ("nerve", 0))
    for s in SIDES:
        canvas.tube(
            [(s * 16, 34, -26), (s * 26, 22, -33), (s * 17, 15, -50), (s * 17, 14, -135)],
            [1.6] * 4,
            ("vessel", 0),
        )


def paint_temporal_bones(canvas: Canvas) -> None:
    """Paint petrous bones with labyrinth and ear canals, and the mastoids with their air cells."""
    rng = canvas.rng
    for s in SIDES:
        line = [(s * 12, 0, 8), (s * 30, 10, 8), (s * 50, 20, 4), (s * 58, 24, 0)]
        canvas.tube(line, [5, 8, 10, 10], ("dense bone", 0))
        canvas.tube([(s * 12, 1, 8), (s * 22, 6, 8)], [3.5, 4], ("marrow", 0))
        filled = "fluid" if rng.random() < 0.2 else "air"
        extent = rng.uniform(0.75, 1.2)
        radii = (11 * extent, 15 * extent, 20 * extent)
        centre = (s * 55, 30, -4)
        canvas.ellipsoid(centre, (12, 16, 21), ("bone", 0))

        def cells(
            p: Points, centre: tuple = centre, radii: tuple = radii, seed: int = int(rng.integers(2**32))
        ) -> Field:
            field = ellipsoid(p, centre, radii)
            foam = canvas.grain(seed, field.shape, 3.2)
            return np.maximum(field + 1.0, np.float32(1.6) * (foam - np.float32(0.35)))

        canvas.paint((s * 55 - 15, 10, -30), (s * 55 + 15, 50, 22), cells, (filled, 0))
        canvas.tube(
            [(s * 47, 10, 3), (s * 58, 11, 2), (s * 78, 12, 1)], [3.2, 3.4, 4], ("mucosa", 1.0), ("air", 0)
        )
        canvas.ellipsoid((s * 42, 10, 5), (3.5, 5, 6), (filled, 0))
        canvas.tube([(s * 16, 14, 8), (s * 27, 13, 8)], [3, 2.4], ("csf", 0))
        canvas.ellipsoid((s * 30, 8, 6), (3.4, 2.6, 2.6), ("fluid", 0))
        canvas.ellipsoid((s * 34, 15, 8), (3.4, 2.6, 3.0), ("fluid", 0))
        canvas.tube([(s * 51, 44, 6), (s * 46, 32, -4), (s * 34, 16, -8)], [4.5, 5, 4.5], ("vein", 0))


def texture(canvas: Canvas, hull: Field) -> None:
    """Give the tissues their texture: the signal within each of them varies from place to place."""
    grain = canvas.noise(7.0) * np.float32(0.045) + canvas.noise(2.6) * np.float32(0.05)
    canvas.mr *= 1 + grain
    bone = (canvas.ct > 150) & (canvas.ct < 1600)
    canvas.ct *= 1 + np.where(bone, np.float32(1.6), np.float32(0.0)) * grain
    canvas.ct += np.where((canvas.ct > 150) | (hull > 0), 0, np.float32(120) * grain)
