"""The error tree: exit codes, several faults in one, survival of copying and pickling."""

import pickle

import pytest

from hetsim import errors
from hetsim.errors import HetsimError, Problem


def tree(kind):
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in tree(child))]


@pytest.mark.parametrize("kind", tree(HetsimError))
@pytest.mark.parametrize(
    "faults", ["plain", Problem("f.yaml:1:2", "got x", "Write y"), [Problem("", "a"), Problem("f", "b")]]
)
def test_survives_copying_and_pickling(kind, faults):
    error = kind(faults)
    for copy in (type(error)(*error.args), pickle.loads(pickle.dumps(error))):
        assert type(copy) is kind
        assert copy.problems == error.problems
        assert str(copy) == str(error)


class MuteError(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")


@pytest.mark.parametrize(
    ("error", "text"), [(ValueError("x"), "ValueError: x"), (KeyError(), "KeyError"), (MuteError(), "MuteError")]
)
def test_any_exception_can_be_described(error, text):
    assert errors.described(error) == text


def test_codes_are_unique_and_exit_codes_as_documented():
    kinds = tree(HetsimError)
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.__name__ in errors.__doc__ for kind in kinds)
    assert {kind.exit_code for kind in kinds} == {1, 2, 3, 4, 5, 6}


def test_text_names_place_fault_and_remedy():
    assert str(HetsimError(Problem("a.yaml:3:7", 'got "sixty"', "Write 60 GiB"))) == 'a.yaml:3:7: got "sixty". Write 60 GiB'


def test_text_that_a_terminal_would_obey_is_shown_instead():
    assert str(Problem("a\x1b[2J.yaml:1:1", "got \r\ud800 größe · 10 µs\nand more")) == (
        "a\\x1b[2J.yaml:1:1: got \\r\\ud800 größe · 10 µs\nand more"
    )
