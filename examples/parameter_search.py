"""as_completed: a search that submits the next guesses around the best one as soon as results come."""

from __future__ import annotations

from distributed import Client, as_completed


def score(x: int) -> tuple[int, int]:
    """How bad ``x`` is, and ``x``."""
    return (x - 37) ** 2 + 5, x


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        best, tried = (10**9, -1), set(range(0, 200, 20))
        running = as_completed(client.map(score, sorted(tried)))
        for future in running:
            found = future.result()
            if found < best:
                best = found
                for x in {found[1] + step for step in (-7, -1, 1, 7)} - tried:
                    tried.add(x)
                    running.add(client.submit(score, x))
        print("best:", best)


if __name__ == "__main__":
    main()
