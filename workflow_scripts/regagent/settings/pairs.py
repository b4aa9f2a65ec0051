"""The settings of the slice pairs: how they are cut, perturbed for a test, and augmented for a training."""

from typing import Annotated

from pydantic import Field

from regagent.settings.base import (
    Fraction,
    Model,
    NonNegative,
    Positive,
    PositiveFloat,
    Range,
    ScaleRange,
    Seed,
)


class Slices(Model):
    """The slice pairs of a patient, their landmarks and evaluation points (§3.3, §4)."""

    count: Positive = 6
    """Number of slice pairs a patient (§4)."""

    size: Annotated[int, Field(ge=64, multiple_of=4)] = 168
    """Width and height of a slice in px, a multiple of 4 (§4)."""

    ct_window_hu: Range = (-200.0, 1000.0)
    """CT values in HU that become 0 and 1."""

    mr_percentiles: Range = (1.0, 99.5)
    """Percentiles of the MR volume's intensities that become 0 and 1."""

    minimum_gap_mm: NonNegative = 9.0
    """Chosen slices lie at least this many mm apart."""

    minimum_head_fraction: Fraction = 0.12
    """Fraction of a slice that the head must cover."""

    landmarks_minimum: Positive = 8
    """With fewer SIFT landmarks than this a slice gets a grid of landmarks instead."""

    landmarks_maximum: Positive = 64
    """The strongest SIFT landmarks of a slice are kept, up to this many."""

    grid_spacing_px: Positive = 12
    """Spacing in px of the evaluation points, on which the TRE is measured."""


class PerturbationRange(Model):
    """A uniform distribution on a lattice of perturbations (§4)."""

    translation_px: NonNegative
    """Largest shift along x and along y, in px."""

    translation_step_px: PositiveFloat = 1.0
    """Step of the lattice of shifts, in px."""

    rotation_deg: NonNegative
    """Largest rotation in degrees."""

    rotation_step_deg: PositiveFloat = 1.0
    """Step of the lattice of rotations, in degrees."""

    scale: ScaleRange = (0.75, 1.25)
    """Smallest and largest scale factor."""

    scale_step: PositiveFloat = 0.05
    """Step of the lattice of scale factors."""


class WideRange(PerturbationRange):
    """The distribution of the set ``wide``, on which only the capture range over rotations is measured."""

    translation_px: NonNegative = 30.0
    """Largest shift along x and along y, in px."""

    rotation_deg: NonNegative = 90.0
    """Largest rotation in degrees."""

    per_slice: Positive = 4
    """Number of test cases a slice in this set."""


class Perturbations(Model):
    """The sets of perturbed test pairs (§4); training starts are drawn from E1's range."""

    per_slice: Positive = 8
    """Number of test cases a slice in each of E1 and E2 (§4: 64)."""

    seed: Seed = 7
    """Seed of the random perturbations."""

    slow_per_slice: Positive = 8
    """Number of these that the `slow_methods` register, of each slice the first."""

    E1: PerturbationRange = PerturbationRange(translation_px=25, rotation_deg=30)
    """Range of the first test set and of all training starts."""

    E2: PerturbationRange = PerturbationRange(translation_px=30, rotation_deg=45)
    """Range of the second test set."""

    wide: WideRange = WideRange()
    """Range of a third set, which only the `wide_methods` register. It is in no table."""


class Augmentation(Model):
    """Random variations of the training pairs, against over-fitting to few patients.

    The amounts are the ends of uniform distributions around no change; ``scale``, ``anisotropy``, ``gamma``
    and ``gain`` are logarithms of factors.
    """

    enabled: bool = True
    """`false` trains on the pairs as they are, as the paper seems to do."""

    mirror: Fraction = 0.5
    """Fraction of the pairs that are mirrored left to right. Registration looks at mirrored pairs, too."""

    rotation_deg: NonNegative = 10.0
    """Largest rotation in degrees."""

    shift_px: NonNegative = 8.0
    """Largest shift along x and along y, in px."""

    scale: NonNegative = 0.1
    """Largest logarithm of the scale factor."""

    anisotropy: NonNegative = 0.1
    """Largest logarithm of the stretch along each of two random axes at right angles."""

    deformation_px: NonNegative = 3.0
    """Amplitude in px of a smooth deformation of 4 × 4 knots."""

    gamma: NonNegative = 0.3
    """Largest logarithm of the exponent of the intensities."""

    gain: NonNegative = 0.2
    """Largest logarithm of the factor on the intensities."""

    bias: NonNegative = 0.2
    """Amplitude of a smooth change of brightness across the image, as a fraction of the brightness."""

    blur: Fraction = 1.0
    """Largest part of a smoothing over 3 × 3 px: 0 is none, 1 is all of it."""

    noise: NonNegative = 0.03
    """Largest standard deviation of Gaussian noise, as a fraction of the intensity range."""

    contrast: Fraction = 0.0
    """Fraction of the pairs whose MR is drawn anew from the tissues: T1, T2, FLAIR, or signals that are none
    of these. Only simulated patients tell their tissues; others keep their MR."""

    lesions: Fraction = 0.0
    """Fraction of the pairs with a lesion in the brain: in the MR, the CT or both. Only simulated patients
    tell where the brain is."""

    stripped: Fraction = 0.0
    """Fraction of the pairs whose MR shows the brain alone, as after skull stripping. Only simulated patients
    tell where the brain is."""

    soft_px: NonNegative = 0.0
    """Largest displacement in px along x and along y, about, of the soft tissue outside the skull in the CT:
    it never lies in two scans alike. Only simulated patients tell where it is."""

    ghosts: Fraction = 0.0
    """Fraction of the pairs whose MR has a ghost: a faint copy, shifted along x or y, as after a motion."""

    ct_window: Fraction = 0.0
    """Fraction of the pairs whose CT is seen in another window, from the brain's to the bone's, if
    `ct_window_hu` is the default."""

    cut: Fraction = 0.0
    """Fraction of the images whose field of view ends at a random straight line."""


class CubeAugmentation(Model):
    """Random variations of the training pairs of cubes, as ``Augmentation`` has them for slices."""

    mirror: Fraction = 0.5
    """Fraction of the pairs that are mirrored left to right. Registration looks at mirrored pairs, too."""

    rotation_deg: NonNegative = 15.0
    """Largest rotation in degrees, about a random axis."""

    shift_mm: NonNegative = 12.0
    """Largest shift along each axis in mm."""

    scale: NonNegative = 0.15
    """Largest logarithm of the scale factor."""

    anisotropy: NonNegative = 0.1
    """Largest logarithm of the stretch along each of three random axes at right angles."""

    deformation_mm: NonNegative = 10.0
    """Amplitude in mm of a smooth deformation of 4 × 4 × 4 knots, the same for both cubes."""

    gamma: NonNegative = 0.4
    """Largest logarithm of the exponent of the intensities."""

    gain: NonNegative = 0.25
    """Largest logarithm of the factor on the intensities."""

    bias: NonNegative = 0.3
    """Amplitude of a smooth change of brightness across the cube, as a fraction of the brightness."""

    noise: NonNegative = 0.03
    """Largest standard deviation of Gaussian noise, as a fraction of the intensity range."""

    contrast: Fraction = 0.5
    """Fraction of the pairs whose MR is drawn anew from the tissues, as `contrast` does for slices."""

    ct_window: Fraction = 0.2
    """Fraction of the pairs whose CT is seen in another window, from the brain's to the bone's."""

    cut: Fraction = 0.25
    """Fraction of the cubes whose field of view ends at a random plane."""

    caudal: Fraction = 0.25
    """Fraction of the cubes whose field of view ends below, at a nearly axial plane across neck or head."""
