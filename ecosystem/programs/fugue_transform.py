"""fugue: a function of pandas frames, and a statement of SQL, on frames of dask."""

import pandas as pd
from fugue import transform
from fugue_dask import DaskExecutionEngine

from distributed import Client


def add_half(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(half=frame.v / 2)


def main() -> None:
    plain = pd.DataFrame({"k": [i % 4 for i in range(200)], "v": range(200)})
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        engine = DaskExecutionEngine(client)
        assert engine.get_current_parallelism() == 2
        halved = transform(plain, add_half, schema="*,half:double", engine=engine, as_fugue=False).compute()
        assert halved.half.sum() == plain.v.sum() / 2
        largest = transform(plain, max_of, schema="k:long,v:long", partition={"by": "k"}, engine=engine).compute()
        assert sorted(largest.v) == [196, 197, 198, 199]
    print("fugue_transform ok", len(halved), largest.v.sum())


def max_of(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values("v").tail(1)


if __name__ == "__main__":
    main()
