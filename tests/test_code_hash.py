"""The hash of a script's code follows what it runs through the library."""

from textwrap import dedent

import pytest

from regagent.reproduction import code_hash as room


def clear():
    room._tree.cache_clear()
    room._module.cache_clear()
    room._names.cache_clear()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A library with a package in it, and a script that uses one function of a module."""
    monkeypatch.setattr(room, "PACKAGE", tmp_path)

    def write(name, text):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text))

    def digest():
        clear()
        return room.code_hash(tmp_path / "script.py")

    write("script", "from regagent.alpha import used\nused()\n")
    write(
        "alpha",
        '''
        """Alpha."""
        import numpy as np
        from regagent.beta import LIMIT, deep
        SCALE = 2
        def used():
            """Use."""
            return deep(SCALE) + np.pi
        def unused():
            return LIMIT
        ''',
    )
    write("__init__", '"""The library."""\n')
    write("beta", "LIMIT = 3\ndef deep(x):\n    from regagent.house.gamma import far\n    return far(x)\n")
    write("house/__init__", '"""The house."""\nfrom regagent.house.attic import roof\n')
    write(
        "house/gamma",
        "from regagent.house import roof\ndef far(x):\n    return roof(x)\ndef other(x):\n    return x\n",
    )
    write("house/attic", "def roof(x):\n    return x\ndef chimney(x):\n    return x\n")
    yield tmp_path, digest
    clear()


def replaced(folder, name, old, new):
    path = folder / f"{name}.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("alpha", '"""Use."""', '"""Use it."""  # with care'),
        ("alpha", '"""Alpha."""', '"""The first module."""'),
        ("alpha", "return LIMIT", "return 0"),  # not reached from the script
        ("beta", "LIMIT = 3", "LIMIT = 4"),
        ("house/gamma", "def other(x):\n    return x", "def other(x):\n    return 1"),
        ("house/attic", "def chimney(x):\n    return x", "def chimney(x):\n    return 1"),
        ("house/__init__", '"""The house."""', '"""The house, new."""'),
    ],
)
def test_what_the_script_does_not_run_leaves_the_hash(package, name, old, new):
    folder, digest = package
    before = digest()
    replaced(folder, name, old, new)
    assert digest() == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("script", "used()", "used(), used()"),
        ("alpha", "SCALE = 2", "SCALE = 3"),
        ("alpha", "+ np.pi", "- np.pi"),
        ("alpha", "import numpy as np", "import torch as np"),
        ("beta", "far(x)", "far(x + 1)"),
        ("house/gamma", "return roof(x)", "return -roof(x)"),
        ("house/attic", "def roof(x):\n    return x", "def roof(x):\n    return -x"),
        ("house/__init__", "import roof", "import chimney as roof"),
        ("house/__init__", '"""The house."""', 'print("a side effect")'),
        ("__init__", '"""The library."""', 'print("a side effect")'),
        ("beta", "LIMIT = 3", "LIMIT = 3\nprint('a side effect')"),
    ],
)
def test_what_the_script_runs_changes_the_hash(package, name, old, new):
    folder, digest = package
    before = digest()
    replaced(folder, name, old, new)
    assert digest() != before


def test_a_module_taken_whole_counts_whole(package):
    folder, digest = package
    replaced(
        folder,
        "script",
        "from regagent.alpha import used",
        "from regagent.house import gamma\nfrom regagent.alpha import used",
    )
    before = digest()
    replaced(folder, "house/gamma", "def other(x):\n    return x", "def other(x):\n    return 1")
    assert digest() != before


def test_the_description_of_a_setting_leaves_the_hash_and_its_default_does_not(package):
    folder, digest = package
    model = 'class Keys:\n    """Keys."""\n\n    scale: int = 2\n    """Factor."""\n\n\nSCALE = Keys.scale'
    replaced(folder, "alpha", "SCALE = 2", model)
    before = digest()
    replaced(folder, "alpha", '"""Factor."""', '"""Factor on the size, without unit."""')
    assert digest() == before
    replaced(folder, "alpha", "scale: int = 2", "scale: int = 3")
    assert digest() != before


@pytest.mark.parametrize(
    "form", ["from . import gamma", "from .gamma import far", "import regagent.house.gamma as g"]
)
def test_every_form_of_an_import_is_followed(package, form):
    folder, digest = package
    replaced(folder, "house/attic", "def roof(x):", f"{form}\ndef roof(x):\n    {form.split()[-1]}")
    before = digest()
    replaced(folder, "house/gamma", "return roof(x)", "return -roof(x)")
    assert digest() != before


@pytest.mark.parametrize(
    "line",
    [
        "from regagent.house import cellar",
        "from regagent.cellar import used",
        "from regagent.house.gamma import nothing",
        "import regagent.cellar",
        "def late():\n    from regagent.house import cellar",
    ],
)
def test_an_import_of_what_is_not_there_is_an_error(package, line):
    folder, digest = package
    (folder / "script.py").write_text(f"{line}\n")
    with pytest.raises(ImportError, match=r"script\.py, line \d: regagent\..* is nothing that"):
        digest()
