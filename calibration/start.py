"""`python -m calibration.start`: a worker, tied to the coordinator before the seconds that importing torch takes."""

from hetsim.lifeline import die_with_parent

if __name__ == "__main__":
    die_with_parent()
    from calibration.worker import main

    main()
