"""Transform files: read, checked and written whole.

A transform maps points of the fixed image to points of the moving one, in mm in ITK's world: x to the
patient's left, y to the back, z to the head (LPS).
"""

import math
import os
import re
import struct
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from regagent.files import UserError, itk_name, naming, write_whole
from regagent.process import quiet_itk, silent_stderr

#: Transforms are written as text only: where a disk is full, HDF5 makes ITK crash as the program ends.
WRITTEN_SUFFIXES = (".tfm", ".txt")
READ_SUFFIXES = (*WRITTEN_SUFFIXES, ".h5")

#: What the content of ITK's text and of HDF5 begins with.
TEXT, HDF5 = b"#Insight Transform File", b"\x89HDF"

#: What stands in a binary file once for each transform: in HDF5, and in a .mat.
MARKS = (b"TransformType", b"fixed\0")

#: What is said of a file of several transforms, of which ITK reads the first alone.
SEVERAL = (
    "holds several transforms that are not joined to one, expected one; join them as a CompositeTransform"
)

#: What a class ends with in every format: the dimensions of the points that it maps, and of those it maps to.
DIMENSIONS = re.compile(rb"Transform(?:Base)?_(?:double|float)_(\d)_(\d)")

#: The number of Parameters in 2D and in 3D, of classes that ITK reads without counting them.
PARAMETERS = {
    "AffineTransform": (6, 12),
    "TranslationTransform": (2, 3),
    "ScaleTransform": (2, 3),
    "Euler2DTransform": (3, None),
    "Rigid2DTransform": (3, None),
    "Similarity2DTransform": (4, None),
    "Euler3DTransform": (None, 6),
    "VersorTransform": (None, 3),
    "VersorRigid3DTransform": (None, 6),
    "Similarity3DTransform": (None, 7),
    "QuaternionRigidTransform": (None, 7),
    "ScaleVersor3DTransform": (None, 9),
    "ComposeScaleSkewVersor3DTransform": (None, 12),
    "ScaleSkewVersor3DTransform": (None, 15),
}

#: The first of the angles among the Parameters, and their number.
ANGLES = {
    "Euler2DTransform": (0, 1),
    "Rigid2DTransform": (0, 1),
    "Similarity2DTransform": (1, 1),
    "Euler3DTransform": (0, 3),
}

#: How far the norm of a rounded quaternion or versor may lie from what it must be.
NORM_TOLERANCE = 1e-3

#: A matrix whose smallest singular value is less than this part of its largest is taken as singular.
SINGULAR = 1e-6

#: Texts of other programs: what is found in them, what they are, and what to do.
OTHERS = {
    r"(?m)^\((Transform|FixedImage|FixedInternalImage)\w* ": (
        "an elastix parameter file, which ITK does not read; with (ITKTransformOutputFileNameExtension"
        ' "tfm") among its parameters elastix writes an ITK transform too'
    ),
    r"(?m)^nxforms\s*=": (
        "a FreeSurfer .lta, which ITK does not read; `lta_convert --inlta IN.lta --outitk OUT.txt` writes an"
        " ITK transform"
    ),
    r"(?m)^(MNI Transform File|Transform_Type\s*=)": (
        "an MNI .xfm, whose coordinates run to the patient's right and front (RAS), which ITK takes for LPS;"
        " write it as an ITK transform first"
    ),
    r"\A\s*[{\[]": "a JSON file, expected a transform",
}


def read_transform(
    path: str | Path, inverse: bool = False, patient: str | None = None, dimension: int | None = None
) -> sitk.Transform:
    """Read a transform of 2D or 3D points, or its inverse; ``dimension`` (2 or 3) accepts only one of them.

    The formats are those of ITK: its text, HDF5, and the .mat of ANTs. Raises ``UserError`` naming the file
    and, if given, the patient: for a file that is missing, damaged or of another program, for several
    transforms in one file, for numbers that are not finite, for a singular matrix, for another dimension, and
    for an inverse that does not exist.
    """
    where = f"patient {patient}: transform {path}" if patient else f"{path}"
    itk_name(path)
    if not Path(path).exists():
        raise UserError(f"{where}: no such file, expected a transform ({', '.join(READ_SUFFIXES)})")
    try:
        with naming(where):
            transform = _read(Path(path), where)
    except (RuntimeError, MemoryError) as error:
        lacking = re.search(r"Could not create an instance of (\S+)", str(error))
        known = f"{', '.join(READ_SUFFIXES)}, or a .mat of ANTs"
        raise UserError(
            f"{where}: not a transform that ITK reads ({known}), or a damaged one"
            f"{': ITK knows no ' + lacking[1] if lacking else ''}"
        ) from error
    _check_numbers(transform, where)
    found = transform.GetDimension()
    if dimension not in (None, found):
        raise UserError(f"{where}: maps points in {found}D, expected {dimension}D")
    return _inverse(transform, where) if inverse else transform


def _read(path: Path, where: str) -> sitk.Transform:
    """Read a file that ITK knows by its content. Its name may have another suffix, or one in capitals."""
    if path.is_dir():
        raise UserError(f"{where}: a folder, expected the file of a transform")
    with path.open("rb") as file:
        start = file.read(4096)
    if other := _other_kind(start):
        raise UserError(f"{where}: {other}")
    content = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        if TEXT in start or re.search(rb"(?m)^Transform:", start) or path.suffix.lower() in (".tfm", ".txt"):
            text = content.decode("utf-8-sig", errors="replace")
            _check_text(text, where)
            known = Path(folder, "transform.tfm")
            # C3D and early versions of ANTs name a class that SimpleITK lacks; its parameters are the same.
            known.write_text(text.replace("MatrixOffsetTransformBase_", "AffineTransform_"), encoding="utf-8")
        else:
            if path.suffix.lower() == ".mat":
                _check_mat(content, where)
            if max(map(content.count, MARKS)) > 1 and b"CompositeTransform" not in content:
                raise UserError(f"{where}: {SEVERAL}")
            suffix = ".h5" if start.startswith(HDF5) else path.suffix.lower()
            known = Path(folder, f"transform{suffix}")
            known.symlink_to(os.path.realpath(path))
        _check_dimensions(content, where)
        with quiet_itk(), silent_stderr():
            try:
                return sitk.ReadTransform(str(known))
            except KeyError as error:  # SimpleITK has no class for this one
                raise UserError(
                    f"{where}: SimpleITK cannot read a transform of this class; write it as an affine one"
                ) from error
            except RuntimeError as error:
                if other := _image(path):
                    raise UserError(f"{where}: {other}") from error
                raise


def _other_kind(start: bytes) -> str | None:
    """Say what a file is by its first bytes, and what to do, if it is one that ITK does not read."""
    if not start.strip():
        return "empty, expected a transform"
    if start.startswith(b"\x93NUMPY"):
        return "an array of NumPy, which does not say what it maps; write it as an ITK transform"
    if start.startswith(b"MATLAB 5.0"):
        return "a MATLAB file, but none of ITK or ANTs"
    text = start.decode("utf-8-sig", errors="replace")
    for pattern, what in OTHERS.items():
        if re.search(pattern, text):
            return what
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    try:
        sizes = [len([float(word) for word in row]) for row in rows]
    except ValueError:
        return None
    if sizes == [4, 4, 4, 4]:
        return (
            "a matrix (4, 4) in text, which does not say what it maps; one of FSL's FLIRT becomes an ITK"
            " transform by `c3d_affine_tool -ref FIXED -src MOVING MATRIX -fsl2ras -oitk OUT.txt`"
        )
    if sizes in ([12], [4, 4, 4]):
        return "a matrix (3, 4) in text, as AFNI's .1D, which ITK does not read; write it as an ITK transform"
    return None


def _image(path: Path) -> str | None:
    """Say what an image is that is given for a transform, None for a file that is no image."""
    if not sitk.ImageFileReader.GetImageIOFromFileName(str(path)):
        return None
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    try:
        header.ReadImageInformation()
    except RuntimeError:
        return None
    if header.GetNumberOfComponents() != header.GetDimension():
        return "an image, expected a transform"
    return (
        f"an image of {header.GetDimension()} values a voxel, expected a transform; of a displacement field"
        " of ITK or ANTs make one by SimpleITK.DisplacementFieldTransform, and write it to a .h5"
    )


def _check_text(text: str, where: str) -> None:
    """Check the numbers of ITK's text. ITK takes what lacks for 0, or reads what lies behind in memory."""
    blocks: list[dict[str, str]] = []
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name == "Transform":
            blocks.append({})
        if blocks and name in blocks[-1]:
            raise UserError(f"{where}: {name} stands twice in one transform, expected it once")
        if blocks and not line.startswith("#"):
            blocks[-1][name] = value.strip()
    if not blocks:
        raise UserError(f"{where}: not a transform that ITK reads: it has no line 'Transform: ...'")
    if len(blocks) > 1 and not blocks[0]["Transform"].startswith("CompositeTransform"):
        raise UserError(f"{where}: {SEVERAL}")
    if len(blocks) == 1 and blocks[0]["Transform"].startswith("CompositeTransform"):
        raise UserError(f"{where}: cut off: a CompositeTransform of nothing")
    for block in blocks:
        stated = block["Transform"].replace("MatrixOffsetTransformBase", "AffineTransform")
        if not DIMENSIONS.search(stated.encode()):
            raise UserError(
                f"{where}: its transform is {stated!r}, expected a class with its numbers and"
                " dimension, as AffineTransform_double_3_3"
            )
        kind, *_, dimension = stated.split("_")
        if kind == "CompositeTransform":
            continue
        for name in ("Parameters", "FixedParameters"):
            if name not in block:
                raise UserError(f"{where}: cut off: {kind} without {name}")
            for word in block[name].split():
                if not _is_finite(word):
                    raise UserError(f"{where}: {name} of {kind} hold {word!r}, expected finite numbers (1.5)")
        _check_parameters(kind, dimension, [float(word) for word in block["Parameters"].split()], where)


def _check_dimensions(content: bytes, where: str) -> None:
    """Check that all classes named in a file are of one dimension. ITK joins others, and reads any memory."""
    found = {int(dimension) for pair in DIMENSIONS.findall(content) for dimension in pair}
    if len(found) > 1:
        named = " and ".join(f"{dimension}D" for dimension in sorted(found))
        raise UserError(
            f"{where}: holds transforms of {named}, expected one dimension; write all its parts in 2D or all"
            " in 3D"
        )


def _check_mat(content: bytes, where: str) -> None:
    """Check that pairs of matrices of MATLAB 4, Parameters and fixed, fill a file to its end."""
    found: list[tuple[str, list[float]]] = []
    place = 0
    try:
        while place < len(content):
            # Thousands of the first word are 1 in a file whose bytes are big-endian.
            order = ">" if struct.unpack_from(">i", content, place)[0] // 1000 == 1 else "<"
            kind, rows, columns, imaginary, length = struct.unpack_from(f"{order}5i", content, place)
            name = struct.unpack_from(f"{length}s", content, place + 20)[0].split(b"\0")[0].decode("latin-1")
            layout = f"{order}{rows * columns}{'f' if kind // 10 % 10 else 'd'}"
            found.append((name, list(struct.unpack_from(layout, content, place + 20 + length))))
            place += 20 + length + struct.calcsize(layout) * (2 if imaginary else 1)
    except struct.error as error:
        if not found:
            raise RuntimeError("no matrix of MATLAB 4") from error
        place = -1
    if place != len(content) or {name for name, _ in found[1::2]} != {"fixed"} or len(found) % 2:
        raise UserError(
            f"{where}: cut off or damaged: its matrices do not fill its {len(content)} bytes, expected pairs"
            " of Parameters and fixed"
        )
    for name, numbers in found[::2]:
        if not DIMENSIONS.search(name.encode()):
            raise UserError(
                f"{where}: its matrix is named {name[:60]!r}, expected a class of ITK with its numbers and"
                " dimension, as AffineTransform_double_3_3"
            )
        kind_of, *_, dimension = name.split("_")
        _check_parameters(kind_of, dimension, numbers, where)


def _check_parameters(kind: str, dimension: str, numbers: list[float], where: str) -> None:
    """Check the number of Parameters, and the rotation that they state. ITK makes a wrong one another."""
    expected = PARAMETERS.get(kind, (None, None))[dimension == "3"]
    if expected and len(numbers) != expected:
        raise UserError(f"{where}: {kind} with {len(numbers)} Parameters, expected {expected}")
    first, count = ANGLES.get(kind, (0, 0))
    for angle in numbers[first : first + count]:
        if abs(angle) > 2 * math.pi:
            raise UserError(f"{where}: {kind} with an angle of {angle:g}; degrees? expected radians")
    if kind == "QuaternionRigidTransform":
        norm = math.hypot(*numbers[:4])
        if abs(norm - 1) > NORM_TOLERANCE:
            raise UserError(f"{where}: {kind} with a quaternion of norm {norm:.4g}, expected 1")
    elif "Versor" in kind or kind == "Similarity3DTransform":
        norm = math.hypot(*numbers[:3])
        if norm > 1 + NORM_TOLERANCE:
            raise UserError(f"{where}: {kind} with a versor of norm {norm:.4g}, expected 1 at most")


def _is_finite(word: str) -> bool:
    try:
        return math.isfinite(float(word)) and "_" not in word  # Python takes 1_0 for 10
    except ValueError:
        return False


def parts(transform: sitk.Transform) -> list[sitk.Transform]:
    """Return the transforms that a transform is made of; of a simple one itself."""
    if not isinstance(transform, sitk.CompositeTransform):
        return [transform]
    return [transform.GetNthTransform(number) for number in range(transform.GetNumberOfTransforms())]


def _check_numbers(transform: sitk.Transform, where: str) -> None:
    for part in parts(transform):
        if isinstance(part, sitk.DisplacementFieldTransform):
            numbers = sitk.GetArrayViewFromImage(part.GetDisplacementField())
        else:
            numbers = np.array([*part.GetParameters(), *part.GetFixedParameters()])
        if not np.isfinite(numbers).all():
            raise UserError(
                f"{where}: its {part.GetName()} holds NaN or infinite numbers, expected finite ones"
            )
        if part.IsLinear():
            _check_parameters(part.GetName(), str(part.GetDimension()), list(part.GetParameters()), where)
            size = part.GetDimension()
            corners = [part.TransformPoint(point) for point in np.eye(size + 1, size, -1).tolist()]
            values = np.linalg.svd(np.subtract(corners[1:], corners[0]), compute_uv=False)
            if values[-1] <= SINGULAR * values[0]:
                raise UserError(
                    f"{where}: its {part.GetName()} is singular: it maps all points into a plane, a line or"
                    " one point"
                )


def count_beyond_fields(transform: sitk.Transform, points: NDArray[np.float64]) -> int:
    """Return how many of the points (N, K) in mm come to lie beyond a displacement field of the transform.

    K is the transform's dimension. ITK takes the displacement there for 0.
    """
    places = points.tolist()
    beyond = np.zeros(len(places), bool)
    for part in reversed(parts(transform)):  # a composite applies its last transform first
        if isinstance(part, sitk.DisplacementFieldTransform):
            field = part.GetDisplacementField()
            size = np.array(field.GetSize())
            indices = [field.TransformPhysicalPointToContinuousIndex(place) for place in places]
            middle = np.array(indices).reshape(-1, len(size)) - (size - 1) / 2
            beyond |= (np.abs(middle) > size / 2).any(1)
        places = [part.TransformPoint(place) for place in places]
    return int(beyond.sum())


def _inverse(transform: sitk.Transform, where: str) -> sitk.Transform:
    for part in parts(transform):
        try:
            part.GetInverse()
        except RuntimeError as error:
            raise UserError(
                f"{where}: its {part.GetName()} has no inverse; give the transform of the other direction"
                " without --inverse"
            ) from error
    return transform.GetInverse()


def write_transform(transform: sitk.Transform, path: str | Path) -> None:
    """Write a transform whole. Raises ``UserError``, also for a full disk, of which ITK says nothing."""
    itk_name(Path(path).parent)
    with write_whole(path) as temporary:
        try:
            sitk.WriteTransform(transform, str(temporary))
            whole = np.allclose(_numbers(sitk.ReadTransform(str(temporary))), _numbers(transform))
        except (RuntimeError, ValueError):
            whole = False
        if not whole:
            raise UserError(f"{path}: cannot be written whole; is the disk full?")


def _numbers(transform: sitk.Transform) -> list[float]:
    return [*transform.GetParameters(), *transform.GetFixedParameters()]
