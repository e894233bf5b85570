"""What is run: which program or which shipped tests, for which package, for how long at most."""

from __future__ import annotations

from dataclasses import dataclass

_LIMIT_S = 300.0


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes
    ----------
    package : name of the distribution whose version is shown
    program : a file of ``programs/``, without its ending; empty for shipped tests
    tests : modules (and single tests) of the package, for ``pytest --pyargs``
    left_out : tests that are not run, each with the reason
    environment : variables that it is given
    plugin : loads the fixtures of ``distributed.utils_test`` for tests whose own ``conftest.py`` is not shipped
    """

    package: str
    program: str = ""
    tests: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    plugin: bool = False
    limit_s: float = _LIMIT_S
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What to ask for on the command line."""
        return self.program or f"{self.package}-tests"


PROGRAMS = (
    Check("dask", "arrays"),
    Check("dask", "dataframes"),
    Check("dask", "graphs"),
    Check("dask", "bags"),
    Check("dask", "command_line"),
    Check("joblib", "joblib_backend"),
    Check("scikit-learn", "sklearn_search"),
    Check("xgboost-cpu", "xgboost_train"),
    Check("lightgbm", "lightgbm_train"),
    Check("xarray", "xarray_compute"),
    Check("xarray", "xarray_files"),
    Check("dask-jobqueue", "jobqueue_local"),
    Check("dask-mpi", "mpi_ranks"),
    Check("dask-ml", "dask_ml_search"),
    Check("optuna-integration", "optuna_study"),
    Check("streamz", "streamz_pipe"),
    Check("dask-gateway", "gateway_local"),
    Check("dask-labextension", "labextension_clusters"),
    Check("ipyparallel", "ipyparallel_bridge"),
    Check("tsfresh", "tsfresh_features"),
    Check("adaptive", "adaptive_learner"),
    Check("dask-image", "image_filters"),
    Check("flox", "flox_groups"),
    Check("dask-histogram", "histograms"),
    Check("cubed", "cubed_arrays"),
)

SHIPPED = (
    Check(
        "dask",
        tests=(
            "dask.tests.test_distributed",
            "dask.dataframe.dask_expr.tests.test_distributed",
            "dask.dataframe.dask_expr.io.tests.test_distributed",
            "dask.dataframe.dask_expr.tests.test_diagnostics",
            "dask.tests.test_layers::test_scheduler_highlevel_graph_unpack_import",
            "dask.tests.test_expr::test_pickle_cached_properties",
            "dask.tests.test_expr::test_refcounting_futures",
            "dask.tests.test_task_spec::test_async_func",
            "dask.tests.test_task_spec::test_avoid_cycles",
            "dask.tests.test_delayed::test_p2p_as_delayed",
            "dask.tests.test_traceback::test_distributed_shorten_traceback",
            "dask.array.tests.test_array_core::test_from_delayed_future",
        ),
        limit_s=1800,
    ),
    Check("joblib", tests=("joblib.test.test_dask",), plugin=True, limit_s=900),
    Check("xarray", tests=("xarray.tests.test_distributed",), limit_s=900),
    Check("streamz", tests=("streamz.tests.test_dask",)),
    Check("adaptive", tests=("adaptive.tests.test_runner",)),
    Check("dask-labextension", tests=("dask_labextension.tests.test_manager",)),
    # One of its tests reads a page of the scheduler without a token.
    Check(
        "dask-mpi", tests=("dask_mpi.tests",), limit_s=600, environment=(("DASK_DISTRIBUTED__AUTH__PAGES", "False"),)
    ),
)

OLDER = (
    Check("modin", "modin_frames"),
    Check("fugue", "fugue_transform"),
    Check("prefect-dask", "prefect_flow", limit_s=600),
)
