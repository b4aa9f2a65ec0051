"""A reader's own pair: the agent sees what it was trained on, and its pose becomes a transform in mm."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from agents import export
from heads import head
from markers import disc_centres, grid, make_pair, perfect_register

from regagent.agent.agent_file import load_agent
from regagent.agent.inference import Registrations
from regagent.agent.networks import ResidualNetwork
from regagent.command import pair as registration
from regagent.command.pair import physical_transform, place, read_pair, register_pair
from regagent.files import UserError
from regagent.geometry import IDENTITY
from regagent.images import warp
from regagent.pairs.selection import select_slices
from regagent.pairs.slices import read_slices
from regagent.settings import Slices

CENTRE = (30.0, -20.0, 700.0)


def turn(degrees, axis="z"):
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    return {
        "z": np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]),
        "x": np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]),
    }[axis]


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    return load_agent(export(tmp_path_factory.mktemp("agent"), lookahead=9.0))


@pytest.fixture
def perfect(agent, monkeypatch):
    monkeypatch.setattr(registration, "register", perfect_register)
    return agent


def similarity(angle, scale, shift, centre):
    transform = sitk.Similarity2DTransform()
    transform.SetCenter(centre)
    transform.SetAngle(np.deg2rad(angle))
    transform.SetScale(scale)
    transform.SetTranslation(shift)
    return transform


def in_plane(angle, scale, shift, centre, axes):
    """Return a similarity in the plane of the first two axes, as an affine transform of the world."""
    inner = turn(angle) @ np.diag([scale, scale, 1.0])
    transform = sitk.AffineTransform(3)
    transform.SetCenter(centre)
    transform.SetMatrix((axes @ inner @ axes.T).ravel())
    transform.SetTranslation(axes @ [*shift, 0.0])
    return transform


def error_mm(found, truth, centre, axes, half=60.0):
    """Return the largest distance of what two transforms make of points about the centre."""
    steps = np.linspace(-half, half, 5)
    offsets = np.stack(np.meshgrid(*len(centre) * [steps]), -1).reshape(-1, len(centre))
    points = (np.asarray(centre) + offsets @ np.transpose(axes)).tolist()
    return max(
        np.linalg.norm(np.subtract(found.TransformPoint(point), truth.TransformPoint(point)))
        for point in points
    )


@pytest.mark.parametrize(
    ("size", "spacing", "direction"),
    [
        ((220, 220), (1.0, 1.0), np.eye(2)),
        ((150, 176), (1.0, 1.25), turn(12)[:2, :2]),
        ((240, 128), (0.9, 1.6), np.diag([-1.0, 1.0])),  # not square, anisotropic, stored from right to left
        ((200, 180), (1.1, 1.1), [[0.0, 1.0], [1.0, 0.0]]),  # stored column by column
    ],
)
def test_a_known_transform_of_2d_images_is_recovered(perfect, size, spacing, direction):
    truth = similarity(15.0, 1.15, (12.0, -9.0), CENTRE[:2])
    ct_grid = grid((300, 260), (0.8, 1.0), turn(-20)[:2, :2], np.add(CENTRE[:2], (6, 4)))
    mr, ct = make_pair(grid(size, spacing, direction, CENTRE[:2]), ct_grid, truth, np.eye(2), CENTRE[:2])
    placed = place(mr, ct, perfect.facts.slices)
    outcome = register_pair(perfect, placed, rigid=False)
    found = physical_transform(outcome.pose, placed)
    assert outcome.refusal is None
    assert isinstance(found, sitk.Similarity2DTransform)
    assert found.GetScale() == pytest.approx(1.15, abs=0.01)
    assert np.rad2deg(found.GetAngle()) == pytest.approx(15.0, abs=0.5)
    assert error_mm(found, truth, CENTRE[:2], np.eye(2)) < 1.0
    assert error_mm(sitk.Transform(2, sitk.sitkIdentity), truth, CENTRE[:2], np.eye(2)) > 20.0


TILTED = turn(9, "x") @ turn(-7)


@pytest.mark.parametrize(
    ("size", "spacing", "order"),
    [
        ((72, 84, 16), (2.5, 2.5, 6.0), np.eye(3)),
        ((110, 72, 12), (1.6, 2.8, 8.0), np.diag([-1.0, -1.0, 1.0])),  # stored in the order RAS
        ((16 * 5, 84, 40), (2.5, 2.5, 2.5), np.eye(3)[:, [1, 2, 0]]),  # sagittal
    ],
)
@pytest.mark.parametrize(("number", "rigid"), [(None, False), (5, False), (None, True), (5, True)])
def test_a_known_transform_of_volumes_is_recovered(perfect, size, spacing, order, number, rigid):
    scale = 1.0 if rigid else 0.9
    truth = in_plane(-14.0, scale, (-10.0, 14.0), CENTRE, TILTED)
    if order[1, 0] == 1:  # the sagittal stack has its slices along x
        size = (84, 40, 72)
    ct_grid = grid((140, 150, 60), (1.6, 1.6, 4.0), np.eye(3), np.add(CENTRE, (6, 4, 10)))
    mr, ct = make_pair(grid(size, spacing, TILTED @ order, CENTRE), ct_grid, truth, TILTED, CENTRE)
    placed = place(mr, ct, perfect.facts.slices, number=number)
    outcome = register_pair(perfect, placed, rigid)
    found = physical_transform(outcome.pose, placed)
    assert outcome.refusal is None
    linear = np.reshape(found.GetMatrix(), (3, 3))
    if rigid:
        assert linear @ linear.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(linear) == pytest.approx(scale**2, abs=0.02)
    assert (len(placed.numbers) > 3) if number is None else (placed.numbers == [5])
    assert error_mm(found, truth, CENTRE, TILTED) < 1.5
    assert error_mm(sitk.Transform(3, sitk.sitkIdentity), truth, CENTRE, TILTED) > 20.0
    across = TILTED[:, 2]
    moved = np.subtract(found.TransformPoint((CENTRE + 20 * across).tolist()), found.TransformPoint(CENTRE))
    assert moved == pytest.approx(20 * across, abs=1e-6)  # nothing happens across the slices


def test_from_the_centres_where_the_coordinates_share_nothing(perfect):
    truth = in_plane(10.0, 1.0, (8.0, 5.0), CENTRE, np.eye(3))
    far = sitk.TranslationTransform(3, [500.0, -300.0, 900.0])
    there = sitk.CompositeTransform([far, truth])
    mr_grid = grid((80, 80, 12), (2.5, 2.5, 6.0), np.eye(3), CENTRE)
    ct_grid = grid((100, 100, 20), (2.5, 2.5, 6.0), np.eye(3), np.add(CENTRE, (500, -300, 900)))
    mr, ct = make_pair(mr_grid, ct_grid, there, np.eye(3), CENTRE)
    advice = "; by their coordinates the centres of MR and CT lie 1072 mm apart: --start centres begins with"
    with pytest.raises(UserError, match=f"no slices to register: the CT shows the head in none.*{advice}"):
        place(mr, ct, perfect.facts.slices)
    with pytest.raises(UserError, match="the head covers at most [^;]*$"):  # no start helps a faulty MR
        place(mr, ct, perfect.facts.slices.model_copy(update={"minimum_head_fraction": 0.9}))
    with pytest.raises(UserError, match=f"slice 4: the CT shows no head where the MR lies{advice}"):
        place(mr, ct, perfect.facts.slices, number=4)
    placed = place(mr, ct, perfect.facts.slices, start="centres")
    assert placed.apart_mm == 0
    found = physical_transform(register_pair(perfect, placed, rigid=True).pose, placed)
    assert error_mm(found, there, CENTRE, np.eye(3)) < 1.5


def test_the_pose_lays_the_slices_on_each_other(perfect):
    truth = similarity(15.0, 1.15, (12.0, -9.0), CENTRE[:2])
    grids = (grid((200, 160), (1.0, 1.3), np.eye(2), CENTRE[:2]) for _ in range(2))
    mr, ct = make_pair(*grids, truth, np.eye(2), CENTRE[:2])
    placed = place(mr, ct, perfect.facts.slices)
    laid = warp(placed.moving[0], register_pair(perfect, placed, rigid=False).pose)
    assert np.abs(disc_centres(laid) - disc_centres(placed.fixed[0])).max() < 0.5


def test_the_agent_sees_what_it_was_trained_on(tmp_path):
    mr, ct, _ = head(shape=(40, 76, 64), spacing=(3.0, 3.0, 4.0))
    sitk.WriteImage(mr, tmp_path / "mr.nii.gz")
    aligned = sitk.Resample(ct, mr, sitk.Transform(), sitk.sitkLinear, -1000.0)
    sitk.WriteImage(aligned, tmp_path / "ct.nii.gz")
    settings = Slices(count=registration.MAXIMUM_SLICES)
    select_slices("A", tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz", tmp_path / "A.npz", settings)
    expected = read_slices(tmp_path / "A.npz")
    placed = place(*read_pair(tmp_path / "mr.nii.gz", tmp_path / "ct.nii.gz"), settings)
    assert placed.numbers == expected.slice_index.tolist()
    assert placed.mm_per_px == expected.mm_per_px
    assert np.allclose(placed.fixed, expected.mr, atol=1e-5)
    assert np.allclose(placed.moving, expected.ct, atol=1e-5)


def outcome_of(agent, monkeypatch, stopped, poses=None, rigid=True, apart_mm=0.0, value=4.25):
    """Return what becomes of a pair whose slices ended so."""
    count = len(stopped)
    poses = np.tile(IDENTITY, (count, 1)) if poses is None else np.array(poses, float)
    steps, values = np.full(count, 500), np.full(count, value)
    found = Registrations(poses, steps, values, np.array(stopped), np.zeros(count))
    monkeypatch.setattr(registration, "register", lambda *_: [found])
    monkeypatch.setattr(registration, "register_finely", lambda *_: found)
    images = np.zeros((count, 168, 168), np.float32)
    placed = registration.Placed(
        list(range(count)), images, images, 1.5, np.zeros(3), np.eye(3), np.zeros(3), apart_mm, 3
    )
    return register_pair(agent, placed, rigid)


def test_one_slice_that_never_stops_is_refused(agent, monkeypatch):
    refusal = outcome_of(agent, monkeypatch, [False]).refusal
    assert refusal.startswith("the agent's value never reached the threshold 9.00, only 4.25 in 500 steps")


def test_the_error_that_a_finished_agent_predicts_decides(agent, monkeypatch):
    finished = replace(agent, finisher=ResidualNetwork(width=1))
    monkeypatch.setattr(registration, "distance_at", lambda *images: np.ones(1))
    refusal = outcome_of(finished, monkeypatch, [False], value=-4.25).refusal
    assert refusal.startswith(
        "the agent sees a chance of 0% to lie within 2 px of the truth, expected at lea"
    )
    far = []
    monkeypatch.setattr(registration, "distance_at", lambda *images: np.array(far))
    poses = [[0, 0, 0, 1], [1, 0, 0, 1], [2, 0, 0, 1]]
    far[:] = [0.3, 0.6, 5.0]
    outcome = outcome_of(finished, monkeypatch, [True] * 3, poses, value=-0.5)
    assert outcome.refusal is None and (outcome.judgement.probability == 1).all()
    assert outcome.judgement.expected == pytest.approx(0.5, rel=0.02)
    assert outcome.expected.expected == pytest.approx(0.6, rel=0.02) and outcome.expected.probability == 1
    far[:] = [0.3, 4.0, 5.0]
    refusal = outcome_of(finished, monkeypatch, [True] * 3, poses, value=-0.5).refusal
    assert refusal.endswith("expected at least 50%, where the slices' poses have their median")
    # Slices that do not count have no say.
    assert outcome_of(finished, monkeypatch, [True, False, False], poses, value=-0.5).refusal.startswith(
        "in 2"
    )
    assert outcome_of(agent, monkeypatch, [True]).expected is None


@pytest.mark.parametrize(("stopped", "within"), [(0, 0), (6, 3)])
def test_an_agent_that_failed_its_own_test_is_refused(agent, monkeypatch, stopped, within):
    tested = agent.facts.evaluation.model_copy(update={"stopped": stopped, "stopped_within": within})
    poor = replace(agent, facts=agent.facts.model_copy(update={"evaluation": tested}))
    refusal = outcome_of(poor, monkeypatch, [True]).refusal
    assert refusal.startswith(f"this agent is not to be trusted: of {stopped} of its own test cases")
    assert outcome_of(agent, monkeypatch, [True]).refusal is None


def test_a_volume_needs_half_of_its_slices(agent, monkeypatch):
    assert outcome_of(agent, monkeypatch, [True, True, False, False]).refusal is None
    refusal = outcome_of(agent, monkeypatch, [True, False, False, False]).refusal
    assert refusal.startswith("in 3 of 4 slices the agent's value never reached the threshold")


def test_slices_that_never_stopped_do_not_count(agent, monkeypatch):
    poses = [[1, 2, 3, 1.1], [1, 2, 3, 1.1], [25, 25, 45, 0.7]]
    outcome = outcome_of(agent, monkeypatch, [True, True, False], poses, rigid=False)
    assert outcome.pose == pytest.approx([1, 2, 3, 1.1])
    assert outcome.spread_px[:2] == pytest.approx([0, 0]) and outcome.spread_px[2] > 20


def test_slices_that_disagree_are_refused(agent, monkeypatch):
    poses = [[10 * shift, 0, 0, 1] for shift in (-2, -1, 0, 1, 2)]
    refusal = outcome_of(agent, monkeypatch, [True] * 5, poses).refusal
    assert refusal.startswith("the slices do not agree on one transform: half of them lie 10.0 px or more")
    assert refusal.endswith(
        "tilted against each other, or shifted across the slices, must be aligned in 3D first"
    )
    assert outcome_of(agent, monkeypatch, [True] * 5, [[s, 0, 0, 1] for s in range(5)]).refusal is None


@pytest.mark.parametrize(
    ("stopped", "poses"),
    [
        ([False], None),
        ([True, False, False, False], None),
        ([True] * 5, [[10 * shift, 0, 0, 1] for shift in (-2, -1, 0, 1, 2)]),
        ([True], [[0, 0, 0, 1.2]]),
    ],
)
def test_a_refusal_far_from_the_centres_advises_to_start_there(agent, monkeypatch, stopped, poses):
    advice = "by their coordinates the centres of MR and CT lie 84 mm apart: --start centres begins with the"
    assert advice in outcome_of(agent, monkeypatch, stopped, poses, apart_mm=84.2).refusal
    for near in (0.0, 9.0):
        assert "--start" not in outcome_of(agent, monkeypatch, stopped, poses, apart_mm=near).refusal


@pytest.mark.parametrize(
    ("margin", "said"), [(0, ""), (30, ""), (45, "the head fills 46% of the MR's width")]
)
def test_a_head_that_fills_little_of_the_slices_is_told(margin, said):
    images = np.zeros((2, 168, 168), np.float32)
    images[:, margin : 168 - margin, margin + 20 : 148 - margin] = 0.5
    placed = registration.Placed([1, 2], images, images, 1.5, np.zeros(3), np.eye(3), np.zeros(3), 0.0, 3)
    assert said in registration._wide(placed) and bool(said) == bool(registration._wide(placed))


def test_the_spread_is_that_of_what_is_reported(agent, monkeypatch):
    poses = [[3, 2, 10, scale] for scale in (0.96, 1.0, 1.04)]
    rigid, free = (outcome_of(agent, monkeypatch, [True] * 3, poses, rigid=kept) for kept in (True, False))
    assert rigid.slices.pose == pytest.approx(np.tile([3, 2, 10, 1], (3, 1)))
    assert rigid.pose == pytest.approx([3, 2, 10, 1]) and rigid.spread_px == pytest.approx([0, 0, 0])
    assert free.slices.pose == pytest.approx(np.array(poses)) and free.spread_px[[0, 2]].min() > 1


@pytest.mark.parametrize("rigid", [True, False])
def test_slices_of_different_scales_are_refused(agent, monkeypatch, rigid):
    """As in volumes that are shifted across the slices: towards the vertex the CT's slices are too large."""
    poses = [[0, 0, 0, scale] for scale in (0.96, 0.98, 0.99, 1.0, 1.01, 1.02, 1.04)]
    refusal = outcome_of(agent, monkeypatch, [True] * 7, poses, rigid=rigid).refusal
    assert refusal.startswith("the scales of a quarter of the slices lie 3.0% or more from their median")
    one_apart = [[0, 0, 0, scale] for scale in (1.0, 1.002, 1.002, 1.002, 1.05)]
    assert outcome_of(agent, monkeypatch, [True] * 5, one_apart, rigid=rigid).refusal is None


@pytest.mark.parametrize(("scale", "said"), [(1 / 1.1, "10% larger"), (1.25, "20% smaller")])
def test_a_scale_that_no_scanner_has_is_refused(agent, monkeypatch, scale, said):
    """As where a spacing is wrong: the CT of voxels that a header makes too wide looks too large."""
    poses = [[3, 2, 10, scale]] * 4
    refusal = outcome_of(agent, monkeypatch, [True] * 4, poses).refusal
    assert refusal.startswith(f"the CT looks {said} than the MR, but in mm a head has one size: check the sp")
    assert outcome_of(agent, monkeypatch, [True] * 4, poses, rigid=False).refusal is None
    assert outcome_of(agent, monkeypatch, [True] * 4, [[3, 2, 10, 1.05]] * 4).refusal is None


def test_a_ct_of_wrong_spacing_is_refused(perfect):
    truth = in_plane(5.0, 1.0, (8.0, 5.0), CENTRE, np.eye(3))
    grids = (grid((80, 80, 12), (2.5, 2.5, 6.0), np.eye(3), CENTRE) for _ in range(2))
    mr, ct = make_pair(*grids, truth, np.eye(3), CENTRE)
    ct.SetSpacing((2.8, 2.8, 6.0))
    placed = place(mr, ct, perfect.facts.slices, start="centres")
    assert register_pair(perfect, placed, True).refusal.startswith("the CT looks 12% larger than the MR")
    assert register_pair(perfect, placed, False).refusal is None


@pytest.mark.parametrize("rigid", [True, False])
def test_elastix_goes_on_from_each_slices_pose(perfect, monkeypatch, caplog, rigid):
    truth = in_plane(5.0, 1.0, (8.0, 5.0), CENTRE, np.eye(3))
    grids = (grid((80, 80, 12), (2.5, 2.5, 6.0), np.eye(3), CENTRE) for _ in range(2))
    placed = place(*make_pair(*grids, truth, np.eye(3), CENTRE), perfect.facts.slices)
    before = register_pair(perfect, placed, rigid).slices.pose.copy()
    given = []

    def refine(register, fixed, moving, start):
        given.append(start.copy())
        return None if len(given) == 2 else start + [1.0 if len(given) != 3 else 20.0, 0.0, 0.0, 0.0]

    modes = []
    monkeypatch.setattr(registration, "elastix", lambda parameter_map, rigid: modes.append(rigid))
    monkeypatch.setattr(registration, "itk_pose", refine)
    after = register_pair(perfect, placed, rigid, "refine2d.txt").slices.pose
    assert modes == [rigid] and np.array_equal(given, before)
    assert (before[:, 3] == 1).all() == rigid
    moved = np.delete(after - before, [1, 2], axis=0)
    assert moved == pytest.approx(np.tile([1.0, 0, 0, 0], (len(moved), 1)))
    assert np.array_equal(after[1:3], before[1:3]) and len(moved)
    assert "Elastix gave up" in caplog.text and "Elastix ended 20.0 px away" in caplog.text


@pytest.fixture
def files(tmp_path):
    truth = similarity(0.0, 1.0, (0.0, 0.0), CENTRE[:2])
    grids = (grid((120, 120), (1.6, 1.6), np.eye(2), CENTRE[:2]) for _ in range(2))
    mr, ct = make_pair(*grids, truth, np.eye(2), CENTRE[:2])
    for name, image in {
        "mr": mr,
        "ct": ct,
        "volume": sitk.JoinSeries([mr, mr, mr]),
        "slice": sitk.JoinSeries(mr * 2),
        "coloured": sitk.Compose(mr, mr),
        "empty": mr * 0,
    }.items():
        sitk.WriteImage(image, tmp_path / f"{name}.mha")
    broken = sitk.Cast(mr, sitk.sitkFloat32)
    broken[5, 5] = float("nan")
    sitk.WriteImage(broken, tmp_path / "nan.mha")
    sitk.WriteImage(broken, tmp_path / "nan.nii.gz")
    coarse = sitk.Image(mr)
    coarse.SetSpacing((90.0, 1.0))
    sitk.WriteImage(coarse, tmp_path / "coarse.mha")
    (tmp_path / "text.mha").write_text("no image")
    return tmp_path


@pytest.mark.parametrize(
    ("fixed", "moving", "message"),
    [
        ("mr", "mr", "given as the fixed and as the moving image"),
        ("ct", "mr", "ct.mha looks like a CT, .* MR and CT are exchanged; .* --trust-values"),
        ("mr", "slice", "slice.mha: its values go from 0 to .*, expected Hounsfield units with air"),
        ("volume", "ct", "volume.mha is 3D and .*ct.mha is 2D, expected both alike"),
        ("coloured", "ct", "coloured.mha: 2 values a pixel, expected one"),
        ("empty", "ct", "empty.mha: empty, every pixel is 0"),
        ("nan", "ct", "nan.mha: holds NaN or infinite pixels"),
        ("nan.nii.gz", "ct", "nan.nii.gz: holds NaN or infinite"),
        ("coarse", "ct", r"coarse.mha: spacing \(90.0, 1.0\) mm, expected 0.05 to 20"),
        ("text", "ct", "text.mha: not a readable volume"),
        ("absent", "ct", "absent.mha: no such file"),
    ],
)
def test_a_faulty_pair_is_named(files, fixed, moving, message):
    paths = (files / (name if "." in name else f"{name}.mha") for name in (fixed, moving))
    with pytest.raises(UserError, match=message):
        read_pair(*paths)


def test_a_volume_of_one_slice_is_an_image(files):
    mr, ct = read_pair(files / "slice.mha", files / "ct.mha")
    assert mr.GetDimension() == ct.GetDimension() == 2
    assert mr.GetSpacing() == ct.GetSpacing() and mr.GetOrigin() == ct.GetOrigin()


def test_a_slice_that_is_not_there_is_named(files):
    mr, ct = read_pair(files / "mr.mha", files / "ct.mha")
    with pytest.raises(UserError, match="slice 3: the MR has 3 axial slices, 0 to 2"):
        place(sitk.JoinSeries([mr] * 3), sitk.JoinSeries([ct] * 3), Slices(), number=3)


def test_an_mr_without_contrast_is_named(files):
    mr, ct = read_pair(files / "mr.mha", files / "ct.mha")
    dark = mr * 0
    dark[60, 60] = 1
    with pytest.raises(UserError, match="no contrast"):
        place(dark, ct, Slices())


def test_what_is_placed_is_as_large_as_the_agent_wants(files):
    placed = place(*read_pair(files / "mr.mha", files / "ct.mha"), Slices(size=96))
    assert placed.fixed.shape == placed.moving.shape == (1, 96, 96)
