"""The commands that start a job on its nodes: for people, for Slurm, and for the coordinator where torch elastic shall restart."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping

from executor.job import Job
from hetsim.hardware import Node
from hetsim.hardware.reach import nodes_of

PORT = 29500
"""Where the nodes meet on the first of them; torch's own default."""


def commands(job: Job, *, port: int = PORT, max_restarts: int = 0) -> dict[str, list[str]]:
    """The torchrun command to give on each node that `job` uses: node name -> words.

    The first node is where all meet, on `port`; where it has no address, its name must be one. All nodes need this project and the
    job's file at the same paths as here. The first one gets the records of all, for `executor.results.collect`.
    """
    nodes = nodes_of(job.cluster, job.devices)
    first = nodes[0].address or nodes[0].name
    meeting = ["--standalone"]
    if len(nodes) > 1:
        meeting = ["--nnodes", str(len(nodes)), "--master-addr", first, "--master-port", str(port)]
    restarts = ["--max-restarts", str(max_restarts)] if max_restarts else []
    found = {}
    for rank, node in enumerate(nodes):
        count = sum(job.cluster.device(name).node == node.name for name in job.devices)
        place = ["--node-rank", str(rank)] if len(nodes) > 1 else []
        worker = ["-m", "executor.worker", str(job.path), "--on-node", node.name]
        found[node.name] = [
            *(sys.executable, "-m", "torch.distributed.run", *meeting, *place, "--nproc-per-node", str(count)),
            *(*restarts, *worker),
        ]
    return found


def slurm_script(job: Job, name: str, lines: Mapping[str, list[str]]) -> str:
    """A batch script that gives each node its command of `lines`: sbatch takes it as it is.

    Slurm has to know the nodes by the names that the scenario has for them, or by what ssh is given there.
    """
    nodes = {node.name: node for node in nodes_of(job.cluster, job.devices)}
    cases = "\n".join(f"  {_host(nodes[node])}) exec {shlex.join(words)} ;;" for node, words in lines.items())
    return f"""#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={len(lines)}
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --nodelist={",".join(_host(nodes[node]) for node in lines)}
srun --kill-on-bad-exit=1 bash <<'EACH'
case "${{SLURMD_NODENAME:-$(hostname -s)}}" in
{cases}
  *) echo "$(hostname -s) is no node of {name}" >&2; exit 2 ;;
esac
EACH
"""


def _host(node: Node) -> str:
    return node.ssh.rpartition("@")[2] or node.name
