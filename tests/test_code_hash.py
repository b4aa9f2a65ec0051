"""The hash of a script's code follows what it runs through the library."""

from textwrap import dedent

import pytest

from regagent import code_hash as room


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A library of two modules and a script that uses one function of one of them."""
    monkeypatch.setattr(room, "PACKAGE", tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(dedent(text))

    def digest():
        room._module.cache_clear()
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
    write("beta", "LIMIT = 3\ndef deep(x):\n    from regagent.gamma import far\n    return far(x)\n")
    write("gamma", "def far(x):\n    return x\ndef other(x):\n    return x\n")
    yield tmp_path, digest
    room._module.cache_clear()


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
        ("gamma", "def other(x):\n    return x", "def other(x):\n    return 1"),
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
        ("gamma", "def far(x):\n    return x", "def far(x):\n    return -x"),
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
        "from regagent import gamma\nfrom regagent.alpha import used",
    )
    before = digest()
    replaced(folder, "gamma", "def other(x):\n    return x", "def other(x):\n    return 1")
    assert digest() != before
