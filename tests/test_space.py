"""The command on two volumes that lie any way: files in, files out, refusals, a refinement by Elastix."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from agents import export_networks
from heads import head
from markers import make_volumes, turned

from regagent.agent.checkpoints import load_model
from regagent.agent.cube_registration import Found, Verdict
from regagent.agent.release import release
from regagent.agent.trust import Judgement
from regagent.command import space
from regagent.command.main import main
from regagent.pairs.cubes import NoHead
from regagent.pairs.rigid import CORNERS, from_motion, to_itk
from regagent.volumes.moving import moved_by

#: From MR to CT points: a head that lies on its side.
TRUTH = to_itk(from_motion(np.array([30.0, -12.0, 45.0, 80.0, 10.0, -20.0])), np.zeros(3))


@pytest.fixture
def folder(tmp_path):
    """A folder with a pair of volumes and a file of networks."""
    mr, ct, _ = head()
    sitk.WriteImage(mr, tmp_path / "mr.nii.gz")
    sitk.WriteImage(moved_by(ct, TRUTH), tmp_path / "ct.nii.gz")
    export_networks(tmp_path / "space.pt")
    return tmp_path


@pytest.fixture
def found(monkeypatch):
    """Let the networks find the truth, 2 mm off; the fixture is what they are asked, and say."""
    said = {"refusal": None, "asked": []}
    near = sitk.CompositeTransform([TRUTH, sitk.TranslationTransform(3, (2.0, 0.0, 0.0))])

    def register_volumes(mr, ct, trained):
        said["asked"].append(trained.volumes)
        if "head" in said:
            raise NoHead(said["head"])
        return Found(near, verdict(mr, ct, near, trained), [TRUTH, near])

    def verdict(mr, ct, transform, trained):
        ends = (one.TransformPoint((0.0, 0.0, 0.0)) for one in (transform, TRUTH))
        off = round(float(np.linalg.norm(np.subtract(*ends))), 9)
        refusal = said["refusal"] or ("far off" if off > 10 else None)
        return Verdict(off, Judgement(0.97, 0.75 * off, 0.4 * off, 1.45 * off), refusal)

    monkeypatch.setattr(space, "register_volumes", register_volumes)
    monkeypatch.setattr(space, "verdict", verdict)
    return said


def register(folder, *more):
    files = {
        "--fixed": "mr.nii.gz", "--moving": "ct.nii.gz", "--model": "space.pt", "--transform-out": "t.tfm",
        "--json": "r.json",
    }  # fmt: skip
    words = [word for option, name in files.items() for word in (option, str(folder / name))]
    return main(["register", *words, *map(str, more)])


def off_mm(path):
    """Return how far a transform maps points of the head from where the truth does."""
    transform = sitk.ReadTransform(str(path))
    points = CORNERS.tolist()
    return max(
        np.linalg.norm(np.subtract(transform.TransformPoint(p), TRUTH.TransformPoint(p))) for p in points
    )


def test_two_volumes_are_registered_in_space(folder, found, capsys):
    pictures = folder / "o.png", folder / "w.nii.gz"
    assert register(folder, "--report", pictures[0], "--warped-out", pictures[1]) == 0
    (asked,) = found["asked"]
    assert asked.cubes.size == 28 and asked.kept == 2
    transform = sitk.ReadTransform(str(folder / "t.tfm"))
    assert isinstance(transform.Downcast(), sitk.VersorRigid3DTransform)
    assert off_mm(folder / "t.tfm") == pytest.approx(2.0, abs=1e-6)
    known = json.loads((folder / "r.json").read_text())
    assert known["registered"] and known["refusal"] is None and known["refined_mm"] is None
    corner = np.array(known["matrix"]) @ [10.0, 20.0, 30.0, 1.0]
    assert corner[:3] == pytest.approx(transform.TransformPoint((10.0, 20.0, 30.0)))
    assert (known["expected_error_mm"], known["success_mm"], known["success_probability"]) == (1.5, 4, 0.97)
    said = capsys.readouterr().out
    assert "turned by 83.1°" in said and "Expected error: 1.5 mm" in said and "0.8 to 2.9 mm" in said
    warped, mr = sitk.ReadImage(pictures[1]), sitk.ReadImage(folder / "mr.nii.gz")
    bone = sitk.GetArrayFromImage(warped) > 500
    dark = sitk.GetArrayFromImage(mr)[bone]
    assert bone.sum() > 5000 and np.median(dark) < 250  # bone is dark in the MR
    assert pictures[0].stat().st_size > 10_000


def test_a_page_shows_them(folder, found):
    assert register(folder, "--report", folder / "o.html") == 0
    page = (folder / "o.html").read_text()
    assert "ct.nii.gz (CT) onto mr.nii.gz (MR)" in page and "Expected error: 1.5 mm" in page


def test_volumes_that_do_not_belong_together_are_refused(folder, found, capsys):
    found["refusal"] = "these are two heads"
    assert register(folder) == 3
    assert not (folder / "t.tfm").exists()
    known = json.loads((folder / "r.json").read_text())
    assert not known["registered"] and known["expected_error_mm"] is None
    advice = "; --refine goes on from there by Elastix, and judges where that ends"
    assert known["refusal"] == f"these are two heads{advice}" and known["refusal"] in capsys.readouterr().err
    assert register(folder, "--force", "--report", folder / "o.png") == 3
    assert off_mm(folder / "t.tfm") == pytest.approx(2.0, abs=1e-6)


def test_a_volume_without_a_head_is_refused(folder, found, capsys):
    found["head"] = "nothing in it stands out"
    assert register(folder, "--force", "--report", folder / "o.png") == 3
    assert "a volume shows no head: nothing in it stands out" in capsys.readouterr().err
    known = json.loads((folder / "r.json").read_text())
    assert known["success_probability"] is known["matrix"] is None
    assert not (folder / "t.tfm").exists() and not (folder / "o.png").exists()


def test_elastix_goes_on_from_there(folder, found, capsys):
    assert register(folder, "--refine") == 0
    assert off_mm(folder / "t.tfm") < 1.0
    known = json.loads((folder / "r.json").read_text())
    assert known["refined_mm"] == pytest.approx(2.0, abs=1.0) and known["expected_error_mm"] < 0.75
    assert "Elastix went on by" in capsys.readouterr().out


def test_an_elastix_that_runs_away_is_dropped(folder, found, monkeypatch, capsys, caplog):
    away = sitk.TranslationTransform(3, (40.0, 0.0, 0.0))
    monkeypatch.setattr(space, "elastix", lambda path: lambda mr, ct: away)
    assert register(folder, "--refine") == 0
    assert off_mm(folder / "t.tfm") == pytest.approx(2.0, abs=1e-6)
    assert "Elastix ended 40.0 mm away" in caplog.text


@pytest.mark.parametrize("more", [["--slice", "4"], ["--start", "centres"], ["--scale", "free"]])
def test_what_belongs_to_slices_is_a_usage_error(folder, found, more, capsys):
    assert register(folder, *more) == 2
    assert "registers whole volumes" in capsys.readouterr().err and found["asked"] == []


def test_images_are_no_volumes(folder, found, capsys):
    mr, ct = make_volumes(turned(1.0), np.diag([-1.0, -1.0, 1.0]))
    sitk.WriteImage(mr[:, :, 4], folder / "mr.mha")
    sitk.WriteImage(ct[:, :, 5], folder / "ct.mha")
    names = ["--fixed", folder / "mr.mha", "--moving", folder / "ct.mha"]
    assert register(folder, *names) == 1
    assert "registers volumes, and these are 2D images" in capsys.readouterr().err


def test_networks_at_their_random_start_answer(folder):
    """The whole way without a substitute: the networks know nothing, so they refuse."""
    export_networks(folder / "space.pt", chance=0.0)
    assert register(folder) == 3


def test_released_networks_are_half_as_large_and_the_same(folder):
    release(folder / "space.pt", folder / "small.pt")
    assert (folder / "small.pt").stat().st_size < 0.6 * (folder / "space.pt").stat().st_size
    (whole, facts), (half, same) = (load_model(folder / f"{name}.pt", "space") for name in ("space", "small"))
    assert facts == same
    for before, after in zip(whole.state_dict().values(), half.state_dict().values(), strict=True):
        assert after.dtype == torch.float32 and torch.allclose(before, after, rtol=1e-3, atol=1e-6)
