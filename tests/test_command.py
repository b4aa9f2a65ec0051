"""The command ``regagent``: files in, files out, exit codes, quick help, and the README's example."""

import json
import os
import re
import resource
import shlex
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from agents import export, export_networks
from heads import head
from markers import make_volumes, perfect_register, perfect_register_finely, turned
from workflow import ROOT

from regagent import __version__
from regagent.agent import agent_file
from regagent.agent.networks import ResidualNetwork
from regagent.command import outputs
from regagent.command import pair as registration
from regagent.command import register as register_module
from regagent.command.main import main
from regagent.command.outputs import write_together
from regagent.elastix import RegistrationFailed
from regagent.files import UserError

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return export(tmp_path_factory.mktemp("agent"), lookahead=9.0)


@pytest.fixture
def scale():
    """The size of the CT over that of the MR."""
    return 1.1


@pytest.fixture
def truth(scale):
    """Points of the MR to points of the CT, in mm."""
    return turned(scale)


@pytest.fixture
def pair(tmp_path, truth):
    """The folder with a pair of volumes, that of one of images, and a pair's arguments."""
    mr, ct = make_volumes(truth, np.diag([-1.0, -1.0, 1.0]))
    sitk.WriteImage(mr, tmp_path / "mr.nii.gz")
    sitk.WriteImage(ct, tmp_path / "ct.nii.gz")
    sitk.WriteImage(mr[:, :, 4], tmp_path / "mr.mha")
    sitk.WriteImage(ct[:, :, 5], tmp_path / "ct.mha")
    return tmp_path


def register(folder, model, *more, suffix="nii.gz"):
    arguments = {
        "--fixed": folder / f"mr.{suffix}",
        "--moving": folder / f"ct.{suffix}",
        "--model": model,
        "--transform-out": folder / "out" / "t.tfm",
        "--warped-out": folder / "out" / f"w.{suffix}",
        "--report": folder / "out" / "overlay.png",
    }
    words = [str(word) for item in arguments.items() for word in item]
    return main(["register", *words, *more])


def written(folder):
    return {path.name for path in (folder / "out").glob("*")}


@pytest.mark.parametrize(("suffix", "more"), [("nii.gz", ["--scale", "free"]), ("mha", [])])
def test_a_pair_is_registered(pair, model, monkeypatch, capsys, truth, suffix, more):
    monkeypatch.setattr(registration, "register", perfect_register)
    assert register(pair, model, *more, suffix=suffix) == 0
    assert written(pair) == {"t.tfm", f"w.{suffix}", "overlay.png"}
    found = sitk.ReadTransform(pair / "out" / "t.tfm")
    assert found.GetDimension() == (3 if suffix == "nii.gz" else 2)
    for point in ((30.0, -20.0, 700.0), (60.0, 20.0, 690.0), (-20.0, -60.0, 710.0)):
        expected = truth.TransformPoint(point)[: found.GetDimension()]
        assert found.TransformPoint(point[: found.GetDimension()]) == pytest.approx(expected, abs=1.5)
    mr, warped = (sitk.ReadImage(pair / path) for path in (f"mr.{suffix}", f"out/w.{suffix}"))
    assert warped.GetSize() == mr.GetSize() and warped.GetPixelID() == sitk.sitkInt16
    assert warped.GetOrigin() == pytest.approx(mr.GetOrigin(), abs=1e-3)
    discs = [sitk.GetArrayFromImage(image) > level for image, level in ((mr, 500), (warped, 500))]
    overlap = 2 * (discs[0] & discs[1]).sum() / (discs[0].sum() + discs[1].sum())
    assert overlap > 0.85
    said = capsys.readouterr()
    assert "Success estimate of a slice: 67%. Of 6 test cases" in said.out and said.err == ""
    assert bool(re.search(r"\b(\d+) of \1 slices reached", said.out)) == (suffix == "nii.gz")
    assert "The scale is fixed" not in said.out


@pytest.mark.parametrize(("suffix", "more"), [("nii.gz", []), ("mha", ["--scale", "fixed"])])
@pytest.mark.parametrize("scale", [1.0])
def test_the_scale_is_fixed(pair, model, monkeypatch, capsys, truth, suffix, more):
    monkeypatch.setattr(registration, "register", perfect_register)
    assert register(pair, model, *more, suffix=suffix) == 0
    found = sitk.ReadTransform(pair / "out" / "t.tfm")
    for point in ((30.0, -20.0, 700.0), (60.0, 20.0, 690.0), (-20.0, -60.0, 710.0)):
        expected = truth.TransformPoint(point)[: found.GetDimension()]
        assert found.TransformPoint(point[: found.GetDimension()]) == pytest.approx(expected, abs=1.0)
    if suffix == "mha":
        assert sitk.Similarity2DTransform(found).GetScale() == 1
    else:
        linear = np.reshape(sitk.AffineTransform(found).GetMatrix(), (3, 3))
        assert linear @ linear.T == pytest.approx(np.eye(3), abs=1e-12)
    said = capsys.readouterr().out
    assert re.search(r"The scale is fixed at 1 \(the agent saw (1\.00|0\.99)\d\)", said)
    rows = [line.split() for line in said.splitlines() if "reached it after" in line]
    assert rows and all(row[4] == "1.000" for row in rows)


@pytest.mark.parametrize(("suffix", "more"), [("nii.gz", []), ("mha", ["--scale", "fixed"])])
def test_a_size_that_differs_is_refused_where_the_scale_is_fixed(
    pair, model, monkeypatch, capsys, suffix, more
):
    monkeypatch.setattr(registration, "register", perfect_register)
    assert register(pair, model, *more, suffix=suffix) == 3
    assert "the CT looks 10% larger than the MR" in capsys.readouterr().err and written(pair) == set()


def test_one_slice_of_a_volume(pair, model, monkeypatch, capsys):
    monkeypatch.setattr(registration, "register", perfect_register)
    assert register(pair, model, "--slice", "4", "--scale", "free") == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "reached it after" in line]
    assert len(rows) == 1 and rows[0].split()[0] == "4"


def test_a_finished_agent_tells_the_error_that_it_predicts(pair, monkeypatch, capsys, tmp_path):
    finished = export(tmp_path, finisher=ResidualNetwork(width=1))
    monkeypatch.setattr(registration, "register_finely", perfect_register_finely)
    monkeypatch.setattr(registration, "distance_at", lambda *images: np.full(len(images[3]), 0.7))
    assert register(pair, finished, "--scale", "free", "--json", str(pair / "r.json")) == 0
    said, found = capsys.readouterr().out, json.loads((pair / "r.json").read_text())
    mm = found["success_mm"] / 2  # of a pixel
    assert f"chance of at most {2 * mm:.1f} mm, error expected" in said
    rows = [line.split() for line in said.splitlines() if " 100%  " in line]
    assert len(rows) == len(found["slices"]) > 3 and all(row[6] == f"{0.4 * mm:.1f}" for row in rows)
    assert f"{len(rows)} of {len(rows)} slices are likely to be right" in said
    # Of what is written: of the pair's own pose, in all of its slices.
    assert f"Expected error: {0.7 * mm:.1f} mm, in nine of ten such cases" in said
    assert "if every second pair does not: 100%." in said and "Success estimate" not in said
    assert found["registered"] and found["refusal"] is None and found["success_probability"] == 1
    assert found["expected_error_mm"] == pytest.approx(0.7 * mm, rel=0.02)
    assert found["slices"][0]["expected_error_mm"] == pytest.approx(0.4 * mm, rel=0.02)
    assert found["slices"][0].keys() == {"slice", *found} - {"refusal", "success_mm", "slices"}


def test_without_a_model_the_agent_of_the_software_registers(pair, model, monkeypatch, capsys):
    monkeypatch.setattr(registration, "register", perfect_register)
    images = ["--fixed", pair / "mr.mha", "--moving", pair / "ct.mha"]
    words = ["register", *images, "--transform-out", pair / "t.tfm"]
    for own, code in ((model, 0), (pair / "none.pt", 1)):
        monkeypatch.setattr(register_module, "OWN", own)
        monkeypatch.setattr(agent_file, "OWN", own)
        assert main(list(map(str, words))) == code
    assert "expected an agent (agent.pt); `make agent` makes it, or give" in capsys.readouterr().err


def test_a_refused_pair_is_told_to_other_programs_too(pair, monkeypatch, capsys, tmp_path):
    finisher = ResidualNetwork(width=1)
    finisher.trust[0] = 0
    finished = export(tmp_path, finisher=finisher)
    assert register(pair, finished, "--json", str(pair / "r.json")) == 3
    found = json.loads((pair / "r.json").read_text())
    assert f"I could not register this pair: {found['refusal']}\n" == capsys.readouterr().err
    assert "the agent sees a chance of 0% to lie within 2 px of the truth, expected at" in found["refusal"]
    assert not found["registered"] and not any(one["registered"] for one in found["slices"])
    assert found["expected_error_mm"] is None and found["success_probability"] < 0.5
    assert all(one["error_high_mm"] is None for one in found["slices"])
    assert written(pair) == set()


def test_a_pair_that_is_not_registered_leaves_no_file(pair, model, capsys):
    assert register(pair, model) == 3
    said = capsys.readouterr()
    assert said.err.startswith("I could not register this pair: in ")
    assert "never reached the threshold 9.00" in said.err and "Traceback" not in said.err
    assert "Success estimate" not in said.out
    assert written(pair) == set()


def test_force_writes_it_and_says_so_all_the_same(pair, model, capsys):
    assert register(pair, model, "--force", suffix="mha") == 3
    assert "I could not register this pair" in capsys.readouterr().err
    assert written(pair) == {"t.tfm", "w.mha", "overlay.png"}


@pytest.mark.parametrize(
    ("code", "more", "message"),
    [
        (1, ["--model", "nowhere"], "nowhere: no such file, expected an agent"),
        (1, ["--moving", "nowhere.nii.gz"], "nowhere.nii.gz: no such file"),
        (1, ["--moving", os.devnull], f"{os.devnull}: a pipe or a device, expected a file"),
        (1, ["--slice", "99"], "slice 99: the MR has 10 axial slices, 0 to 9"),
        (2, ["--transform-out", "t.json"], "t.json: expected a name that ends in .tfm, .txt"),
        (2, ["--warped-out", "w.png"], "w.png: expected a name that ends in .nii, .nii.gz, .mha, .nrrd"),
        (2, ["--report", "r.doc"], "r.doc: expected a name that ends in .png, .pdf, .svg, .html"),
        (2, ["--warped-out", "{ct}"], "ct.nii.gz: is named twice"),
        (1, ["--report", "{ct}/r.png"], "ct.nii.gz is a file, expected a folder"),
    ],
)
def test_a_fault_is_one_line(pair, model, capsys, code, more, message):
    more = [word.replace("{ct}", str(pair / "ct.nii.gz")) for word in more]
    assert register(pair, model, *more) == code
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and message in said[0]
    assert written(pair) == set()


def test_the_report_may_be_a_page_of_volumes(pair, model, monkeypatch, capsys):
    monkeypatch.setattr(registration, "register", perfect_register)
    assert register(pair, model, "--report", str(pair / "out/overlay.html"), "--scale", "free") == 0
    page = (pair / "out/overlay.html").read_text()
    assert "ct.nii.gz (CT) onto mr.nii.gz (MR)" in page and "Success estimate of a slice: 67%" in page
    capsys.readouterr()
    assert register(pair, model, "--report", str(pair / "out/o.html"), suffix="mha") == 2
    assert "a page shows volumes, found 2D images" in capsys.readouterr().err


def no_room(*arguments, **keys):
    raise UserError("cannot be written whole; is the disk full?")


@pytest.mark.parametrize(
    ("place", "broken"),
    [
        ("command.register.STYLE", "nowhere.mplstyle"),
        ("command.register.write_transform", no_room),
        ("command.register.write_image", no_room),
        ("command.register.draw_overlay", no_room),
        ("files.DATA", ROOT / "docs"),  # where no parameter map is
    ],
)
def test_a_fault_leaves_what_was_written_before(pair, model, monkeypatch, capsys, place, broken):
    monkeypatch.setattr(registration, "register", perfect_register)
    (pair / "out").mkdir()
    (pair / "out" / "t.tfm").write_text("of yesterday")
    monkeypatch.setattr(f"regagent.{place}", broken)
    assert register(pair, model, *(["--refine"] if place == "files.DATA" else []), suffix="mha") == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert written(pair) == {"t.tfm"} and (pair / "out" / "t.tfm").read_text() == "of yesterday"


FAULT = RuntimeError("Exception thrown in SimpleITK:\nsitk::ERROR: it overflows\n")


@pytest.mark.parametrize(
    ("place", "error", "message"),
    [
        ("read_pair", OSError(5, "Input/output error", "/mnt/x.nii"), "/mnt/x.nii: Input/output error"),
        ("read_pair", OSError("the disk is gone"), "OSError: the disk is gone"),
        ("place", ValueError("a shape does not fit"), "ValueError: a shape does not fit"),
        ("place", ValueError(""), "ValueError"),
        ("register_pair", RegistrationFailed("it is not finite"), "RegistrationFailed: it is not finite"),
        ("register_pair", MemoryError(), "MemoryError"),
        ("resample", MemoryError("3 GiB"), "MemoryError: 3 GiB"),
        ("write_transform", FAULT, "RuntimeError: it overflows"),
        ("draw_overlay", FAULT, "RuntimeError: it overflows"),
    ],
)
@pytest.mark.parametrize("scale", [1.0])
def test_an_error_of_a_library_is_one_line(pair, model, monkeypatch, capsys, place, error, message):
    def broken(*arguments, **keys):
        raise error

    monkeypatch.setattr(registration, "register", perfect_register)
    monkeypatch.setattr(f"regagent.command.register.{place}", broken)
    assert register(pair, model) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert message in said
    assert written(pair) == set()


def test_a_folder_that_may_not_be_written_into_is_named_first(pair, monkeypatch, capsys):
    monkeypatch.setattr(outputs.os, "access", lambda path, mode: False)
    assert register(pair, "no agent") == 1
    said = capsys.readouterr().err
    assert said == f"error: {pair}/out/t.tfm: cannot be written: no permission to write into {pair}\n"


def test_a_write_protected_output_is_named_first(pair, capsys):
    (pair / "out").mkdir(exist_ok=True)
    (pair / "out" / "t.tfm").write_text("of yesterday")
    (pair / "out" / "t.tfm").chmod(0o444)
    assert register(pair, "no agent") == 1
    said = capsys.readouterr().err
    assert said == f"error: {pair}/out/t.tfm: is write-protected; remove it, or name another file\n"


def test_a_disk_without_room_for_all_files_gets_none(tmp_path):
    few, many = tmp_path / "few.csv", tmp_path / "many.csv"
    few.write_text("of yesterday")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(UserError, match="many.csv: cannot be written"), write_together() as stage:
            stage(few).write_text("of today")
            stage(many).write_text("of today" * 100)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # no file grows further
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["few.csv"] and few.read_text() == "of yesterday"


@pytest.mark.parametrize(
    "arguments",
    [[], ["register"], ["apply", "--transform", "t.tfm", "--out", "o.csv"], ["register", "--slice", "x"]],
)
def test_a_wrong_command_line_ends_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: regagent" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "register --help", "apply --help", "datasets --help", "register --start up"],
)
def test_what_needs_no_library_waits_for_none(arguments):
    program = f"""
import sys
from regagent.command.main import main
try:
    main({arguments.split()})
finally:
    print(*sys.modules, file=sys.stderr)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow_scripts")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == (2 if "up" in arguments else 0)
    loaded = set(done.stderr.split())
    assert "regagent.command.main" in loaded
    heavy = {"cv2", "itk", "matplotlib", "numpy", "pandas", "pydantic", "scipy", "SimpleITK", "torch"}
    assert not heavy & loaded


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"regagent {__version__}\n"


def test_2d_images_have_no_slices(pair, model, capsys):
    for number in ([], ["0"]):
        assert register(pair, model, "--slice", *number, suffix="mha") == 2
        assert "--slice is for volumes" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["register", "apply"])
def test_the_help_tells_units_and_direction(name, capsys):
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert end.value.code == 0
    assert "maps points of the fixed image (the MR) to points of the moving image (the CT), in mm" in text
    assert "x to the patient's left, y to the back, z to the head (LPS)" in text
    assert "exit codes" in text


def test_the_module_runs_as_a_command(tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "regagent", *arguments],
            cwd=ROOT / "workflow_scripts",
            capture_output=True,
            text=True,
        )

    done = run("apply", "--transform", tmp_path / "no.tfm", "--points", "p.csv", "--out", "o.csv")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/no.tfm: no such file, expected a transform (.tfm, .txt, .h5)\n"


def test_the_readmes_example_runs_as_written(tmp_path, monkeypatch, capsys):
    """Word for word, on a small head in the places of the default run's files; the networks take anything."""
    monkeypatch.setattr(register_module, "SPACE", export_networks(tmp_path / "space.pt", chance=1.0))
    blocks = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    example = next(block for block in blocks if "regagent apply" in block)
    commands = [
        shlex.split(line, comments=True) for line in example.replace("\\\n", " ").splitlines() if line
    ]
    used = [word for command in commands for word in command if word.startswith("results/")]
    mr, ct, _ = head(shape=(30, 60, 50), spacing=(4.0, 4.0, 6.0))
    monkeypatch.chdir(tmp_path)
    for path in map(tmp_path.joinpath, used):
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(mr if "mr" in path.name else ct, path)
    table = next(line for line in example.splitlines() if line.startswith("printf"))
    subprocess.run(["bash", "-c", table], check=True)
    commands = [command for command in commands if command[0] != "printf"]
    assert [command[:2] for command in commands] == [["regagent", "register"], *2 * [["regagent", "apply"]]]
    for _, *arguments in commands:
        assert main(arguments) == 0, capsys.readouterr().err
        outputs = {"--transform-out", "--warped-out", "--report", "--out"}
        for option, value in zip(arguments, arguments[1:], strict=False):
            assert option not in outputs or (tmp_path / value).stat().st_size > 0
