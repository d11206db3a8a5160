"""What no split can keep equal is said, and nothing else is."""

import pytest
from torch import nn

from hetsim.models.unequal import unequal_layers
from hetsim.models.zoo import build
from hetsim.scenario.types import NetworkSpec
from hetsim.workload import Training


@pytest.mark.parametrize(("norm", "said"), [("batch", 1), ("group", 0), ("none", 0)])
def test_batch_norm_is_told_of_and_group_norm_is_not(norm, said):
    network = build(NetworkSpec("vgg", Training(8), zoo="vgg", arguments={"image": 8, "norm": norm}), 0)
    sentences = unequal_layers(network.model)
    assert len(sentences) == said
    assert all(sentence.startswith("BatchNorm2d takes its statistics over the microbatch") for sentence in sentences)


def test_dropout_is_told_of_wherever_it_hides():
    (sentence,) = unequal_layers(nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1)), nn.Dropout2d(0.1)))
    assert sentence.startswith("Dropout, Dropout2d draws its random numbers on each device")
