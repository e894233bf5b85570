"""adaptive: a learner that asks the cluster for the points it wants next."""

import asyncio

import adaptive

from distributed import Client


def bump(x: float) -> float:
    return 1 / (1 + 50 * x * x)


def main() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())
    learner = adaptive.Learner1D(bump, bounds=(-1, 1))
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        adaptive.BlockingRunner(learner, npoints_goal=40, executor=client)
    assert learner.npoints >= 40
    print("adaptive_learner ok", learner.npoints >= 40)


if __name__ == "__main__":
    main()
