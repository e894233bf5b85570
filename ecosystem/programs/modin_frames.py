"""modin on its dask engine: groups and joins as in pandas."""

import modin.config
import pandas

from distributed import Client


def main() -> None:
    modin.config.Engine.put("dask")
    modin.config.NPartitions.put(4)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None):
        import modin.pandas as pd

        plain = pandas.DataFrame({"k": [i % 5 for i in range(400)], "v": range(400)})
        frame = pd.DataFrame(plain)
        assert frame.groupby("k").v.sum().to_list() == plain.groupby("k").v.sum().to_list()
        names = {"k": range(5), "name": list("abcde")}
        joined = frame.merge(pd.DataFrame(names), on="k")
        assert joined[joined.name == "c"].v.sum() == plain[plain.k == 2].v.sum()
        assert frame.v.apply(lambda v: v % 2).sum() == 200
    print("modin_frames ok", len(joined))


if __name__ == "__main__":
    main()
