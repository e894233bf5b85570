"""dask.bag: words counted, groups, a join."""

import dask.bag as db

from distributed import Client

LINES = ["the cat sat", "the dog ran", "a cat ran"] * 20


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        words = db.from_sequence(LINES, npartitions=6).map(str.split).flatten()
        assert dict(words.frequencies()) == {"the": 40, "cat": 40, "sat": 20, "dog": 20, "ran": 40, "a": 20}
        by_length = words.groupby(len).map(lambda pair: (pair[0], len(pair[1]))).compute()
        assert sorted(by_length) == [(1, 20), (3, 160)]
        pets = words.distinct().join(["cat", "dog"], lambda pet: pet, lambda word: word)
        assert sorted(pets.pluck(0).compute()) == ["cat", "dog"]
        assert words.map(len).mean().compute() == 500 / 180
    print("bags ok", len(LINES))


if __name__ == "__main__":
    main()
