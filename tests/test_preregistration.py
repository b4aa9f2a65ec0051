import json

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from heads import head

from regagent.elastix import RegistrationFailed
from regagent.files import UserError, parameter_map
from regagent.patients.preregistration import preregister_patient, resample
from regagent.patients.quality import quality
from regagent.settings import Preregistration
from regagent.volumes.moving import moved_by
from regagent.volumes.transforms import write_transform

MAP = parameter_map("rigid3d")


@pytest.fixture(scope="module")
def patient(tmp_path_factory):
    """A patient's folder with mr, ct and truth, the CT turned and 9 mm away."""
    folder = tmp_path_factory.mktemp("patient")
    truth = sitk.Euler3DTransform()
    truth.SetParameters((0.05, -0.04, 0.08, 4.0, -6.0, 5.0))
    mr, ct, _ = head(truth=truth)
    sitk.WriteImage(mr, str(folder / "mr.nii.gz"))
    sitk.WriteImage(ct, str(folder / "ct.nii.gz"))
    sitk.WriteTransform(truth, str(folder / "truth.tfm"))
    return folder


def run(patient, output, method="elastix", truth="truth.tfm", start=None, **settings):
    preregister_patient(
        "P001",
        patient / "mr.nii.gz",
        patient / "ct.nii.gz",
        parameter_map("refine3d") if start else MAP,
        output / "ct.nii.gz",
        output / "transform.tfm",
        output / "quality.json",
        output / "overlay.png",
        start=start,
        truth=patient / truth if truth else None,
        settings=Preregistration(method=method, **settings),
    )
    return json.loads((output / "quality.json").read_text())


@pytest.fixture(scope="module")
def registered(patient):
    return patient / "registered", run(patient, patient / "registered")


def test_the_alignment_is_found_within_a_millimetre(registered):
    _, report = registered
    assert report["initial_error_mean_mm"] > 8
    assert report["error_mean_mm"] < 1
    assert report["error_max_mm"] < 2
    assert report["overlap"] > 0.9
    assert report["mutual_information"] > report["mutual_information_before"]


def test_the_written_transform_is_what_made_the_written_ct(patient, registered):
    folder, _ = registered
    mr, ct = (sitk.ReadImage(str(patient / f"{name}.nii.gz")) for name in ("mr", "ct"))
    transform = sitk.ReadTransform(str(folder / "transform.tfm"))
    written = sitk.ReadImage(str(folder / "ct.nii.gz"))
    assert written.GetPixelID() == sitk.sitkInt16
    assert written.GetSize() == mr.GetSize()
    assert np.allclose(written.GetOrigin(), mr.GetOrigin())
    again = sitk.Resample(ct, mr, transform, sitk.sitkLinear, -1000.0)
    difference = sitk.GetArrayFromImage(written).astype(float) - sitk.GetArrayFromImage(again)
    assert np.abs(difference).max() <= 1


def test_the_transform_is_elastixs(patient, registered):
    """Elastix's own resampled image equals SimpleITK's with the converted transform."""
    import itk

    from regagent.elastix import _to_itk

    folder, _ = registered
    mr, ct = (sitk.ReadImage(str(patient / f"{name}.nii.gz")) for name in ("mr", "ct"))
    parameters = itk.ParameterObject.New()
    parameters.AddParameterFile(str(MAP))
    parameters.SetParameter(0, "WriteResultImage", "true")
    theirs, _ = itk.elastix_registration_method(
        _to_itk(itk, mr), _to_itk(itk, ct), parameter_object=parameters, number_of_threads=1
    )
    transform = sitk.ReadTransform(str(folder / "transform.tfm"))
    ours = sitk.Resample(sitk.Cast(ct, sitk.sitkFloat32), mr, transform, sitk.sitkLinear, -1000.0)
    difference = np.abs(sitk.GetArrayFromImage(ours) - itk.array_from_image(theirs))
    # both round the CT's last voxel at the border of its field of view in their own way
    assert np.percentile(difference, 99) < 0.5
    assert (
        np.corrcoef(sitk.GetArrayFromImage(ours).ravel(), itk.array_from_image(theirs).ravel())[0, 1] > 0.999
    )


def test_the_overlay_shows_three_planes(registered):
    image = cv2.imread(str(registered[0] / "overlay.png"))
    assert image.shape == (320, 960, 3)
    red = (image[..., 2] > 150) & (image[..., 1] < 100)
    assert all(part.sum() > 100 for part in np.split(red, 3, axis=1))


def test_elastix_goes_on_from_where_the_agent_has_led(patient, tmp_path, caplog):
    """A head that lies on its side is found from near the truth; alone it is lost, and the log tells."""
    side = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.2, 0.3, 1.6, (40.0, -30.0, 25.0))
    truth = sitk.ReadTransform(patient / "truth.tfm")
    sitk.WriteImage(sitk.ReadImage(patient / "mr.nii.gz"), tmp_path / "mr.nii.gz")
    sitk.WriteImage(moved_by(sitk.ReadImage(patient / "ct.nii.gz"), side), tmp_path / "ct.nii.gz")
    write_transform(sitk.CompositeTransform([side, truth]), tmp_path / "truth.tfm")
    near = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.03, -0.02, 0.02, (2.0, 1.0, -2.0))
    write_transform(sitk.CompositeTransform([side, truth, near]), tmp_path / "near.tfm")
    assert run(tmp_path, tmp_path / "alone")["error_mean_mm"] > 20
    assert "preregistration: {method: agent}" in caplog.text
    report = run(tmp_path, tmp_path / "led", "agent", start=tmp_path / "near.tfm")
    assert report["method"] == "agent" and report["error_mean_mm"] < 1 and report["overlap"] > 0.9


def test_no_registration_takes_the_ct_as_it_lies(patient, tmp_path):
    report = run(patient, tmp_path, method="none", truth=None)
    assert "error_mean_mm" not in report
    assert sitk.ReadTransform(str(tmp_path / "transform.tfm")).GetParameters() == (0.0,) * 6
    mr, ct = (sitk.ReadImage(str(patient / f"{name}.nii.gz")) for name in ("mr", "ct"))
    expected = sitk.GetArrayFromImage(resample(ct, mr, sitk.Euler3DTransform()))
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "ct.nii.gz"))), expected)


def test_the_truth_may_be_taken(patient, tmp_path):
    report = run(patient, tmp_path, method="truth")
    assert report["error_max_mm"] < 1e-3 and report["method"] == "truth"
    found, truth = (
        sitk.ReadTransform(str(path)) for path in (tmp_path / "transform.tfm", patient / "truth.tfm")
    )
    assert found.TransformPoint((30.0, -20.0, 40.0)) == pytest.approx(
        truth.TransformPoint((30.0, -20.0, 40.0))
    )


def test_a_ct_of_something_else_fails_by_name(patient, tmp_path):
    _, ct, _ = head()
    ct.SetOrigin([200.0 + value for value in ct.GetOrigin()])
    (tmp_path / "P001").mkdir()
    sitk.WriteImage(ct, str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(sitk.ReadImage(str(patient / "mr.nii.gz")), str(tmp_path / "mr.nii.gz"))
    with pytest.raises(UserError, match="patient P001: the alignment failed .none.: the heads"):
        run(tmp_path, tmp_path / "P001", method="none", truth=None)
    assert not list((tmp_path / "P001").iterdir())


def test_elastix_that_gives_up_fails_by_name(patient, tmp_path, monkeypatch):
    def gives_up(fixed, moving):
        raise RegistrationFailed("too many samples map outside")

    monkeypatch.setattr("regagent.patients.preregistration.elastix", lambda parameter_map: gives_up)
    with pytest.raises(UserError, match="patient P001: Elastix could not register .*too many samples"):
        run(patient, tmp_path)


def test_quality_knows_a_perfect_alignment(patient):
    mr, ct = (sitk.ReadImage(str(patient / f"{name}.nii.gz")) for name in ("mr", "ct"))
    truth = sitk.ReadTransform(str(patient / "truth.tfm"))
    report = quality(mr, ct, resample(ct, mr, truth), truth, patient / "truth.tfm")
    assert report["error_max_mm"] == 0
    assert report["overlap"] > 0.95


def test_the_truth_may_be_a_little_tilted(patient):
    """Points move across the slices alone, in the lowest slice as in the middle: its plane stays."""
    exact = run(patient, patient / "truth", "truth")
    assert exact["error_max_mm"] < 1e-4
    report = run(patient, patient / "tilted", "truth", tilt_deg=4.0)
    assert 0.2 < report["error_mean_mm"] < 8
    known, found = (sitk.ReadTransform(str(patient / name)) for name in ("truth.tfm", "tilted/transform.tfm"))
    mr = sitk.ReadImage(str(patient / "mr.nii.gz"))
    for height in (0.0, (mr.GetSize()[2] - 1) / 2):
        corner = np.array(mr.TransformContinuousIndexToPhysicalPoint([0.0, 0.0, height]))
        moved = np.array(known.GetInverse().TransformPoint(found.TransformPoint(corner.tolist()))) - corner
        assert np.abs(moved[:2]).max() < 1e-3 and 0.1 < np.abs(moved[2]) < 16
    assert run(patient, patient / "again", "truth", tilt_deg=4.0) == report
