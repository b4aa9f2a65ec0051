"""The settings of the patients: where they come from, and how they are simulated, aligned in 3D and split."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regagent.settings.base import Fraction, Model, NonNegative, ParameterMap, PositiveFloat, Seed


class Cohort(Model):
    """Who is registered: simulated patients, or the rows of a sample sheet."""

    source: Literal["simulated", "sheet"] = "simulated"
    """`simulated`, or `sheet` for volumes of your own."""

    patients: Annotated[int, Field(ge=2, le=999)] = 25
    """Number of simulated patients. They are named `P001`, `P002`, …"""

    seed: Seed = 2018
    """Seed of the simulated anatomies and poses. A patient's number and this seed make the patient."""

    sheet: str | None = None
    """Path of the sample sheet, with `source: sheet`."""

    trust_values: bool = False
    """Take the sheet's MR and CT as such, whatever their values look like."""

    @model_validator(mode="after")
    def _has_sheet(self) -> "Cohort":
        if (self.source == "sheet") != (self.sheet is not None):
            raise ValueError("source 'sheet' and the key 'sheet' (its path) go together")
        return self


class Phantom(Model):
    """The simulated patients (§4 gives the resolutions)."""

    spacing_mr_mm: PositiveFloat = 1.0
    """Edge of an MR voxel in mm. The CT's 0.84 × 0.84 × 3 mm are multiplied by the same number, so 2 is a
    coarse, quick cohort."""

    max_translation_mm: NonNegative = 10.0
    """Each scanner moves the head by up to this many mm along each axis."""

    max_rotation_deg: NonNegative = 8.0
    """Each scanner turns the head by up to this many degrees about a random axis."""

    mr_noise: NonNegative = 0.04
    """Parameter σ of the MR's Rician noise, as a fraction of the white matter's signal."""

    bias_field: NonNegative = 0.25
    """Strength of the slow change of brightness across the MR, as a fraction of the signal."""

    ct_noise_hu: NonNegative = 12.0
    """Strength of the CT's noise in HU (about its standard deviation)."""

    metal_fraction: Fraction = 0.3
    """Fraction of the patients with metal in the teeth and streaks in the CT."""

    warp_mm: NonNegative = 0.0
    """Largest displacement in mm along each axis of a smooth warp on top of the usual differences of shape:
    longer, wider and crooked heads. Each head's is between half of it and all."""

    ventricles: NonNegative = 0.0
    """Largest logarithm of a factor on the width of the ventricles: at 0.9 from slits to hydrocephalus."""

    diseased: Fraction = 0.0
    """Fraction of the patients with large lesions of the brain: a stroke, a haematoma, a tumour in its
    oedema, or the cavity that an operation left."""

    craniotomy: Fraction = 0.0
    """Fraction of the patients of whose skull a piece is missing, or was cut out and put back."""

    toothless: Fraction = 0.0
    """Fraction of the patients without teeth."""

    mr_slice_mm: Annotated[float, Field(ge=1)] = 1.0
    """Largest thickness in mm of the MR's slices, each patient's at random from 1. They stay as far apart as
    they were, so thick ones overlap."""

    ct_slice_mm: Annotated[float, Field(ge=3)] = 3.0
    """Largest thickness in mm of the CT's slices, each patient's at random from 3. Thick ones overlap."""


class Preregistration(Model):
    """The alignment of MR (fixed) and CT (moving) in 3D (§4)."""

    method: Literal["elastix", "agent", "none", "truth"] = "elastix"
    """`elastix`, or `agent` where MR and CT may lie anywhere: the networks of volumes that come with the
    software bring the heads together, and Elastix goes on from there; or `none` to take the scanners'
    coordinates as they are, or `truth` to take the known alignment of simulated patients."""

    parameter_map: ParameterMap = "rigid3d"
    """Elastix parameter map of the 3D rigid registration by `elastix`."""

    tilt_deg: NonNegative = 0.0
    """With `truth` the CT is tilted out of the slices' plane by up to this many degrees, and shifted across
    the slices by up to as many mm, as alignments of real patients are a little wrong."""

    @model_validator(mode="after")
    def _tilts_the_truth(self) -> "Preregistration":
        if self.tilt_deg and self.method != "truth":
            raise ValueError(f"tilt_deg: {self.tilt_deg:g} goes with method 'truth', found {self.method!r}")
        return self

    minimum_overlap: Fraction = 0.75
    """Smallest overlap (Dice) of the heads in MR and CT after the alignment. A patient below it is refused.
    Below 0.92 the log advises to look at the alignment."""

    thick_slice_mm: PositiveFloat = 4.0
    """A CT whose slices lie this far apart or more, in mm, is resampled in their plane only. Halfway between
    two thick slices, interpolation would mix both of them."""


class Split(Model):
    """The split by patient (§4: 79 of 99 for training)."""

    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 79 / 99
    """Fraction of the patients that train. A patient is never in both sets."""

    seed: Seed = 1
    """Seed of the random split."""
