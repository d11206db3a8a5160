"""What is no file of text is told apart before anything is made of it."""

import os

import pytest

from hetsim.errors import InputError
from hetsim.reading import read_text


def fault_of(path):
    with pytest.raises(InputError) as caught:
        read_text(path, InputError)
    (problem,) = caught.value.problems
    return problem


def test_a_pipe_is_refused_at_once_because_it_cannot_be_read_again(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a pipe or a device, expected a file" in fault_of(tmp_path / "pipe").what


def test_a_link_to_nothing_is_not_offered_in_its_own_place(tmp_path):
    (tmp_path / "scenario.yaml").symlink_to("nowhere")
    problem = fault_of(tmp_path / "scenario.yaml")
    assert (problem.what, problem.help) == ("there is no such file", "")


@pytest.mark.parametrize(("name", "said"), [("x" * 5000, "File name too long"), ("a\0b", "embedded null byte")])
def test_a_name_that_no_file_can_have(tmp_path, name, said):
    assert fault_of(tmp_path / name).what == f"cannot be read: {said}"
