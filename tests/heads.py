"""A small head of ellipsoids as an MR and a CT, for the tests of the data rooms."""

import numpy as np
import SimpleITK as sitk

MR_VALUES = np.array([0.0, 0.9, 0.15, 0.55, 0.25, 0.02]) * 800  # air, skin, bone, brain, ventricle, sinus
CT_VALUES = np.array([-1000.0, 30, 900, 40, 10, -1000])
PARTS = [  # centre and half axes in mm, tissue; later ones lie over earlier ones
    ((0, 0, 0), (75, 95, 85), 1),
    ((0, 0, 0), (69, 89, 79), 2),
    ((0, 0, 0), (62, 82, 72), 3),
    ((-12, -5, 10), (8, 25, 40), 4),
    ((14, 0, 10), (9, 25, 40), 4),
    ((0, -70, -20), (20, 18, 20), 5),
    ((30, 50, -20), (20, 10, 16), 2),
    ((-40, 60, -30), (12, 18, 10), 2),
    ((25, -55, 20), (14, 8, 40), 2),
]


def _points(shape, spacing):
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, spacing[::-1], strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.stack([x, y, z])


def _tissue(points):
    tissue = np.zeros(points.shape[1:], int)
    for centre, half, name in PARTS:
        inside = sum(((p - c) / h) ** 2 for p, c, h in zip(points, centre, half, strict=True)) < 1
        tissue[inside] = name
    return tissue


def _image(values, spacing):
    image = sitk.GetImageFromArray(values.astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin([-(n - 1) / 2 * step for n, step in zip(image.GetSize(), spacing, strict=True)])
    return image


def head(shape=(52, 76, 64), spacing=(3.0, 3.0, 3.0), truth=None, seed=0):
    """Return (mr, ct, truth); truth maps MR points to CT points in mm."""
    rng = np.random.default_rng(seed)
    transform = truth or sitk.Euler3DTransform()
    clean = MR_VALUES[_tissue(_points(shape, spacing))]
    noise = 25 * rng.standard_normal((2, *clean.shape))
    mr = _image(np.hypot(clean + noise[0], noise[1]), spacing)
    grid = _points((70, 100, 90), (2.5, 2.5, 3.0))
    rotation = np.reshape(transform.GetMatrix(), (3, 3))
    there = grid - np.reshape(transform.GetTranslation(), (3, 1, 1, 1))
    ct = CT_VALUES[_tissue(np.tensordot(rotation.T, there, 1))] + 12 * rng.standard_normal(grid.shape[1:])
    return mr, _image(ct, (2.5, 2.5, 3.0)), transform
