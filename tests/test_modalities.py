"""An MR that falls low is an MR, and a CT is none: the distribution of an image's values decides."""

import numpy as np
import pytest
import SimpleITK as sitk
from heads import head
from scipy import ndimage

from regagent.command.pair import read_pair
from regagent.files import UserError
from regagent.patients.importing import import_patient
from regagent.patients.modalities import check_modalities

MR, CT, _ = head(shape=(24, 60, 50), spacing=(4.0, 4.0, 8.0))


def values_of(image):
    return sitk.GetArrayFromImage(image).astype(np.float32)


def like(image, values):
    made = sitk.GetImageFromArray(np.asarray(values, np.float32))
    made.CopyInformation(image)
    return made


def undershoot(values):
    """A cubic spline of a sharp edge, ten times as bright as the head: it falls below zero beside it."""
    values[10:12, 28:31, 24:27] = 16000
    finer = ndimage.zoom(values, 2, order=3)[::2, ::2, ::2]
    assert finer.min() < -500
    return finer


def phase_sensitive(values):
    """Inversion recovery with its sign: long T1 is negative, air is zero."""
    return np.where(values > 120, 4 * (values - 500), 0)


def stored_with_an_offset(values):
    return values - 1024


def noisy(values):
    return phase_sensitive(values) + np.random.default_rng(0).normal(0, 60, values.shape)


OUTPUTS = ("mr.nii.gz", "ct.nii.gz", "voxels.json")
UNUSUAL = [undershoot, phase_sensitive, stored_with_an_offset, noisy]


@pytest.mark.parametrize("make", UNUSUAL)
def test_an_mr_that_falls_below_minus_500_is_an_mr(tmp_path, make):
    mr = like(MR, make(values_of(MR)))
    assert values_of(mr).min() < -500
    sitk.WriteImage(mr, tmp_path / "mr.nii.gz")
    sitk.WriteImage(CT, tmp_path / "ct.nii.gz")
    files = [tmp_path / name for name in ("mr.nii.gz", "ct.nii.gz")]
    read_pair(*files)
    import_patient("P1", *files, *(tmp_path / "out" / name for name in OUTPUTS))
    there = sitk.ReadImage(tmp_path / "out/mr.nii.gz")
    assert np.array_equal(values_of(there), values_of(sitk.DICOMOrient(mr, "LPS")))
    for name, image in (("mr", mr), ("ct", CT)):  # one slice, as a 2D image
        sitk.WriteImage(image[:, :, 12], tmp_path / f"{name}.mha")
    read_pair(tmp_path / "mr.mha", tmp_path / "ct.mha")


def bed(values):
    values[:, 55:57] = 300
    return values


def padded(values):
    """The corners beyond the tube's circle have a value of their own."""
    y, x = np.indices(values.shape[1:])
    values[:, np.hypot(y - 29.5, x - 24.5) > 30] = -3024
    return values


def windowed(values):
    return np.clip(values, -1000, 240)


@pytest.mark.parametrize("make", [np.array, bed, padded, windowed])
def test_a_ct_in_the_place_of_the_mr_is_noticed(make):
    ct = like(CT, make(values_of(CT)))
    with pytest.raises(UserError, match="a looks like a CT, .* b does not: MR and CT are exchanged; try"):
        check_modalities(ct, MR, "a", "b", "", "try")
    with pytest.raises(UserError, match="^patient P1: a looks like a CT, expected an MR .*; try"):
        check_modalities(ct, like(CT, values_of(CT) + 1), "a", "b", "patient P1: ", "try")


@pytest.mark.parametrize("make", UNUSUAL[:3])
def test_an_mr_in_the_place_of_the_ct_is_noticed(make):
    mr = like(MR, make(values_of(MR)))
    with pytest.raises(UserError, match="b: its values go from .* expected Hounsfield|MR and CT are exch"):
        check_modalities(CT, mr, "a", "b", "", "")
    if make is undershoot:
        with pytest.raises(UserError, match="b: its values go from .* with air below -500"):
            check_modalities(MR, mr, "a", "b", "", "")


def test_whoever_knows_better_may_say_so(tmp_path):
    """An MR that is scaled so that tissue is 1024 above air, stored with an offset: it looks like a CT."""
    strange = like(MR, np.where(values_of(MR) > 120, 1000 + values_of(MR) / 10, 0) - 1024)
    sitk.WriteImage(strange, tmp_path / "mr.mha")
    sitk.WriteImage(CT, tmp_path / "ct.mha")
    files = [tmp_path / "mr.mha", tmp_path / "ct.mha"]
    with pytest.raises(UserError, match="looks like a CT, .* give --trust-values"):
        read_pair(*files)
    assert read_pair(*files, trust_values=True)[0].GetSize() == MR.GetSize()
    outputs = [tmp_path / "out" / name for name in OUTPUTS]
    with pytest.raises(UserError, match="looks like a CT, .* set cohort.trust_values to true"):
        import_patient("P1", *files, *outputs)
    import_patient("P1", *files, *outputs, trust_values=True)
    assert all(path.exists() for path in outputs)


def shifted(values):
    return values + 400


def scaled_twice(values):
    return 2 * values


def turned_over(values):
    return -values


@pytest.mark.parametrize("make", [shifted, scaled_twice, turned_over])
def test_a_ct_that_is_not_in_hounsfield_units_is_noticed(make):
    with pytest.raises(UserError, match="b: its values go from .* expected Hounsfield units with"):
        check_modalities(MR, like(CT, make(values_of(CT))), "a", "b", "", "")


def masked(values):
    return np.where(values < -300, -2048, values)


def masked_far_below(values):
    return np.where(values < -300, -10000, values)


def cut_within_the_head(values):
    inside = values[:, 20:-20, 15:-15]
    inside[:, :6, :6] = -3024
    return inside


@pytest.mark.parametrize("make", [np.array, bed, padded, windowed, masked, masked_far_below])
def test_a_ct_in_hounsfield_units_is_taken(make):
    check_modalities(MR, like(CT, make(values_of(CT))), "a", "b", "", "")


def test_a_ct_that_is_cut_within_the_head_is_taken():
    inside = sitk.GetImageFromArray(cut_within_the_head(values_of(CT)))
    check_modalities(MR, inside, "a", "b", "", "")


def from_zero(values):
    """The intercept of one slice was not applied."""
    values[len(values) // 2] += 1024
    return values


def twice_lowered(values):
    """The intercept of the upper slices was applied twice."""
    values[len(values) // 2 :] -= 1024
    return values


@pytest.mark.parametrize("make", [from_zero, twice_lowered])
def test_slices_of_a_ct_that_do_not_go_with_the_others_are_told(caplog, make):
    check_modalities(MR, like(CT, make(values_of(CT))), "a", "b", "patient P1: ", "")
    (said,) = caplog.messages
    middle = CT.GetDepth() // 2
    assert said.startswith("patient P1: b: ") and f"of slice {middle - 1} and" in said
    assert f"of slice {middle} are above -500 HU; were slope and intercept" in said


def slab(values):
    """Beyond the scanned part a grid holds nothing."""
    values[:6], values[-6:] = -1024, -1024
    return values


@pytest.mark.parametrize("make", [np.array, bed, padded, windowed, masked, slab])
def test_the_slices_of_a_sound_ct_go_with_each_other(caplog, make):
    check_modalities(MR, like(CT, make(values_of(CT))), "a", "b", "", "")
    assert not caplog.messages


def resampled_onto_zeros(values):
    """As programs do that fill with 0 what lies beyond the field of view."""
    values[:, :4], values[:, :, -3:] = 0, 0
    return values


def test_a_ct_whose_sides_are_filled_with_water_is_told(caplog):
    check_modalities(MR, like(CT, resampled_onto_zeros(values_of(CT))), "a", "b", "patient P1: ", "")
    (said,) = caplog.messages
    assert (
        said.startswith("patient P1: b: ") and "of its outermost voxels are exactly 0, which is water" in said
    )
