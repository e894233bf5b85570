"""Configuration, default implementations, hooks."""

import subprocess
import sys

import dask
import pytest

from distributed.base import defaults, settings
from distributed.base.status import Status

UPSTREAM_KEYS = """
scheduler.allowed-failures scheduler.bandwidth scheduler.worker-saturation scheduler.worker-ttl scheduler.work-stealing
scheduler.default-task-durations scheduler.active-memory-manager.policies worker.memory.target worker.memory.terminate
worker.transfer.message-bytes-limit worker.profile.interval nanny.pre-spawn-environ client.heartbeat
deploy.lost-worker-timeout adaptive.wait-count comm.timeouts.connect comm.tls.scheduler.cert comm.shard
diagnostics.computations.nframes p2p.storage.disk dashboard.link admin.max-error-length admin.tick.limit rmm.pool-size
""".split()


@pytest.mark.parametrize("name", UPSTREAM_KEYS)
def test_known_names_have_defaults(name):
    settings.get(f"distributed.{name}")


def test_get():
    assert settings.get("distributed.scheduler.allowed-failures") == 3
    assert settings.get("distributed.no.such", 7) == 7
    with pytest.raises(KeyError):
        settings.get("distributed.no.such")
    with dask.config.set({"distributed.scheduler.allowed-failures": 9}):
        assert settings.get("distributed.scheduler.allowed-failures") == 9
    assert settings.get_seconds("distributed.scheduler.worker-ttl") == 300
    assert settings.get_seconds("distributed.scheduler.idle-timeout") is None
    assert settings.get_bytes("distributed.comm.max-frame-bytes") is not None
    assert settings.get_bytes("distributed.worker.memory.max-spill") is False
    assert settings.config is dask.config.config
    assert settings.defaults["distributed"]["version"] == 2


def run(code, **env):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env or None)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_dask_is_loaded_late():
    code = "import sys; from distributed.base import settings, errors, defaults; print('dask' in sys.modules)"
    assert run(code) == "False"


def test_environment_and_early_settings_win_over_defaults():
    code = (
        "import dask; dask.config.set({'distributed.worker.memory.target': 0.1}); "
        "from distributed.base import settings as s; "
        "print(s.get('distributed.worker.memory.target'), s.get('distributed.scheduler.allowed-failures'))"
    )
    assert run(code, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="8", PATH="/usr/bin:/bin") == "0.1 8"


def test_registered_the_moment_dask_loads():
    code = (
        "from distributed.base import settings as s; s.register_when_dask_loads(); s.register_when_dask_loads(); "
        "import dask; print(dask.config.get('distributed.scheduler.allowed-failures'))"
    )
    assert run(code) == "3"


def test_settings_of_another_process_win():
    snapshot = settings.snapshot()
    with dask.config.set({"distributed.scheduler.bandwidth": 5}):
        settings.adopt({"distributed": {"scheduler": {"bandwidth": 6}}})
        assert settings.get("distributed.scheduler.bandwidth") == 6
    dask.config.set({"distributed.scheduler.bandwidth": 100000000})
    assert snapshot["distributed"]["version"] == 2


ADOPTED = (
    "import sys; from distributed.base import settings as s; s.register_when_dask_loads(); "
    "s.adopt({'distributed': {'scheduler': {'allowed-failures': 4}}, 'own': {'a_b': 1}}); "
)


def test_adopted_settings_need_no_dask():
    code = ADOPTED + (
        "print(s.get('distributed.scheduler.allowed_failures'), s.get('own.a-b'), s.get('own.a-b.c', 5))"
        "\nprint(s.get('no', 6))"
        "\ntry: s.get('own.nothing')\nexcept KeyError as e: print(e)"
        "\nprint('dask' in sys.modules)"
    )
    assert run(code).split() == ["4", "1", "5", "6", "'own.nothing'", "False"]


def test_adopted_settings_are_dasks_once_it_is_loaded():
    code = ADOPTED + (
        "import dask; print(dask.config.get('distributed.scheduler.allowed-failures'), dask.config.get('own.a-b'), "
        "dask.config.get('distributed.version')); "
        "dask.config.set({'own.a_b': 2}); print(s.get('own.a-b'))"
    )
    assert run(code).split() == ["4", "1", "2", "2"]


def test_variables_of_a_process_with_adopted_settings_count():
    assert run(ADOPTED + "print(s.get('own.c'))", DASK_OWN__C="7", PATH="/usr/bin:/bin") == "7"


def test_load_by_name():
    assert defaults.load("distributed.base.status:Status") is Status
    assert defaults.load("distributed.base.status.Status") is Status
    for bad in ("Nonsense", "distributed.base.status:Nothing", "no_such_module_at_all:X"):
        with pytest.raises(ImportError):
            defaults.load(bad)


def test_hooks():
    hook = defaults.Hook("test", None)
    hook.set(5)
    assert hook.get() == 5
    hook.reset()
    assert hook.get() is None
    assert defaults.get_hook("never-set") is None
    defaults.set_hook("of this test", 1)
    assert defaults.get_hook("of this test") == 1


def test_status_names():
    names = "created init starting running paused stopping stopped closing closing_gracefully failed closed dont_reply"
    assert {s.name for s in Status} == {*names.split(), "undefined"}
    assert Status["running"] is Status.running
    assert Status.closed.is_final and not Status.paused.is_final
