"""The face of a simulated patient (§4 Dataset): muscles, bones, teeth, airways, orbits and tumour.

Coordinates are those of the standard head (mm, LPS, the origin on the Frankfurt plane between the ears).
"""

import numpy as np

from regagent.phantom.canvas import Canvas, Field, Points, Triple, ellipsoid, tube

SIDES = (-1, 1)


def paint_face_muscles(canvas: Canvas) -> None:
    """Paint the chewing muscles, the tongue, the floor of the mouth, lips and cheeks."""
    for s in SIDES:
        canvas.tube([(s * 62, -40, -8), (s * 56, -28, -62)], [7, 9], ("deep fat", 1.0), ("muscle", 0))
        canvas.ellipsoid((s * 56, -31, -44), (7.5, 19, 25), ("deep fat", 1.0), ("muscle", 0), rough=0.6)
        canvas.tube(
            [(s * 24, -30, -18), (s * 34, -28, -40), (s * 41, -24, -62)],
            [6, 8, 6],
            ("deep fat", 1.0),
            ("muscle", 0),
        )
        canvas.tube(
            [(s * 22, -38, -10), (s * 34, -22, -6), (s * 46, -6, -4)],
            [8, 8, 5],
            ("deep fat", 1.0),
            ("muscle", 0),
        )
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


def paint_face_bones(canvas: Canvas) -> None:
    """Paint mandible, maxilla, zygoma, nasal bones and the hyoid."""
    rng = canvas.rng
    cortex = ("bone", 0.0), ("marrow", -2.0)
    canvas.block((0, -70, -30), (22, 20, 3.5), 3, *cortex)
    canvas.tube([(0, -84, 24), (0, -96, 16), (0, -107, -2)], [5, 4, 2.5], ("bone", 0))
    canvas.tube([(-28, -84, 29), (0, -88, 30), (28, -84, 29)], [5, 6, 5], *cortex)
    spread = rng.uniform(0.95, 1.05)
    for s in SIDES:
        canvas.ellipsoid((s * 26, -63, -14), (17, 19, 19), ("thin bone", 0), rough=0.8)
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
        ramus = [(s * 46 * spread, -27, -64), (s * 48 * spread, -20, -40), (s * 50, -14, -18)]
        canvas.tube(ramus, [13, 13, 10], ("bone", 0), ("marrow", -4.5), wide=0.34)
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

    seed = int(rng.integers(2**32))

    def wall(like: Field) -> Field:
        return canvas.grain(seed, like.shape, 9.0)

    def cavity_of_nose(p: Points) -> Field:
        x, y, z = p
        half = np.float32(12.5) - np.float32(0.34) * np.maximum(z + 14, 0)
        half = half * (1 - np.float32(0.55) * np.clip((-70 - y) / 24, 0, 1)) + np.float32(0.9) * wall(z)
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
        layers = ("bone", 1.0), ("mucosa", 0.3), ("air", -lining)
        canvas.ellipsoid((s * 27, -62, -12), (14.5, 18, 17), *layers, rough=1.0)
        if rng.random() < 0.25:
            canvas.ellipsoid((s * 27, -56, -24), (11, 12, 8), ("fluid", 0))
        canvas.block((s * 10, -56, 16), (6.0, 20, 9), 4, ("bone", 1.2), ("mucosa", 0), ("air", -0.8))
        for y in (-70, -60, -50, -42):
            canvas.block((s * 10, y + rng.uniform(-2, 2), 16), (6, 0.7, 9), 0.5, ("thin bone", 0))
        canvas.block((s * 10, -56, 16), (0.7, 20, 9), 0.5, ("thin bone", 0))
        radius = 13 * pneumatisation[2]
        canvas.ellipsoid((s * 8, -23, 10), (7.5, radius, 9), ("bone", 1.5), ("mucosa", 0.2), ("air", -0.7))
        width = 16 * pneumatisation[0]
        centre = (s * width * 0.75, -80, 38)
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
    """Paint both rows of teeth in their alveolar bone; with ``metal`` a few of them have metal fillings."""
    rng = canvas.rng
    fillings = np.random.default_rng(rng.integers(2**32))  # so metal changes nothing else of the patient
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
                root_to_tip = [(s * cx, cy, root), (s * cx, cy, gum), (s * cx, cy, tip)]
                canvas.tube(root_to_tip, [1.2, 0.8 * wide, wide], ("tooth", 0))
                if metal and number > 2 and fillings.random() < 0.25:
                    paint_filling(canvas, (s * cx, cy, (gum + 2 * tip) / 3))


def paint_filling(canvas: Canvas, centre: Triple) -> None:
    """Paint a metal filling, with the loss of MR signal around it."""
    reach = 12.0
    void = canvas.box([c - reach for c in centre], [c + reach for c in centre])
    fade = ellipsoid(canvas.at(void), centre, (reach, reach, reach))
    canvas.mr[void] *= np.clip(1 + fade / np.float32(5.0), 0.05, 1)
    canvas.fill(fade + np.float32(reach - 3.4), "metal", void)


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


def paint_tumour(canvas: Canvas) -> None:
    """Paint the nasopharyngeal carcinoma: off the midline, uneven, and sometimes grown into the clivus."""
    rng = canvas.rng
    s = rng.choice(SIDES)
    radius = rng.uniform(7, 17)
    centre = (s * rng.uniform(4, 14), rng.uniform(-16, -6), rng.uniform(-18, -8))
    radii = (radius * rng.uniform(0.9, 1.3), 0.8 * radius, radius * rng.uniform(0.8, 1.2))
    canvas.ellipsoid(centre, radii, ("tumour", 0), rough=1.8)
    if rng.random() < 0.5:
        canvas.ellipsoid((s * 6, 2, -2), (8, 6, 9), ("tumour", 0), rough=1.5)
