"""From calls to tasks: ``submit`` and ``map``. Runs in the caller's thread, up to the outgoing queue.

Per call: look for futures among the arguments, name the call, pickle the arguments, note the future, queue the
task. What
cannot be pickled becomes the error of that one future; it is never sent.
"""

from __future__ import annotations

import itertools
import operator
import pickle
import queue
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from distributed.base import settings
from distributed.base.formatting import format_bytes
from distributed.base.keys import Key, as_key, user_key
from distributed.client import current
from distributed.client.functions import FunctionBook
from distributed.client.future_table import FutureState, run_ready
from distributed.client.futures import Future
from distributed.client.outgoing import Part, Submission
from distributed.client.packing import keyed, pack_call
from distributed.client.session import RUNNING, Session
from distributed.client.tokens import SCALARS, CallTokens, function_name, general_token, unique_token
from distributed.messages.client_to_scheduler import TaskOptions, TaskSpec
from distributed.messages.payload import Arguments, Attached, ErrorInfo, FunctionBlob, bare, size_of
from distributed.protocol.serialize import dumps, live, pack_error
from distributed.protocol.sizeof import sizeof

FIRST_PART = 64
PART = 1000
"""Tasks of a map that go on their way together; fewer at first, so that the first starts at once."""
SHARED_KWARG_BYTES = 100_000
"""A keyword argument of ``map`` larger than this is sent once, as a task of its own."""

take_first = operator.itemgetter(0)
"""The function of tasks that are plain data: called with ``([value],)``."""


class Submitter:
    """Makes tasks of one client. Safe for many threads."""

    def __init__(self, client: Any, session: Session) -> None:
        self.client = client
        self.session = session
        self.functions = FunctionBook(session)
        self._large: int | None = None

    def arguments(self, call: Any, simple: bool) -> Arguments:
        """The packed ``(args, kwargs)``. In one process large things go as they are, small plain ones are copied all
        the same.
        """
        if simple:
            return pickle.dumps(call, 5)
        if self.session.live:
            return live(call)
        payload = dumps(call)
        attached = payload.attached
        if attached is not None and self.session.shares_memory:
            # The scheduler of this process would keep the caller's own memory, which the caller may change.
            payload.attached = Attached([bytes(buffer) for buffer in attached.buffers])
        return bare(payload)

    def submit(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: Any = None,
        options: TaskOptions | None = None,
        fifo_timeout_s: float = 0.1,
        pure: bool = True,
    ) -> Future:
        session = self.session
        if session.status != RUNNING:
            session.check_open()
        packed, packed_kwargs, futures, simple = pack_call(self.client, args, kwargs)
        error: ErrorInfo | None = None
        blob: FunctionBlob | None = None
        try:
            blob = self.functions.blob(func)
        except Exception as e:
            error = pack_error(e)
        dependencies = tuple([as_key(future.key) for future in futures]) if futures else ()
        own_key: Key
        unique = False
        if key is not None:
            own_key = as_key(key)
        elif pure and blob is not None:
            own_key = (
                f"{function_name(func)}-{self._token(blob, args, kwargs, packed, packed_kwargs, dependencies, simple)}"
            )
        else:
            own_key = f"{function_name(func)}-{unique_token()}"
            unique = True
        table = session.table
        if not unique and own_key in table.states:
            session.release_dropped()
            with table.lock:
                state = table.states.get(own_key)
                if state is not None:
                    state.count += 1
                    return Future(key if key is not None else own_key, self.client, state)
        spec: TaskSpec | None = None
        nbytes = 0
        if error is None and futures:
            error = failed_input(futures)
        if error is None:
            assert blob is not None
            try:
                arguments = self.arguments((packed, packed_kwargs), simple)
                spec = TaskSpec(own_key, blob.digest, arguments, dependencies)
            except Exception as e:
                error = pack_error(e)
            else:
                nbytes = size_of(arguments)
                self.warn_if_large(nbytes)
        parent = current.current_task_key()
        with table.lock:
            state, new = table.hold(own_key)
            if new and spec is not None and blob is not None:
                parent_key = None if parent is None else as_key(parent)
                session.outgoing.submit(spec, options, blob, fifo_timeout_s, parent_key, nbytes)
        if error is not None and new:
            run_ready(table.fail_here(state, error))
        session.wake()
        session.make_room()
        return Future(key if key is not None else own_key, self.client, state)

    def _token(
        self,
        blob: FunctionBlob,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        packed: tuple[Any, ...],
        packed_kwargs: dict[str, Any],
        dependencies: tuple[Key, ...],
        simple: bool,
    ) -> str:
        if simple and dependencies:
            keys = list(dependencies)
            args, kwargs = keyed(packed, keys), keyed(packed_kwargs, keys)
        return CallTokens(blob.digest, kwargs, simple).token(args, simple)

    def warn_if_large(self, nbytes: int, describe: Callable[[], str] | None = None) -> None:
        """Say so when one submission carries more data than is wise. ``describe`` names what is large."""
        if nbytes < 1_000_000:
            return
        if self._large is None:
            self._large = settings.get_bytes("distributed.admin.large-graph-warning-threshold", "10MB") or 1 << 62
        if nbytes > self._large:
            names = describe() if describe is not None else ""
            warnings.warn(
                f"{format_bytes(nbytes)} of arguments go along with these tasks"
                f"{f' ({names})' if names else ''}, which slows the scheduler down: load "
                "the data inside of the tasks, or send it to the workers once with client.scatter(data) and pass that.",
                UserWarning,
                stacklevel=5,
            )

    # -- map -----------------------------------------------------------------------------------------------------------

    def map(
        self,
        func: Callable[..., Any],
        iterables: tuple[Any, ...],
        kwargs: dict[str, Any],
        key: Any = None,
        options: TaskOptions | None = None,
        fifo_timeout_s: float = 0.1,
        pure: bool = True,
        batch_size: int | None = None,
    ) -> list[Future]:
        session = self.session
        session.check_open()
        keys, prefix = _map_keys(func, iterables, key)
        calls: Iterator[tuple[Any, ...]] = zip(*iterables, strict=False)
        error: ErrorInfo | None = None
        blob: FunctionBlob | None = None
        try:
            blob = self.functions.blob(func)
        except Exception as e:
            error = pack_error(e)
        parent = current.current_task_key()
        parent_key = None if parent is None else as_key(parent)
        shared, shared_futures = self._share_large(kwargs)
        mapper = _Mapper(self, blob, error, shared, prefix, keys, pure)
        all_options = [] if options is None else [TaskOptions(), options]
        futures: list[Future] = []
        submission = Submission(all_options, fifo_timeout_s, parent_key)
        size = batch_size or FIRST_PART
        while True:
            chunk = list(itertools.islice(calls, size))
            if not chunk:
                break
            mapper.add(chunk, submission, futures, last=batch_size is not None)
            session.wake()
            session.make_room()
            if session.status != RUNNING:
                session.check_open()
            if batch_size:
                submission = Submission(all_options, fifo_timeout_s, parent_key)
            else:
                size = PART
        if not batch_size and submission.rank + len(futures):
            mapper.end(submission)
        del shared_futures
        return futures

    def _share_large(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], list[Future]]:
        """Large keyword arguments become futures of data that is sent once."""
        shared: dict[str, Any] = {}
        futures: list[Future] = []
        for name, value in kwargs.items():
            if (
                (type(value) in SCALARS and not (isinstance(value, (str, bytes)) and len(value) > SHARED_KWARG_BYTES))
                or isinstance(value, Future)
                or sizeof(value) <= SHARED_KWARG_BYTES
            ):
                shared[name] = value
            else:
                kind = type(value).__name__
                future = self.submit(take_first, ([value],), {}, key=f"{kind}-{general_token(value)}")
                shared[name] = future
                futures.append(future)
        return shared, futures


def failed_input(futures: Iterable[Future]) -> ErrorInfo | None:
    """The error of an input that failed before it could be sent: the scheduler does not know it, so what needs it
    fails here.
    """
    for future in futures:
        state = future._state
        if state is not None and state.local and state.error is not None:
            return state.error
    return None


def _map_keys(func: Callable[..., Any], iterables: tuple[Any, ...], key: Any) -> tuple[Iterator[Any] | None, str]:
    if not iterables or all(isinstance(part, queue.Queue) for part in iterables):
        raise TypeError(
            "map needs at least one iterable of arguments, and queues are none: use a plain for loop with client.submit"
        )
    if key is None:
        return None, function_name(func)
    if isinstance(key, str):
        return None, key
    if not isinstance(key, Iterable) or isinstance(key, (bytes, Mapping)):
        raise TypeError(f"key= must be a prefix or a list with one key for each call, not {key!r}")
    keys = list(key)
    if all(isinstance(part, Sized) for part in iterables):
        count = min(len(part) for part in iterables)
        if len(keys) < count:
            raise ValueError(f"key= has {len(keys)} keys for {count} calls")
    return iter(keys), ""


class _Mapper:
    """The inner loop of map."""

    def __init__(
        self,
        submitter: Submitter,
        blob: FunctionBlob | None,
        error: ErrorInfo | None,
        kwargs: dict[str, Any],
        prefix: str,
        keys: Iterator[Any] | None,
        pure: bool,
    ) -> None:
        self.submitter = submitter
        self.client = submitter.client
        self.session = submitter.session
        self.blob = blob
        self.blobs = () if blob is None else (blob,)
        self.error = error
        self.kwargs = kwargs
        self.prefix = prefix
        self.keys = keys
        self.unique = unique_token() if keys is None and (not pure or blob is None) else None
        self.number = 0
        _, self.packed_kwargs, self.kwarg_futures, self.simple_kwargs = pack_call(self.client, (), kwargs)
        self.plain = not self.kwarg_futures
        self.tokens: CallTokens | None = None
        if blob is not None and self.unique is None:
            self.tokens = CallTokens(blob.digest, kwargs, self.simple_kwargs and self.plain)

    def add(self, calls: list[tuple[Any, ...]], submission: Submission, futures: list[Future], last: bool) -> None:
        """Queue these calls; their futures are appended to ``futures``."""
        made = []
        for args in calls:
            if self.plain and set(map(type, args)) <= SCALARS:
                key = self._key(args, True)
                try:
                    arguments = self.submitter.arguments((args, self.packed_kwargs), self.simple_kwargs)
                    spec = None if self.blob is None else TaskSpec(key, self.blob.digest, arguments)
                    made.append((key, spec, self.error))
                except Exception as e:
                    made.append((key, None, pack_error(e)))
            else:
                made.append(self._general(args))
        if self.keys is not None:
            made = [one for one in made if one[0] is not _NO_KEY]
        self._queue(made, submission, futures, last)

    def _key(self, args: Any, simple: bool) -> Any:
        if self.keys is not None:
            key = next(self.keys, _NO_KEY)
            return key if key is _NO_KEY else as_key(key)
        if self.unique is not None or self.tokens is None:
            self.number += 1
            return f"{self.prefix}-{self.unique}-{self.number - 1}"
        return f"{self.prefix}-{self.tokens.token(args, simple)}"

    def _general(self, args: tuple[Any, ...]) -> tuple[Any, TaskSpec | None, ErrorInfo | None]:
        packed, packed_kwargs, inputs, simple = pack_call(self.client, args, self.kwargs)
        dependencies = tuple([as_key(future.key) for future in inputs])
        if self.keys is None and self.unique is None and self.blob is not None:
            token = self.submitter._token(self.blob, args, self.kwargs, packed, packed_kwargs, dependencies, simple)
            key: Any = f"{self.prefix}-{token}"
        else:
            key = self._key(args, simple)
        error = self.error or failed_input(inputs)
        if error is not None or self.blob is None or key is _NO_KEY:
            return key, None, error
        try:
            arguments = self.submitter.arguments((packed, packed_kwargs), simple)
        except Exception as e:
            return key, None, pack_error(e)
        return key, TaskSpec(key, self.blob.digest, arguments, dependencies), None

    def _queue(
        self,
        made: list[tuple[Any, TaskSpec | None, ErrorInfo | None]],
        submission: Submission,
        futures: list[Future],
        last: bool,
    ) -> None:
        table = self.session.table
        states = table.states
        client = self.client
        failed: list[tuple[FutureState, ErrorInfo]] = []
        tasks: list[TaskSpec] = []
        option = 1 if submission.options else 0
        nbytes = 0
        self.session.release_dropped()
        with table.lock:
            for key, spec, error in made:
                state = states.get(key)
                if state is None:
                    state = states[key] = FutureState(key)
                    if spec is not None:
                        spec.options = option
                        nbytes += size_of(spec.payload)
                        tasks.append(spec)
                    elif error is not None:
                        failed.append((state, error))
                state.count += 1
                futures.append(Future(key if type(key) is str else user_key(key), client, state))
            if tasks:
                self.session.outgoing.submit_part(Part(submission, tasks, self.blobs, last, nbytes=nbytes))
        for state, error in failed:
            run_ready(table.fail_here(state, error))
        self.submitter.warn_if_large(nbytes)

    def end(self, submission: Submission) -> None:
        """The last part, empty: the submission is complete."""
        with self.session.table.lock:
            self.session.outgoing.submit_part(Part(submission, [], (), last=True))
        self.session.wake()


_NO_KEY: Any = object()
