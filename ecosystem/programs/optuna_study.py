"""optuna-integration: a study whose storage lives on the scheduler; trials run as tasks."""

import optuna
from optuna_integration import DaskStorage

from distributed import Client, wait


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -4, 4)
    return (x - 1) ** 2


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        study = optuna.create_study(storage=DaskStorage(client=client), sampler=optuna.samplers.RandomSampler(seed=0))
        runs = [client.submit(study.optimize, objective, n_trials=5, pure=False) for _ in range(4)]
        wait(runs)
        client.gather(runs)
        assert len(study.trials) == 20
        best = study.best_value
    assert best < 2
    print("optuna_study ok", round(best, 4))


if __name__ == "__main__":
    main()
