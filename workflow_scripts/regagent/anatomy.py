"""The head and neck of the simulated cohort (§4 Dataset): skull, face, sinuses, muscles, spine and tumour.

Coordinates are those of the standard head (mm, LPS, the origin on the Frankfurt plane between the ears).
Every shape is painted over the earlier ones, so the order is from the large to the small.
"""

import numpy as np

from regagent.brain import cavity, paint_brain
from regagent.tissue import Canvas, Field, Points, blend, block, ellipsoid, tube

#: The patient space that is painted, in mm: it holds both fields of view in any pose.
LOWER, UPPER = (-98.0, -136.0, -122.0), (98.0, 118.0, 130.0)
SIDES = (-1, 1)


def build_head(rng: np.random.Generator, spacing: float, metal: bool) -> Canvas:
    """Paint one patient's head on a grid of ``spacing`` mm, with fillings of metal if so asked."""
    size = tuple(rng.normal(1.0, 0.025) * s for s in [np.clip(rng.normal(1.0, 0.03), 0.93, 1.07)] * 3)
    canvas = Canvas(rng, LOWER, UPPER, spacing, size)
    fatness = rng.uniform(0.6, 1.5)
    inside = canvas.coarse(cavity)
    skull = skull_thickness(canvas)
    hull = paint_soft_tissue(canvas, inside, skull, fatness)
    paint_neck(canvas)
    paint_face_muscles(canvas)
    paint_skull(canvas, inside, skull)
    paint_brain(canvas, inside)
    paint_skull_base(canvas)
    paint_spine(canvas)
    paint_face_bones(canvas)
    paint_airways(canvas)
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


def outline(p: Points) -> Field:
    """Return the signed distance to face, jaw, neck and nose (the scalp follows from the skull)."""
    x, y, z = p
    face = ellipsoid(p, (0, -40, -2), (67, 61, 52))
    cheeks = ellipsoid((np.abs(x), y, z), (27, -58, 4), (36, 36, 36))
    face = blend(face, cheeks, 8)
    jaw = ellipsoid(p, (0, -40, -50), (57, 61, 44))
    chin = ellipsoid(p, (0, -82, -78), (26, 22, 20))
    neck = tube((x * 0.95, y, z), [(0, 22, -20), (0, 14, -60), (0, 12, -150)], [58, 54, 58])
    nose = blend(
        tube(p, [(0, -90, 20), (0, -115, -14)], [8, 10]), ellipsoid(p, (0, -106, -19), (17, 13, 9)), 5
    )
    lips = ellipsoid(p, (0, -98, -44), (24, 9, 11))
    head = blend(blend(face, jaw, 16), neck, 18)
    return blend(blend(head, chin, 12), blend(nose, lips, 6), 6).astype(np.float32)


def paint_soft_tissue(canvas: Canvas, inside: Field, skull: Field, fatness: float) -> Field:
    """Paint skin, fat and scalp, and the temporal muscles; return the signed distance to the skin."""
    scalp = np.float32(3.5 + 2.0 * fatness) + np.float32(0.6) * canvas.noise(40.0)
    hull = blend(inside - skull - scalp, canvas.coarse(outline), 12.0)
    for side in SIDES:
        box = canvas.box((side * 82 - 14, -8, -34), (side * 82 + 14, 52, 42))
        hull[box] = np.minimum(hull[box], ear(canvas.at(box), side, canvas.rng))
    canvas.fill(hull, "skin")
    canvas.skin = hull + np.float32(1.8)
    canvas.fill(hull + np.float32(2.0), "fat")
    galea = np.maximum(inside - skull - np.float32(1.8), hull + np.float32(2.5))
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
        shell = np.maximum(
            inside[box] - skull[box] - np.float32(thick), hull[box] + np.float32(1.5 + 3 * fatness)
        )
        canvas.fill(np.maximum(shell, temporalis(p)), "muscle", box)
    return hull


def ear(p: Points, side: int, rng: np.random.Generator) -> Field:
    """Return the signed distance to an outer ear: a tilted dish with a rim."""
    x, y, z = p
    out = side * x - np.float32(75) - np.float32(0.35) * (y - 20)
    rim = np.sqrt(((y - 24 - 0.15 * z) / 15) ** 2 + ((z - 4) / (29 * rng.uniform(0.92, 1.08))) ** 2)
    dish = np.maximum(np.abs(out - 5 * rim) - np.float32(2.4), (rim - 1) * 16)
    root = ellipsoid(p, (side * 74, 16, 1), (9, 10, 15))
    return np.minimum(dish, root).astype(np.float32)


def paint_neck(canvas: Canvas) -> None:
    """Paint the muscles, glands, vessels and nodes of the neck."""
    rng = canvas.rng
    bulk = rng.uniform(0.95, 1.25)
    box = canvas.box((-75, 0, -140), (75, 90, -12))
    x, y, z = canvas.at(box)
    wall = np.maximum(canvas.skin[box] + np.float32(rng.uniform(3, 8)), np.maximum(8 - y, z + 18))
    canvas.fill(wall, "muscle", box)
    for s in SIDES:
        muscles = [
            ([(s * 9, 44, -28), (s * 13, 52, -70), (s * 13, 52, -130)], [8, 10, 10]),
            ([(s * 24, 44, -26), (s * 26, 52, -60), (s * 22, 56, -130)], [8, 9, 9]),
            ([(s * 10, 62, -30), (s * 20, 63, -75), (s * 34, 56, -130)], [6, 6, 6]),
            ([(s * 40, 38, -22), (s * 38, 42, -70), (s * 40, 44, -130)], [8, 9, 9]),
            ([(s * 46, 24, -40), (s * 40, 22, -80), (s * 40, 24, -130)], [5, 7, 9]),
            ([(s * 55, 36, -22), (s * 52, 14, -70), (s * 36, -22, -126)], [8, 9, 9]),
            ([(s * 7, 4, -24), (s * 8, 5, -60), (s * 9, 6, -130)], [4.5, 5, 6]),
            ([(s * 30, 33, -18), (s * 8, 48, -44)], [6, 6]),
            ([(s * 44, 26, -16), (s * 24, -40, -82)], [4, 3.5]),
            ([(s * 8, -82, -82), (s * 14, -45, -88), (s * 10, -30, -92)], [5, 6, 4]),
            ([(s * 30, -70, -66), (s * 28, -45, -82)], [2.5, 2.5]),
            ([(s * 10, -32, -94), (s * 12, -28, -130)], [5, 6]),
        ]
        for line, radii in muscles:
            canvas.tube(line, [r * bulk for r in radii], ("deep fat", 1.2), ("muscle", -0.4))
        canvas.ellipsoid((s * 63, 2, -32), (9, 17, 24), ("gland", 0), rough=1.0)
        canvas.ellipsoid((s * 36, -40, -78), (9, 15, 11), ("gland", 0), rough=0.7)
        canvas.tube([(s * 26, 4, -10), (s * 27, 2, -55), (s * 24, 2, -130)], [2.6, 3, 4], ("vessel", 0))
        canvas.tube([(s * 32, 10, -6), (s * 33, 10, -60), (s * 30, 8, -130)], [4, 5, 6], ("vein", 0))
        for _ in range(rng.integers(2, 7)):
            centre = (s * rng.uniform(34, 50), rng.uniform(-10, 30), rng.uniform(-110, -40))
            radius = rng.uniform(2.5, 7.0)
            canvas.ellipsoid(centre, (radius, radius, 1.4 * radius), ("node", 0))


def paint_face_muscles(canvas: Canvas) -> None:
    """Paint the chewing muscles, the tongue, the floor of the mouth, lips and cheeks."""
    for s in SIDES:
        canvas.tube([(s * 62, -40, -8), (s * 56, -28, -62)], [7, 9], ("muscle", 0))
        canvas.ellipsoid((s * 56, -30, -44), (9, 17, 24), ("muscle", 0), rough=0.6)
        canvas.tube([(s * 24, -30, -18), (s * 34, -28, -40), (s * 41, -24, -62)], [6, 8, 6], ("muscle", 0))
        canvas.tube([(s * 22, -38, -10), (s * 34, -22, -6), (s * 46, -6, -4)], [8, 8, 5], ("muscle", 0))
        canvas.tube([(s * 36, -76, -42), (s * 46, -50, -44)], [3, 3], ("muscle", 0))
        canvas.tube([(s * 48, -8, -15), (s * 20, -4, -30)], [3.5, 3], ("muscle", 0))
        canvas.tube([(s * 15, -28, -14), (s * 9, -36, -32)], [4, 4], ("muscle", 0))
        canvas.tube([(s * 46, -72, 0), (s * 30, -98, -40)], [2.2, 2.2], ("muscle", 0))
    canvas.tube([(-26, -90, -44), (0, -104, -44), (26, -90, -44)], [5, 6, 5], ("muscle", 0))
    canvas.tube([(-18, -90, -70), (0, -100, -74), (18, -90, -70)], [4, 4, 4], ("muscle", 0))
    canvas.ellipsoid((0, -58, -48), (25, 33, 17), ("mucosa", 2.0), ("tongue", 0), rough=0.6)
    canvas.ellipsoid((0, -52, -66), (22, 32, 14), ("tongue", 0))
    canvas.block((0, -58, -58), (1.2, 26, 16), 1.0, ("deep fat", 0))
    for s in SIDES:
        canvas.tube([(s * 9, -78, -72), (s * 14, -50, -66)], [2.5, 4], ("deep fat", 0))
        canvas.tube([(s * 8, -30, -36), (s * 20, -20, -38)], [3.5, 3], ("mucosa", 0))


def paint_skull(canvas: Canvas, inside: Field, skull: Field) -> None:
    """Paint the bone around the cavity: two tables with diploë between where it is thick."""
    opening = canvas.coarse(lambda p: tube(p, [(0, 22, -8), (0, 34, -40)], [16, 16]))
    outer = np.maximum(np.maximum(inside - skull, -inside), -opening)
    canvas.fill(outer, "bone")
    middle = inside - np.float32(0.5) * skull
    gap = np.float32(0.5) * skull - np.float32(1.5) + np.float32(0.35) * canvas.noise(12.0)
    trabeculae = np.float32(canvas.values["diploe"][1]) + np.float32(120) * canvas.noise(3.5)
    canvas.fill(np.maximum(np.abs(middle) - gap, -opening), "diploe", ct=trabeculae)


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


def paint_face_bones(canvas: Canvas) -> None:
    """Paint mandible, maxilla, zygoma, nasal bones and the hyoid."""
    rng = canvas.rng
    cortex = ("bone", 0.0), ("marrow", -2.0)
    canvas.block((0, -70, -30), (22, 20, 3.5), 3, *cortex)
    canvas.tube([(0, -84, 24), (0, -96, 16), (0, -107, -2)], [5, 4, 2.5], ("bone", 0))
    canvas.tube([(-28, -84, 29), (0, -88, 30), (28, -84, 29)], [5, 6, 5], *cortex)
    spread = rng.uniform(0.95, 1.05)
    for s in SIDES:
        canvas.ellipsoid((s * 26, -64, -14), (20, 20, 19), ("thin bone", 0))
        canvas.ellipsoid((s * 44, -72, -4), (10, 9, 10), *cortex)
        arch = [(s * 46, -70, -5), (s * 62, -50, -3), (s * 68, -26, 0), (s * 63, 2, 4)]
        canvas.tube(arch, [5, 3.4, 3, 3.4], ("bone", 0), ("marrow", -2.2))
        canvas.tube([(s * 45, -74, 2), (s * 46, -76, 18), (s * 40, -82, 28)], [4.5, 3.5, 4.5], *cortex)
        for z, radius in ((-82, 5.5), (-74, 5.5), (-66, 5.0)):
            body = [
                (0, -92, z),
                (s * 17, -86, z),
                (s * 32 * spread, -64, z + 2),
                (s * 45 * spread, -30, z + 8),
            ]
            canvas.tube(body, [radius, radius, radius, radius - 1], *cortex)
        for shift in (0, 9):
            ramus = [
                (s * 46 * spread, -30 + shift, -66),
                (s * 48 * spread, -26 + shift, -40),
                (s * 50, -18 + shift, -16),
            ]
            canvas.tube(ramus, [4.2, 3.6, 3.2], ("bone", 0), ("marrow", -2.0))
        canvas.tube([(s * 49, -8, -16), (s * 51, 0, -3)], [3.6, 4.5], ("bone", 0), ("marrow", -2.2))
        canvas.ellipsoid((s * 51, 0, -1), (9, 4.5, 4.5), ("bone", 0), ("marrow", -1.8))
        canvas.tube([(s * 47, -24, -24), (s * 48, -30, -8)], [3.2, 2.2], ("bone", 0))
        canvas.tube(
            [(0, -42, -96), (s * 16, -34, -94), (s * 22, -14, -90)],
            [3.4, 2.8, 2.2],
            ("bone", 0),
            ("marrow", -2),
        )
    canvas.tube(
        [(-17, -10, -104), (-12, -34, -106), (0, -42, -108), (12, -34, -106), (17, -10, -104)],
        [2.2] * 5,
        ("cartilage", 0),
    )


def paint_airways(canvas: Canvas) -> None:
    """Paint nasal cavity, septum, turbinates, sinuses, pharynx and larynx."""
    rng = canvas.rng

    def cavity_of_nose(p: Points) -> Field:
        x, y, z = p
        half = np.float32(13) - np.float32(0.34) * np.maximum(z + 14, 0)
        return np.maximum(np.maximum(np.abs(x) - half, np.abs(z + 5) - 20), np.maximum(-96 - y, y + 34))

    canvas.paint(
        (-14, -97, -27), (14, -33, 17), cavity_of_nose, ("thin bone", 2.0), ("mucosa", 1.0), ("air", -0.6)
    )
    bend, swelling = rng.uniform(-3.5, 3.5), rng.uniform(0.85, 1.35, size=2)

    def septum(p: Points) -> Field:
        x, y, z = p
        curve = bend * np.exp(-(((z + 6) / 14) ** 2) - ((y + 62) / 22) ** 2)
        return np.maximum(
            np.abs(x - curve) - np.float32(1.7), np.maximum(np.abs(z + 5) - 20, np.abs(y + 66) - 32)
        )

    canvas.paint((-6, -98, -26), (6, -32, 16), septum, ("mucosa", 0), ("thin bone", -0.9))
    pneumatisation = rng.uniform(0.5, 1.15, size=4)
    for s, swollen in zip(SIDES, swelling, strict=True):
        canvas.tube(
            [(s * 8.5, -84, -19), (s * 8, -44, -18)],
            [4.2 * swollen, 4.2 * swollen],
            ("mucosa", 0),
            ("thin bone", -3),
        )
        canvas.tube(
            [(s * 6.5, -76, -6), (s * 6, -46, -6)],
            [3 * swollen, 3 * swollen],
            ("mucosa", 0),
            ("thin bone", -2.2),
        )
        canvas.tube([(s * 8, -92, -22), (s * 8, -106, -26)], [5, 4.5], ("mucosa", 1.5), ("air", 0))
        lining = rng.choice([0.7, 1.2, 3.0, 6.0], p=[0.45, 0.3, 0.15, 0.1])
        layers = ("bone", 1.6), ("mucosa", 0.3), ("air", -lining)
        canvas.ellipsoid((s * 27, -63, -12), (14, 16, 17), *layers, rough=0.5)
        if rng.random() < 0.25:
            canvas.ellipsoid((s * 27, -56, -24), (11, 12, 8), ("fluid", 0))
        canvas.block((s * 10, -56, 16), (6.0, 20, 9), 4, ("bone", 1.2), ("mucosa", 0), ("air", -0.8))
        for y in (-70, -60, -50, -42):
            canvas.block((s * 10, y + rng.uniform(-2, 2), 16), (6, 0.7, 9), 0.5, ("thin bone", 0))
        canvas.block((s * 10, -56, 16), (0.7, 20, 9), 0.5, ("thin bone", 0))
        radius = 13 * pneumatisation[2]
        canvas.ellipsoid((s * 8, -23, 10), (7.5, radius, 9), ("bone", 1.5), ("mucosa", 0.2), ("air", -0.7))
        width = 16 * pneumatisation[0]
        centre = (s * width * 0.75, -79, 38)
        canvas.ellipsoid(
            centre, (width * 0.7, 5, 12 * pneumatisation[0]), ("bone", 2.0), ("mucosa", 0), ("air", -0.7)
        )
    canvas.block((0, -76, -28), (17, 18, 1.6), 1.2, ("mucosa", 2.2), ("bone", 0))
    canvas.tube([(0, -38, -30), (0, -26, -40)], [5, 4], ("muscle", 0))
    pharynx = rng.uniform(0.7, 1.2)

    def throat(p: Points) -> Field:
        x, y, z = p
        scaled = (x / np.float32(1.9 * pharynx), y, z)
        path = [(0, -30, -12), (0, -14, -18), (0, -11, -40), (0, -14, -70), (0, -20, -100), (0, -20, -140)]
        return tube(scaled, path, [6, 7, 5, 6, 6, 8])

    canvas.paint((-16, -40, -140), (16, 0, -4), throat, ("muscle", 3.0), ("mucosa", 1.5), ("air", 0))
    for s in SIDES:
        canvas.tube([(s * 11, -10, -16), (s * 16, -6, -14)], [2.2, 1.5], ("air", 0))
        canvas.tube([(s * 14, -18, -14), (s * 12, -14, -20)], [4, 4], ("mucosa", 0))
        canvas.ellipsoid((s * 14, -14, -45), (4, 7, 10), ("node", 0))
    canvas.tube([(0, -78, -35), (0, -40, -33)], [1.5, 2.5], ("air", 0))


def paint_teeth(canvas: Canvas, metal: bool) -> None:
    """Paint both rows of teeth in their alveolar bone, a few of them filled if ``metal``."""
    rng = canvas.rng
    arch = [(0, -89), (8, -88), (15, -83.5), (21, -76), (25.5, -67), (29, -57), (31.5, -47)]
    for gum, tip, bone in ((-36, -46, -31), (-58, -47.5, -64)):
        for s in SIDES:
            line = [(s * cx, cy, bone) for cx, cy in arch]
            canvas.tube(line, [5.5, 5.5, 5.5, 6, 6, 6, 6], ("mucosa", 2.0), ("bone", 0), ("marrow", -1.6))
            walk = np.interp(np.linspace(0.04, 1, 8), np.linspace(0, 1, 7), np.arange(7))
            for number, position in enumerate(walk):
                cx, cy = (np.interp(position, np.arange(7), [corner[a] for corner in arch]) for a in (0, 1))
                wide = (2.6, 2.4, 3.0, 3.0, 3.2, 4.4, 4.4, 4.0)[number]
                if rng.random() < 0.08:
                    continue
                root = gum + (bone - gum) * 1.6
                canvas.tube(
                    [(s * cx, cy, root), (s * cx, cy, gum), (s * cx, cy, tip)],
                    [1.2, 0.8 * wide, wide],
                    ("tooth", 0),
                )


def paint_orbits(canvas: Canvas) -> None:
    """Paint the orbits: bony cone, fat, eye with lens, muscles and optic nerve."""
    rng = canvas.rng
    gaze = rng.uniform(-3, 3)
    for s in SIDES:
        cone = [(s * 32, -74, 15), (s * 24, -50, 16), (s * 14, -32, 18)]

        def orbit(p: Points, cone: list = cone) -> Field:
            return np.maximum(tube(p, cone, [18, 13, 3.5]), np.float32(-82) - p[1] + 0.12 * np.abs(p[0]))

        canvas.paint((s * 30 - 24, -92, -6), (s * 30 + 24, -26, 36), orbit, ("bone", 1.6), ("fat", 0))
        canvas.tube([(s * 18, -74, 16), (s * 14, -34, 18)], [1.5, 2], ("muscle", 0))
        canvas.tube([(s * 44, -72, 15), (s * 17, -34, 18)], [1.5, 2], ("muscle", 0))
        canvas.tube([(s * 31, -74, 28), (s * 16, -34, 20)], [1.7, 2], ("muscle", 0))
        canvas.tube([(s * 31, -74, 2), (s * 16, -34, 16)], [1.7, 2], ("muscle", 0))
        canvas.tube([(s * 31, -64, 15), (s * 24, -48, 16), (s * 12, -28, 19)], [2, 2, 2], ("nerve", 0))
        centre = (s * 32, -77, 15)
        canvas.ellipsoid(centre, (12, 12, 12), ("mucosa", 1.0), ("vitreous", -0.6))
        canvas.ellipsoid((s * 32 + gaze, -86.5, 15), (4.8, 2.2, 4.8), ("lens", 0))
        canvas.ellipsoid((s * 40, -80, 24), (5, 6, 5), ("gland", 0))


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
            foam = canvas_noise(canvas, seed, field.shape, 3.2)
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


def canvas_noise(canvas: Canvas, seed: int, shape: tuple[int, ...], scale: float) -> Field:
    """Return seeded noise on a box of the canvas, without drawing from the canvas's own generator."""
    from regagent.tissue import smooth_noise

    return smooth_noise(np.random.default_rng(seed), tuple(n * canvas.spacing for n in shape), shape, scale)


def paint_tumour(canvas: Canvas) -> None:
    """Paint the nasopharyngeal carcinoma, off the midline and uneven, sometimes into the clivus."""
    rng = canvas.rng
    s = rng.choice(SIDES)
    radius = rng.uniform(7, 17)
    centre = (s * rng.uniform(4, 14), rng.uniform(-16, -6), rng.uniform(-18, -8))
    radii = (radius * rng.uniform(0.9, 1.3), 0.8 * radius, radius * rng.uniform(0.8, 1.2))
    canvas.ellipsoid(centre, radii, ("tumour", 0), rough=1.8)
    if rng.random() < 0.5:
        canvas.ellipsoid((s * 6, 2, -2), (8, 6, 9), ("tumour", 0), rough=1.5)


def texture(canvas: Canvas, hull: Field) -> None:
    """Give the tissues their grain: signal within each varies from place to place."""
    grain = canvas.noise(7.0) * np.float32(0.045) + canvas.noise(2.6) * np.float32(0.05)
    canvas.mr *= 1 + grain
    bone = canvas.ct > 150
    canvas.ct *= 1 + np.where(bone, np.float32(1.6), np.float32(0.0)) * grain
    canvas.ct += np.where(bone | (hull > 0), 0, np.float32(120) * grain)
