"""Network specifications for the tests of the models: the zoo in small."""

from hetsim.scenario.types import NetworkSpec
from hetsim.workload import Training

SMALL = {
    "mlp": {"features": 12, "width": 16, "depth": 3, "classes": 5},
    "vgg": {"image": 8, "width": 4, "levels": 2, "depth": 2, "hidden": 16, "classes": 5},
    "resnet": {"image": 8, "width": 4, "levels": 2, "depth": 2, "classes": 5},
    "gpt": {"vocabulary": 11, "sequence": 6, "width": 8, "depth": 2, "heads": 2},
    "bert": {"vocabulary": 11, "sequence": 6, "width": 8, "depth": 2, "heads": 2, "classes": 5},
}


def zoo_spec(zoo: str, **sizes: object) -> NetworkSpec:
    """The zoo's network in small, with some sizes changed."""
    return NetworkSpec(f"my-{zoo}", Training(global_batch=8), zoo=zoo, arguments={**SMALL[zoo], **sizes})
