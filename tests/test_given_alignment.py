"""A sheet's patient is aligned by a given transform or as it lies; thick slices stay whole."""

import json
import logging

import numpy as np
import pytest
import SimpleITK as sitk
from heads import head
from scans import thick_stack

from regagent.files import UserError
from regagent.pairs.selection import select_slices
from regagent.pairs.slices import read_slices
from regagent.patients.preregistration import in_plane, preregister_patient
from regagent.settings import Preregistration, Slices


def align(folder, mr, ct, transform=None, **keys):
    for name, image in (("mr", mr), ("ct", ct)):
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"))
    out = [folder / name for name in ("aligned.nii.gz", "transform.tfm", "quality.json", "overlay.png")]
    settings = Preregistration(method="none", **keys)
    preregister_patient(
        "P1", folder / "mr.nii.gz", folder / "ct.nii.gz", "", *out, settings=settings, transform=transform
    )
    return sitk.ReadImage(str(out[0])), json.loads(out[2].read_text())


@pytest.fixture(scope="module")
def moved():
    """A head whose CT lies 30 mm aside and is turned, and the transform from MR to CT points."""
    truth = sitk.Euler3DTransform()
    truth.SetRotation(0.05, -0.04, 0.2)
    truth.SetTranslation((30.0, -6.0, 4.0))
    return head(shape=(20, 50, 42), spacing=(4.5, 4.5, 8.0), truth=truth)


def test_a_given_transform_maps_mr_points_to_ct_points(moved, tmp_path):
    mr, ct, truth = moved
    sitk.WriteTransform(truth, str(tmp_path / "given.tfm"))
    aligned, report = align(tmp_path, mr, ct, transform=tmp_path / "given.tfm")
    assert report["method"] == "transform" and report["overlap"] > 0.95
    expected = sitk.Resample(ct, mr, truth, sitk.sitkLinear, -1000.0)
    difference = sitk.GetArrayFromImage(aligned).astype(float) - sitk.GetArrayFromImage(expected)
    assert np.abs(difference).max() <= 1
    written = sitk.ReadTransform(str(tmp_path / "transform.tfm"))
    assert written.TransformPoint((10.0, 20.0, 30.0)) == pytest.approx(
        truth.TransformPoint((10.0, 20.0, 30.0))
    )


SHEAR = [[1, 0.15, 0], [0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (np.diag([-1, 1, 1]), "exchanges left and right"),
        (np.diag([1.1, 1.1, 1.1]), "scales by 1.10, expected"),
        (np.diag([1, 1 / 1.12, 1.12]), "scales by 1.12 in one direction"),  # the volume stays
        (np.diag([1, 1, 0.9]), "scales by 0.90 in one direction"),
        (np.array(SHEAR), "scales by 1.08 in one direction"),
    ],
)
def test_a_transform_that_mirrors_scales_or_shears_is_refused(moved, tmp_path, change, message):
    mr, ct, truth = moved
    affine = sitk.AffineTransform(3)
    affine.SetMatrix((np.reshape(truth.GetMatrix(), (3, 3)) @ change).ravel().tolist())
    affine.SetTranslation(truth.GetTranslation())
    sitk.WriteTransform(affine, str(tmp_path / "given.tfm"))
    with pytest.raises(UserError, match=f"patient P1: the transform .transform. {message}"):
        align(tmp_path, mr, ct, transform=tmp_path / "given.tfm")
    assert not (tmp_path / "aligned.nii.gz").exists()


def test_a_transform_that_is_worse_than_none_is_told(tmp_path, caplog):
    """A sheet may give a matrix in RAS, as other programs have it: with the head about 0 it overlaps well."""
    truth = sitk.Euler3DTransform()
    truth.SetTranslation((9.0, -4.0, 3.0))
    mr, ct, _ = head(shape=(20, 50, 42), spacing=(4.5, 4.5, 8.0), truth=truth)
    in_ras = sitk.Euler3DTransform()
    in_ras.SetTranslation((-9.0, 4.0, 3.0))
    messages = []
    for transform in (truth, in_ras):
        sitk.WriteTransform(transform, str(tmp_path / "given.tfm"))
        caplog.clear()
        with caplog.at_level(logging.WARNING, "regagent"):
            align(tmp_path, mr, ct, transform=tmp_path / "given.tfm")
        messages.append(caplog.text)
    assert "more information" not in messages[0]
    assert "with the CT 8 mm further right than aligned (transform)" in messages[1]
    assert "in ITK's LPS" in messages[1]


@pytest.mark.parametrize(
    ("shift", "place"),
    [
        ((8, 0, 0), "8 mm further right"),
        ((-8, 0, 0), "8 mm further left"),
        ((0, 8, 0), "8 mm further front"),
        ((0, -8, 0), "8 mm further back"),
        ((0, 0, 8), "8 mm further down"),
        ((0, 0, -8), "8 mm further up"),
        ((0, 0, 0), None),
    ],
)
def test_scans_that_lie_apart_are_told(tmp_path, caplog, shift, place):
    """The head in the CT lies aside by ``shift``, in mm to the left, the back and the head."""
    truth = sitk.Euler3DTransform()
    truth.SetTranslation([float(step) for step in shift])
    mr, ct, _ = head(truth=truth)
    with caplog.at_level(logging.WARNING, "regagent"):
        _, report = align(tmp_path, mr, ct)
    assert report["overlap"] > 0.92
    told = [message for message in caplog.messages if "more information" in message]
    assert len(told) == bool(place)
    if place:
        assert f"with the CT {place} than aligned (none): look at" in told[0] and "LPS" not in told[0]


def test_a_ct_of_a_part_of_the_head_is_not_told(tmp_path, caplog):
    """Moved along z such a CT shows other tissues, which have more information or less."""
    mr, ct, _ = head()
    for first, last in ((0, 35), (20, 50), (35, 70)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "regagent"):
            align(tmp_path, mr, ct[:, :, first:last], minimum_overlap=0.1)
        assert "more information" not in caplog.text


def test_the_overlap_that_is_asked_for_decides(moved, tmp_path):
    mr, ct, truth = moved
    with pytest.raises(UserError, match="patient P1: the alignment failed .none.: .* expected at least 0.9"):
        align(tmp_path, mr, ct, minimum_overlap=0.9)
    assert not (tmp_path / "aligned.nii.gz").exists()
    _, report = align(tmp_path, mr, ct, minimum_overlap=0.1)
    assert 0.1 < report["overlap"] < 0.9


def test_thick_slices_are_not_blended():
    values = np.stack([np.full((4, 4), level, np.float32) for level in (0, 100)])
    ct = sitk.GetImageFromArray(values)
    ct.SetSpacing((1.0, 1.0, 5.0))
    point = sitk.Image([4, 4, 1], sitk.sitkFloat32)
    for height, seen in ((1.9, 0), (3.1, 100)):
        point.SetOrigin((0.0, 0.0, height))
        whole = sitk.Resample(in_plane(ct, thick_slice_mm=4.0), point)
        assert np.allclose(sitk.GetArrayFromImage(whole), seen)
        blended = sitk.Resample(in_plane(ct, thick_slice_mm=6.0), point)
        assert np.allclose(sitk.GetArrayFromImage(blended), 20 * height, atol=1e-3)


@pytest.mark.parametrize(("slices", "expected"), [(5, 3), (16, 6), (20, 6)])
def test_a_stack_of_thick_slices_gives_what_it_has(tmp_path, caplog, slices, expected):
    mr, ct, _ = head(shape=(40, 57, 48), spacing=(4.0, 4.0, 4.0))
    mr, ct = thick_stack(mr, slices, 0.0), thick_stack(ct, slices, -1000.0)
    assert mr.GetSize() == (256, 256, slices) and mr.GetSpacing()[2] == 5
    aligned, report = align(tmp_path, mr, ct)
    assert report["overlap"] > 0.9
    with caplog.at_level(logging.WARNING, "regagent"):
        select_slices(
            "P1", tmp_path / "mr.nii.gz", tmp_path / "aligned.nii.gz", tmp_path / "P1.npz", Slices()
        )
    pairs = read_slices(tmp_path / "P1.npz")
    assert len(pairs.mr) == expected
    assert ("patient P1: only 3 of 6 slices" in caplog.text) == (expected < 6)
