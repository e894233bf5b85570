"""What users subclass to hook into schedulers, workers and nannies. Base classes and small ready-made ones only.

Also served as ``distributed.diagnostics.plugin``. Each room calls the hooks itself (``scheduler/plugin_host.py``, ...).
"""

from distributed.plugins.names import plugin_name
from distributed.plugins.nanny import Environ, NannyPlugin
from distributed.plugins.scheduler import SchedulerPlugin
from distributed.plugins.worker import SetupCallback, UploadFile, WorkerPlugin

__all__ = [
    "Environ",
    "NannyPlugin",
    "SchedulerPlugin",
    "SetupCallback",
    "UploadFile",
    "WorkerPlugin",
    "plugin_name",
]
