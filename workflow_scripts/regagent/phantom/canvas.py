"""The canvas of a simulated patient (§4 Dataset): shapes painted as MR signal and CT number on one grid.

All lengths are in mm and all axes are LPS: x to the patient's left, y to the back, z to the head.
Shapes are given in the coordinates of a standard head. For each of its voxels the canvas holds the
standard-head point that lies there in this patient, so that the same shapes differ from patient to patient.
Distances are signed, negative inside.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from regagent.phantom.tissues import AIR, LABELS, TISSUES

Field = NDArray[np.float32]
Labels = NDArray[np.uint8]
Points = tuple[Field, ...]  # x, y, z
Triple = tuple[float, ...]  # x, y, z in mm
Box = tuple[slice, ...]  # z, y, x
Layer = tuple[str, float]  # a tissue, and by how many mm it lies outside the shape

#: A voxel is of the tissue that fills this part of it.
HALF = 0.5


def spline(field: Field, positions: NDArray, axis: int) -> Field:
    """Interpolate along one axis by cubic B-splines at positions counted in nodes, inside 1..n-3.

    It is no matrix product, because the rounding of one depends on the number of BLAS threads.
    """
    field = np.moveaxis(field, axis, 0)
    result = np.empty((len(positions), *field.shape[1:]), np.float32)
    base = np.floor(positions).astype(int)
    f = positions - base
    weights = np.stack([(1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3]) / 6
    for row, first, taps in zip(result, base - 1, weights.T.astype(np.float32), strict=True):
        np.multiply(field[first], taps[0], out=row)
        for offset in (1, 2, 3):
            row += taps[offset] * field[first + offset]
    return np.moveaxis(result, 0, axis)


def refined(field: Field, shape: Sequence[int]) -> Field:
    """Interpolate a field known on every other voxel (z, y, x) linearly to all voxels of ``shape``."""
    for axis, count in enumerate(shape):
        field = np.moveaxis(field, axis, 0)
        full = np.empty((count, *field.shape[1:]), np.float32)
        full[::2] = field
        full[1 : 2 * len(field) - 1 : 2] = (field[:-1] + field[1:]) * np.float32(0.5)
        if count % 2 == 0:
            full[-1] = field[-1]
        field = np.moveaxis(full, 0, axis)
    return np.ascontiguousarray(field)


def separable(field: Field, matrices: Sequence[Field]) -> Field:
    """Apply one matrix along each axis of a (Z, Y, X) field."""
    z, y, x = matrices
    field = np.matmul(field, x.T)
    field = np.matmul(y, field)
    return (z @ field.reshape(field.shape[0], -1)).reshape(z.shape[0], *field.shape[1:])


def smooth_noise(rng: np.random.Generator, extent: Triple, shape: Sequence[int], scale: float) -> Field:
    """Return Gaussian noise (Z, Y, X), unit variance, that varies over ``scale`` mm.

    ``extent`` is the size (z, y, x) of the grid in mm. The same seed gives the same field on any grid.
    """
    nodes = [int(np.ceil(size / scale)) + 4 for size in extent]
    field = rng.standard_normal(nodes, dtype=np.float32) / np.float32(0.4795**1.5)
    for axis in (2, 1, 0):
        step = extent[axis] / shape[axis] / scale
        field = spline(field, 1.5 + step * np.arange(shape[axis]), axis)
    return field


def ellipsoid(p: Points, centre: Triple, radii: Triple, power: float = 2.0) -> Field:
    """Return about the signed distance to an axis-parallel ellipsoid, or a rounded box for ``power`` > 2."""
    unit = [(axis - np.float32(c)) / np.float32(r) for axis, c, r in zip(p, centre, radii, strict=True)]
    if power == 2.0:
        squares = [u * u for u in unit]
        radius = np.sqrt(squares[0] + squares[1] + squares[2]) + np.float32(1e-6)
        slope = sum(q * np.float32(1 / r**2) for q, r in zip(squares, radii, strict=True))
        return radius * (radius - 1) / (np.sqrt(slope) + np.float32(1e-8))
    powers = [np.abs(u) ** np.float32(power - 1) for u in unit]
    radius = sum(q * np.abs(u) for q, u in zip(powers, unit, strict=True)) ** np.float32(1 / power)
    slope = np.sqrt(sum((q * np.float32(1 / r)) ** 2 for q, r in zip(powers, radii, strict=True)))
    radius = radius + np.float32(1e-6)
    return (radius - 1) * radius ** np.float32(power - 1) / (slope + np.float32(1e-8))


def segment(p: Points, start: Triple, end: Triple, r0: float, r1: float, wide: float = 1.0) -> Field:
    """Return the signed distance to a straight tube whose radius goes from ``r0`` to ``r1``.

    ``wide`` stretches its section along x.
    """
    squeeze = np.array([1 / wide, 1, 1], np.float32)
    a, b = np.asarray(start, np.float32) * squeeze, np.asarray(end, np.float32) * squeeze
    x = p[0] * squeeze[0] - a[0] if wide != 1 else p[0] - a[0]
    y, z, way = p[1] - a[1], p[2] - a[2], b - a
    along = np.clip((x * way[0] + y * way[1] + z * way[2]) / (way @ way), 0, 1)
    x, y, z = x - along * way[0], y - along * way[1], z - along * way[2]
    return np.sqrt(x * x + y * y + z * z) - (np.float32(r0) + along * np.float32(r1 - r0))


def tube(p: Points, line: Sequence[Triple], radii: Sequence[float]) -> Field:
    """Return the signed distance to a tube along a polyline, its radius given at each corner."""
    parts = zip(line[:-1], line[1:], radii[:-1], radii[1:], strict=True)
    distance = segment(p, *next(parts))
    for part in parts:
        distance = np.minimum(distance, segment(p, *part))
    return distance


def block(p: Points, centre: Triple, half: Triple, corner: float) -> Field:
    """Return the signed distance to a box of half sizes ``half`` with rounded corners."""
    q = [
        np.abs(axis - np.float32(c)) - np.float32(h - corner)
        for axis, c, h in zip(p, centre, half, strict=True)
    ]
    outside = np.sqrt(sum(np.maximum(axis, 0) ** 2 for axis in q))
    return outside + np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0) - np.float32(corner)


def blend(a: Field, b: Field, width: float) -> Field:
    """Return the union of two signed distances with a fillet of ``width`` mm."""
    h = np.maximum(width - np.abs(a - b), 0) / np.float32(width)
    return np.minimum(a, b) - h * h * np.float32(width / 4)


class Voxels:
    """Some voxels of a canvas as a list: computing on them alone is faster than on the whole grid."""

    def __init__(
        self, mr: Field, ct: Field, tissue: Labels, values: dict[str, tuple[float, float]], spacing: float
    ):
        self.mr, self.ct, self.tissue, self.values, self.spacing = mr, ct, tissue, values, spacing

    def fill(self, distance: Field, tissue: str) -> None:
        """Paint the inside of a signed distance given on the listed voxels, its edge one voxel wide."""
        weight = np.clip(np.float32(0.5) - distance * np.float32(1 / self.spacing), 0, 1)
        for volume, value in zip((self.mr, self.ct), self.values[tissue], strict=True):
            volume += weight * (np.float32(value) - volume)
        self.tissue[weight >= HALF] = LABELS[tissue]

    @contextmanager
    def part(self, where: NDArray[np.bool_]) -> Iterator["Voxels"]:
        """Yield the voxels where a condition holds. What the body paints on them is written back."""
        part = Voxels(self.mr[where], self.ct[where], self.tissue[where], self.values, self.spacing)
        yield part
        self.mr[where], self.ct[where], self.tissue[where] = part.mr, part.ct, part.tissue


class Canvas:
    """MR signal and CT number of one patient on a regular grid, both (Z, Y, X) float32, and the tissue.

    ``tissue``: the number in ``LABELS`` of what fills most of each voxel, (Z, Y, X) uint8. ``points``: the
    standard-head coordinates (x, y, z) of each voxel. ``lower``: patient coordinates of the first voxel.
    ``spacing``: edge of a voxel in mm. ``skin``: signed distance to the inside of the skin, None until the
    skin is painted; later shapes are cut off at it.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        lower: Triple,
        upper: Triple,
        spacing: float,
        size: Triple,
        warp: Callable[[Triple, tuple[int, ...]], Sequence[Field]] = lambda *_: (),
    ):
        """Deform the standard head smoothly; ``size`` is this patient's scale along x, y and z.

        ``warp`` takes the grid's size (z, y, x) in mm and its shape, and returns a displacement (x, y, z) in
        mm that is added, or nothing.
        """
        self.rng, self.spacing, self.lower = rng, spacing, lower
        counts = [int(round((u - low) / spacing)) + 1 for low, u in zip(lower, upper, strict=True)]
        self.shape = tuple(counts[::-1])
        self.extent = tuple(u - low for low, u in zip(lower[::-1], upper[::-1], strict=True))
        self.size = size
        self.values = {
            name: (t1 * rng.uniform(0.93, 1.07), hu + 0.05 * abs(hu) * rng.uniform(-1, 1))
            for name, (t1, _, _, hu) in TISSUES.items()
        }
        self.values[AIR] = TISSUES[AIR].t1, TISSUES[AIR].hu
        points, self.reach, added = [], [], warp(self.extent, self.shape)
        for axis in range(3):
            ticks = np.float32(lower[axis]) + np.float32(spacing) * np.arange(counts[axis], dtype=np.float32)
            shift = self.noise(55.0) * np.float32(2.6) + self.noise(21.0) * np.float32(1.2)
            shift += self.noise(9.0) * np.float32(0.4)
            if added:
                shift += added[axis]
            self.reach.append(float(np.abs(shift).max()))
            shift += (ticks / np.float32(size[axis])).reshape([-1 if a == 2 - axis else 1 for a in range(3)])
            points.append(shift)
        self.points: Points = tuple(points)
        self.coarse_points: Points = tuple(np.ascontiguousarray(axis[::2, ::2, ::2]) for axis in points)
        self.mr = np.full(self.shape, self.values[AIR][0], np.float32)
        self.ct = np.full(self.shape, self.values[AIR][1], np.float32)
        self.tissue = np.full(self.shape, LABELS[AIR], np.uint8)
        self.skin: Field | None = None

    def noise(self, scale: float) -> Field:
        """Return smooth unit noise on the whole grid."""
        return smooth_noise(self.rng, self.extent, self.shape, scale)

    def grain(self, seed: int | np.integer, shape: Sequence[int], scale: float) -> Field:
        """Return seeded smooth unit noise on a box of this canvas, drawing nothing from its generator."""
        extent = tuple(n * self.spacing for n in shape)
        return smooth_noise(np.random.default_rng(seed), extent, shape, scale)

    def coarse(self, function: Callable[[Points], Field]) -> Field:
        """Evaluate a smooth function of the standard-head points on every other voxel and interpolate."""
        return refined(function(self.coarse_points), self.shape)

    def box(self, lower: Sequence[float], upper: Sequence[float]) -> Box:
        """Return the voxels (z, y, x) that can hold standard-head points between two corners."""
        slices = []
        for axis in range(3):
            margin = self.reach[axis] + 2.0
            low = ((lower[axis] - margin) * self.size[axis] - self.lower[axis]) / self.spacing
            high = ((upper[axis] + margin) * self.size[axis] - self.lower[axis]) / self.spacing
            count = self.shape[2 - axis]
            slices.append(slice(int(np.clip(low, 0, count)), int(np.clip(high + 2, 0, count))))
        return tuple(slices[::-1])

    def at(self, box: Box) -> Points:
        """Return the standard-head points of a box."""
        return tuple(axis[box] for axis in self.points)

    def fill(
        self,
        distance: Field,
        tissue: str,
        box: Box = (slice(None),) * 3,
        ct: Field | None = None,
    ) -> None:
        """Paint the inside of a signed distance given on a box, with an edge one voxel wide.

        ``ct`` replaces the tissue's CT number voxel by voxel.
        """
        if self.skin is not None:
            distance = np.maximum(distance, self.skin[box])
        weight = np.clip(np.float32(0.5) - distance * np.float32(1 / self.spacing), 0, 1)
        mr_value, ct_value = self.values[tissue]
        for volume, value in ((self.mr[box], np.float32(mr_value)), (self.ct[box], ct)):
            volume += weight * ((np.float32(ct_value) if value is None else value) - volume)
        self.tissue[box][weight >= HALF] = LABELS[tissue]

    @contextmanager
    def voxels(self, box: Box, index: NDArray[np.int64]) -> Iterator[Voxels]:
        """Yield the voxels of a box at flat indices. What the body paints on them is written back."""
        mr, ct = self.mr[box].ravel()[index], self.ct[box].ravel()[index]
        voxels = Voxels(mr, ct, self.tissue[box].ravel()[index], self.values, self.spacing)
        yield voxels
        where = np.unravel_index(index, self.mr[box].shape)
        self.mr[box][where], self.ct[box][where] = voxels.mr, voxels.ct
        self.tissue[box][where] = voxels.tissue

    def paint(
        self,
        lower: Sequence[float],
        upper: Sequence[float],
        distance: Callable[[Points], Field],
        *layers: Layer,
    ) -> None:
        """Paint a shape between two corners as layers (tissue, mm outside the shape), the outermost first."""
        margin = max(0.0, *(offset for _, offset in layers))
        box = self.box([v - margin for v in lower], [v + margin for v in upper])
        if any(s.start >= s.stop for s in box):
            return
        field = distance(self.at(box))
        for tissue, offset in layers:
            self.fill(field - np.float32(offset), tissue, box)

    def jitter(self, centre: Triple, amount: float) -> Triple:
        """Return a point moved at random by about ``amount`` mm."""
        return tuple(c + amount * self.rng.uniform(-1, 1) for c in centre)

    def ellipsoid(self, centre: Triple, radii: Triple, *layers: Layer, rough: float = 0.0) -> None:
        """Paint an ellipsoid; ``rough`` mm of noise make its surface irregular."""
        centre = self.jitter(centre, 0.7)
        radii = tuple(r * self.rng.uniform(0.93, 1.07) for r in radii)
        seed = self.rng.integers(2**32)
        reach = 2.5 * rough

        def distance(p: Points) -> Field:
            field = ellipsoid(p, centre, radii)
            if rough:
                field = field + np.float32(rough) * self.grain(seed, field.shape, 6.0)
            return field

        lower = [c - r - reach for c, r in zip(centre, radii, strict=True)]
        upper = [c + r + reach for c, r in zip(centre, radii, strict=True)]
        self.paint(lower, upper, distance, *layers)

    def tube(self, line: Sequence[Triple], radii: Sequence[float], *layers: Layer, wide: float = 1.0) -> None:
        """Paint a tube along a polyline, layer by layer; ``wide`` stretches its section along x."""
        line = [self.jitter(corner, 0.6) for corner in line]
        margin = max(0.0, *(offset for _, offset in layers))
        parts = []
        for start, end, r0, r1 in zip(line[:-1], line[1:], radii[:-1], radii[1:], strict=True):
            reach = [(max(r0, r1) + margin) * (wide if axis == 0 else 1) for axis in range(3)]
            lower = [min(a, b) - r for a, b, r in zip(start, end, reach, strict=True)]
            upper = [max(a, b) + r for a, b, r in zip(start, end, reach, strict=True)]
            box = self.box(lower, upper)
            if all(s.start < s.stop for s in box):
                parts.append((box, segment(self.at(box), start, end, r0, r1, wide)))
        for tissue, offset in layers:
            for box, distance in parts:
                self.fill(distance - np.float32(offset), tissue, box)

    def block(self, centre: Triple, half: Triple, corner: float, *layers: Layer) -> None:
        """Paint a box with rounded corners."""
        centre = self.jitter(centre, 0.6)
        lower = [c - h for c, h in zip(centre, half, strict=True)]
        upper = [c + h for c, h in zip(centre, half, strict=True)]
        self.paint(lower, upper, lambda p: block(p, centre, half, corner), *layers)
