"""`python -m executor.agent`: torchrun, tied to the coordinator."""

from hetsim.lifeline import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    from torch.distributed.run import main

    main()
