"""A scenario around an imported profile, to start from: the network as numbers, and devices that exist on paper."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from hetsim.costs.profiles.profile import Profile
from hetsim.workload import Chain, Layer


def scenario_text(profile: Profile, name: str, costs: str) -> str:
    """A scenario file that plans `profile` from the cost table `costs`, a path relative to it.

    The cluster is a stand-in, and says so: no profile tells what links the devices, or how many there are.
    Raises ValueError where the profile does not describe its network.
    """
    chain = profile.chain
    if chain is None:
        raise ValueError("the profile does not say how large the network's layers are")
    kinds = profile.device_types
    count = 1 if len(kinds) > 1 else 2
    devices = ", ".join(f"{json.dumps(kind)}: {count}" for kind in kinds)
    batch = max(row.microbatch for row in profile.rows)
    lines = [
        *(f"# {note}" for note in profile.notes),
        "hetsim: 1",
        f"name: {json.dumps(name)}",
        "networks:",
        f"  {json.dumps(profile.network)}:",
        f"    costs: {json.dumps(costs, ensure_ascii=False)}",
        f"    input: {chain.input_bytes_per_sample}",
        "    layers: # parameters in elements; output and saved in bytes per sample",
        *_layer_lines(chain),
        f"training: {{global_batch: {batch}}} # the largest batch of the profile",
        "cluster: # a stand-in: write here what you have. Memory is taken as unlimited where it is not written",
        f"  device_types: {{{', '.join(f'{json.dumps(kind)}: {{}}' for kind in kinds)}}}",
        "  nodes:",
        f"    - {{name: host, devices: {{{devices}}}, link: {{latency: 10 us, bandwidth: 12 GB/s}}}}",
    ]
    return "\n".join(lines) + "\n"


def _layer_lines(chain: Chain) -> Iterator[str]:
    for layer in chain.layers:
        parameters = _numbers(layer)
        parts = [f"name: {json.dumps(layer.name)}"]
        parts += [f"parameters: {parameters}"] if parameters else []
        parts += [f"output: {layer.output_bytes_per_sample}", f"saved: {layer.saved_bytes_per_sample}"]
        yield f"      - {{{', '.join(parts)}}}"


def _numbers(layer: Layer) -> str:
    sizes: Sequence[int] = layer.parameters
    return str(sizes[0]) if len(sizes) == 1 else str(list(sizes)) if sizes else ""
