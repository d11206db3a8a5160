"""The executor: runs plans for real with torch.distributed, one process a device, and records each action.

`executor.launch.run` is the way in. Only the workers, and the coordinator while a run lasts, import torch.
"""
