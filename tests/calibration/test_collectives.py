"""Collective operations over a real group of processes: every rank has stamps of every size, and the merged rows are sane."""

from pathlib import Path

import torch
import torch.multiprocessing as mp

from calibration.coordinator import _merge_stamps
from calibration.links import COLLECTIVES, time_links

SIZES = (1024, 8192)


def _rank(rank: int, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    rows = time_links(rank, ("a", "b"), meeting, SIZES, SIZES, torch.device("cpu"), "cpu")
    torch.save([(r["operation"], r["group"], r["size_bytes"], r["stamps_ns"]) for r in rows], Path(folder) / f"{rank}.pt")


def test_all_of_them_are_timed_on_both_ranks(tmp_path):
    mp.spawn(_rank, ((tmp_path / "meeting").as_uri(), str(tmp_path)), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for rows in found:
        timed = {(operation, size) for operation, group, size, _ in rows if group == ["a", "b"] and operation != "send_recv"}
        assert timed == {(operation, size) for operation in COLLECTIVES for size in SIZES}
    names = ("operation", "group", "size_bytes", "stamps_ns")
    merged = _merge_stamps(dict(zip(names, row, strict=True)) for rows in found for row in rows)
    for row in merged:
        if row["operation"] in COLLECTIVES:
            assert len(row["seconds"]) >= 30
            assert all(seconds > 0 for seconds in row["seconds"])
