"""The ``dask`` command: a scheduler and two workers that find each other by a file."""

import subprocess
import sys
import tempfile
from pathlib import Path

from distributed import Client


def dask(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "dask", *arguments], stderr=subprocess.DEVNULL)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "scheduler.json"))
        programs = [dask("scheduler", "--scheduler-file", file, "--port", "0", "--no-dashboard")]
        try:
            for name in ("left", "right"):
                programs.append(
                    dask(
                        "worker",
                        "--scheduler-file",
                        file,
                        "--nthreads",
                        "1",
                        "--name",
                        name,
                        "--resources",
                        f"{name}=1",
                    )
                )
            with Client(scheduler_file=file, timeout=60) as client:
                client.wait_for_workers(2, timeout=60)
                here = client.submit(lambda dummy: 1, 0, resources={"right": 1})
                assert here.result(timeout=60) == 1
                (address,) = client.who_has(here)[here.key]
                assert client.scheduler_info()["workers"][address]["name"] == "right"
                client.get_versions(check=True)
                client.shutdown()
            assert [program.wait(60) for program in programs] == [0, 0, 0]
        finally:
            for program in programs:
                program.kill()
                program.wait()
    print("command_line ok")


if __name__ == "__main__":
    main()
