"""What users subclass to hook into schedulers, workers and nannies. Base classes and small ready-made ones only.

Also served as ``distributed.diagnostics.plugin``. Each room calls the hooks itself (``scheduler/plugin_host.py``, ...).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.base.lazy import lazy_names
from distributed.plugins.names import plugin_name
from distributed.plugins.nanny import Environ, NannyPlugin
from distributed.plugins.scheduler import SchedulerPlugin
from distributed.plugins.worker import SetupCallback, UploadFile, WorkerPlugin

if TYPE_CHECKING:
    from distributed.plugins.chaos import KillWorker
    from distributed.plugins.install import CondaInstall, InstallPlugin, PipInstall
    from distributed.plugins.output import ForwardLoggingPlugin, ForwardOutput
    from distributed.plugins.upload_directory import SchedulerUploadFile, UploadDirectory

_HOMES = {
    "CondaInstall": "distributed.plugins.install",
    "ForwardLoggingPlugin": "distributed.plugins.output",
    "ForwardOutput": "distributed.plugins.output",
    "InstallPlugin": "distributed.plugins.install",
    "KillWorker": "distributed.plugins.chaos",
    "PipInstall": "distributed.plugins.install",
    "SchedulerUploadFile": "distributed.plugins.upload_directory",
    "UploadDirectory": "distributed.plugins.upload_directory",
}

__all__ = [
    "CondaInstall",
    "Environ",
    "ForwardLoggingPlugin",
    "ForwardOutput",
    "InstallPlugin",
    "KillWorker",
    "NannyPlugin",
    "PipInstall",
    "SchedulerPlugin",
    "SchedulerUploadFile",
    "SetupCallback",
    "UploadDirectory",
    "UploadFile",
    "WorkerPlugin",
    "plugin_name",
]

__getattr__, __dir__ = lazy_names(__name__, _HOMES)
