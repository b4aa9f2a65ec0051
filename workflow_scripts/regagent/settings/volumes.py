"""The settings of whole volumes: the cubes that networks see, the test sets in space, and who registers
them."""

from typing import Annotated

from pydantic import Field

from regagent.settings.base import Fraction, Model, NonNegative, Positive, PositiveFloat, Range, Seed


class Cubes(Model):
    """Heads as networks of space see them: cubes of few voxels, and the points on which errors are
    measured."""

    size: Annotated[int, Field(ge=16, multiple_of=4)] = 56
    """Number of voxels along an edge, a multiple of 4."""

    spacing_mm: PositiveFloat = 4.0
    """Edge of a voxel in mm."""

    ct_window_hu: Range = (-200.0, 1000.0)
    """CT values in HU that become 0 and 1."""

    mr_percentiles: Range = (1.0, 99.5)
    """Percentiles of the MR volume's intensities that become 0 and 1."""

    grid_spacing_mm: PositiveFloat = 16.0
    """Spacing in mm of the points in the head, on which D and the TRE are measured."""


class Motion(Model):
    """A distribution of rigid motions of the CT about the middle of the MR."""

    translation_mm: NonNegative
    """Largest shift along each axis in mm."""

    rotation_deg: Annotated[float, Field(ge=0, le=180)]
    """Largest rotation in degrees, about an axis of any direction."""

    cut: Fraction = 0.0
    """Part of the head that one of the two volumes does not show: its field of view ends there."""


class Volumes(Model):
    """The registration of whole volumes in space, which is not in the paper: `make volumes`."""

    cubes: Cubes = Cubes()
    """What networks see of a volume."""

    per_patient: Positive = 10
    """Number of test cases a patient in each set."""

    seed: Seed = 17
    """Seed of the random motions."""

    V1: Motion = Motion(translation_mm=40, rotation_deg=40)
    """Range of the first test set."""

    V2: Motion = Motion(translation_mm=80, rotation_deg=180)
    """Range of the second test set: the head may lie any way."""

    V3: Motion = Motion(translation_mm=40, rotation_deg=40, cut=1 / 3)
    """Range of the third test set: one volume shows two thirds of the head."""

    networks: list[str] = []
    """Variants whose `learner` is `cubes`, and last one whose `learner` is `matching`. The first finds the
    head from anywhere, the others finish it, and the last one judges it."""

    model: str | None = None
    """Path of the networks of another run, its `models/space.pt`. They register in place of `networks`."""

    looks: Positive = 4
    """Number of looks of each network from each start, every second one at the mirrored pair."""

    further_looks: Positive = 16
    """Number of looks from the best results. Where a field of view is cut, a look leads a part of the way."""

    kept: Positive = 4
    """Number of the best results from which a network looks on. The lowest D wins."""

    matching_looks: Positive = 12
    """Number of looks of a network of `matching`, at most: it ends where a look moves nothing."""

    matching_planes: Positive = 4
    """Number of planes of each orientation that it looks at."""

    methods: list[str] = []
    """Rows of the table of volumes: `Initial`, `Centres` (the middle of one head on that of the other),
    `Elastix`, `Multistart-SimpleITK` (mutual information from 24 rotations), `Greedy` and `NeuroReg` (two
    other tools), `Networks`, and a name with `+Elastix`, where Elastix goes on from there."""

    slow_methods: list[str] = []
    """Rows that register only the first `slow_per_patient` cases of a patient; what goes on from a slow row
    is slow, too."""

    slow_per_patient: Positive = 2
    """Number of cases a patient for the `slow_methods`."""
