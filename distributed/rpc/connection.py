"""One multiplexed link: a stream of messages both ways, and questions with answers on the same wire.

Sending appends to a list; the list leaves once per turn of the event loop, as one batch. Receiving hands a whole list
to ``on_messages``. No coroutine, future or timer a stream message. Order is kept across everything that one end
sends. When the link closes, every open question fails with CommClosedError at once.

Not here: what messages mean, reconnecting, choosing a peer.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from typing import Any

from distributed.base.errors import CommClosedError, RemoteError
from distributed.comm.transport import Comm
from distributed.messages.control import Reply, Request, Unsendable
from distributed.messages.payload import ErrorInfo, Payload
from distributed.protocol.plain import dumps_plain, loads_plain
from distributed.protocol.serialize import live, pack_error, unpack_error
from distributed.rpc.links import codec_for

logger = logging.getLogger("distributed.rpc")

Handler = Callable[..., Any]
OnMessages = Callable[[list[Any]], None]
OnClosed = Callable[[BaseException | None], None]

MAX_BATCH = 4096
"""Messages in one batch: a million messages sent in one turn leave as several frames, none of them huge."""
_MAX_HELD = 100_000
_MAX_ERROR_TEXT = 10_000


class Connection:
    """A link to a peer. Everything is called on the loop's thread.

    Parameters
    ----------
    comm: open and not started; belongs to the connection from now on
    handlers: op -> function, sync or async, called with the request's keyword arguments; one that has a parameter
        ``connection``
        (or ``comm``) gets this object
    unpickle: open pickles that come as arguments and answers (never on a scheduler)
    on_messages: called with the stream messages of each batch; until it is set they are held back
    on_closed: called once, with None after an orderly end
    blocked: ops that are refused although they have a handler
    """

    def __init__(
        self,
        comm: Comm,
        handlers: Mapping[str, Handler] | None = None,
        *,
        unpickle: bool = True,
        on_messages: OnMessages | None = None,
        on_closed: OnClosed | None = None,
        blocked: Iterable[str] = (),
        owner: str = "",
        tasks: set[asyncio.Task[Any]] | None = None,
    ) -> None:
        self.comm = comm
        self.handlers: Mapping[str, Handler] = {} if handlers is None else handlers
        self.blocked = blocked
        self.unpickle = unpickle
        self.owner = owner
        self.name = ""
        self.on_unsendable: Callable[[Any, Exception], None] | None = None
        """Called with a stream message that could not be encoded (too large, a type with no place in it), and why."""
        self.numbered = False
        """Stream messages have numbers (``rpc.session``): one that cannot be encoded leaves a substitute."""
        self.borrows = True
        """Values may be read out of the peer's memory (``rpc.lending``), as far as is known."""
        self._loop = asyncio.get_running_loop()
        self._out: list[Any] = []
        self._rest_within_s = math.inf  # a timer that has been set will ring by then
        self._flush_scheduled = False
        self._pending: dict[int, tuple[asyncio.Future[Reply], str]] = {}
        self._last_id = 0
        self._on_messages = on_messages
        self._held: list[Any] = []
        self._on_closed: list[OnClosed] = [on_closed] if on_closed is not None else []
        self._tasks: set[asyncio.Task[Any]] = set() if tasks is None else tasks
        self._closing = False
        self._closed = False
        self._error: BaseException | None = None
        comm.start(self._on_batch, self._comm_closed, codec_for(comm.role, comm.peer_role))

    # --- facts

    @property
    def peer_address(self) -> str:
        return self.comm.peer_address

    @property
    def local_address(self) -> str:
        return self.comm.local_address

    @property
    def peer_role(self) -> str:
        return self.comm.peer_role

    @property
    def same_process(self) -> bool:
        """Whether objects go over as they are."""
        return self.comm.same_process

    @property
    def shares_memory(self) -> bool:
        """Whether what lies in shared memory goes over without a copy."""
        return self.comm.shares_memory

    @property
    def closed(self) -> bool:
        """Nothing can be sent any more."""
        return self._closing or self._closed

    @property
    def pending_bytes(self) -> int:
        """Bytes handed to the transport that the peer has not taken yet."""
        return self.comm.pending_bytes

    def asks_only(self, ops: Container[str]) -> bool:
        """Whether there are questions without an answer yet, and all are of these kinds."""
        return bool(self._pending) and all(op in ops for _, op in self._pending.values())

    @property
    def n_waiting(self) -> int:
        """Messages that leave at the end of this turn of the loop."""
        return len(self._out)

    def __repr__(self) -> str:
        state = "closed, " if self.closed else ""
        ends = f"{self.owner or self.comm.role or '?'} to {self.name or self.peer_role or '?'}"
        return f"<Connection {ends} at {self.peer_address} ({state}{len(self._pending)} questions open)>"

    # --- sending

    def send(self, message: Any) -> None:
        """Queue one stream message. Raises CommClosedError when the connection is closed."""
        if self._closing:
            raise self._closed_error()
        self._out.append(message)
        if not self._flush_scheduled:
            self._schedule_flush()

    def send_many(self, messages: Iterable[Any]) -> None:
        """Queue several, in order."""
        if self._closing:
            raise self._closed_error()
        self._out.extend(messages)
        if self._out and not self._flush_scheduled:
            self._schedule_flush()

    def send_now(self, messages: Iterable[Any]) -> None:
        """Hand several to the transport now, after all that was sent before."""
        if self._closing:
            raise self._closed_error()
        self._out.extend(messages)
        self._send_out()

    def send_later(self, messages: Iterable[Any], delay_s: float) -> None:
        """Queue several that nobody waits for: they leave with the next that are sent, or within ``delay_s``."""
        if self._closing:
            raise self._closed_error()
        if delay_s < self._rest_within_s:
            self._rest_within_s = delay_s
            self._loop.call_later(delay_s, self._flush_rest)
        self._out.extend(messages)

    def _flush_rest(self) -> None:
        self._rest_within_s = math.inf
        if self._out and not self._flush_scheduled:
            self._send_out()

    def send_batch(self, header: Any, messages: list[Any]) -> None:
        """Hand ``header`` and ``messages`` to the transport now, after all that was sent before."""
        if self._closing:
            raise self._closed_error()
        out = self._out
        out.append(header)
        out.extend(messages)
        self._send_out()

    def send_past(self, header: Any, messages: list[Any]) -> None:
        """The same from any thread (where ``comm.sends_from_threads``), before what waits for the end of this turn."""
        if self._closing:
            raise self._closed_error()
        self._send_batch(self.comm, [header, *messages])

    def _schedule_flush(self) -> None:
        self._flush_scheduled = True
        try:
            self._loop.call_soon(self._flush)
        except RuntimeError:  # the loop is closed: what leaves now leaves by flush()
            self._flush_scheduled = False

    def flush(self) -> None:
        """Hand to the transport now what waits for the end of this turn of the loop."""
        self._send_out()

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._out:
            self._send_out()

    def _send_out(self) -> None:
        out, self._out = self._out, []
        comm = self.comm
        if len(out) <= MAX_BATCH:
            self._send_batch(comm, out)
        else:
            for i in range(0, len(out), MAX_BATCH):
                self._send_batch(comm, out[i : i + MAX_BATCH])

    def _send_batch(self, comm: Comm, batch: list[Any]) -> None:
        if not batch:
            return
        try:
            comm.send(batch)
        except CommClosedError:
            pass  # on_closed follows, or has come
        except Exception as e:
            self._send_singly(comm, batch, e)

    def _send_singly(self, comm: Comm, batch: list[Any], error: Exception) -> None:
        """A message of the batch cannot be encoded: the others leave, and whoever waits for this one hears of it."""
        if len(batch) > 1:
            for message in batch:
                self._send_batch(comm, [message])
            return
        message = batch[0]
        logger.error("Cannot send %s to %s: %s", type(message).__name__, self.peer_address, error)
        if type(message) is Request:
            pending = self._pending.pop(message.id, None)
            if pending is not None and not pending[0].done():
                pending[0].set_exception(TypeError(f"the arguments of {message.op!r} cannot be sent: {error}"))
        elif type(message) is Reply and message.error is None:
            text = f"the answer cannot be sent: {type(error).__name__}: {error}"
            self._send_batch(comm, [Reply(message.id, None, ErrorInfo("TypeError", text))])
        else:
            if self.numbered:
                self._send_batch(comm, [Unsendable()])
            if self.on_unsendable is not None:
                self.on_unsendable(message, error)

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was sent. Raises CommClosedError when the connection closes."""
        if self._out:
            self._send_out()
        await self.comm.drain()

    # --- questions

    async def call(self, op: str, /, timeout: float | None = None, **kwargs: Any) -> Any:
        """Ask the peer and return its answer; raises what the peer's handler raised.

        Raises CommClosedError when the connection closes first, TimeoutError after ``timeout`` seconds (None: as long
        as it takes). The names of arguments are the handler's; see ``request`` for an argument called ``timeout``.
        """
        return await self.request(op, kwargs, timeout)

    async def request(self, op: str, kwargs: dict[str, Any], timeout: float | None = None) -> Any:
        """``call`` with the arguments as a dict."""
        if self._closing:
            raise self._closed_error()
        body = live(kwargs) if self.comm.same_process else dumps_plain(kwargs)
        self._last_id = number = self._last_id + 1
        answer: asyncio.Future[Reply] = self._loop.create_future()
        self._pending[number] = (answer, op)
        try:
            self.send(Request(number, op, body))
            if timeout is None:
                reply = await answer
            else:
                try:
                    async with asyncio.timeout(timeout):
                        reply = await answer
                except TimeoutError:
                    raise TimeoutError(f"no answer to {op!r} from {self.peer_address} within {timeout:g} s") from None
        finally:
            self._pending.pop(number, None)
        if reply.error is not None:
            raise self._remote_error(reply.error)
        return None if reply.body is None else loads_plain(reply.body, self.unpickle)

    def tell(self, op: str, kwargs: dict[str, Any]) -> None:
        """As ``request``, of which nobody wants to hear the answer. Raises CommClosedError when the connection is
        closed."""
        self._last_id += 1
        self.send(Request(self._last_id, op, live(kwargs) if self.comm.same_process else dumps_plain(kwargs)))

    def _remote_error(self, info: ErrorInfo) -> BaseException:
        if not self.unpickle and not self.comm.same_process:
            return RemoteError(info.type_name, info.message, info.traceback_text)
        return raised_there(info)

    # --- receiving

    @property
    def on_messages(self) -> OnMessages | None:
        """Called with a list of stream messages, never empty. What comes before it is set is held back."""
        return self._on_messages

    @on_messages.setter
    def on_messages(self, function: OnMessages | None) -> None:
        self._on_messages = function
        if function is not None and self._held:
            self._loop.call_soon(self._release_held)

    def hold(self, messages: list[Any]) -> None:
        """Give back the rest of a batch: it comes again, first, when ``on_messages`` is set anew."""
        self._held[:0] = messages

    def _release_held(self) -> None:
        if self._held and self._on_messages is not None:
            held, self._held = self._held, []
            self.comm.resume_reading()
            self._deliver(held)

    def _on_batch(self, batch: list[Any]) -> None:
        stream: list[Any] = []
        for message in batch:
            kind = type(message)
            if kind is Reply:
                self._on_reply(message)
            elif kind is Request:
                if stream:
                    self._deliver(stream)
                    stream = []
                self._on_request(message)
            else:
                stream.append(message)
        if stream:
            self._deliver(stream)

    def _deliver(self, messages: list[Any]) -> None:
        if self._on_messages is None or self._held:
            self._held.extend(messages)
            if self._on_messages is None and len(self._held) > _MAX_HELD:
                self.comm.pause_reading()
            return
        try:
            self._on_messages(messages)
        except Exception:
            logger.exception("Error while handling messages from %s", self.peer_address)

    def _on_reply(self, reply: Reply) -> None:
        pending = self._pending.get(reply.id)
        if pending is not None and not pending[0].done():
            pending[0].set_result(reply)

    def _on_request(self, request: Request) -> None:
        op = request.op
        handler = self.handlers.get(op)
        if op in self.blocked:
            owner = self.owner or "this server"
            error: BaseException = ValueError(
                f"the operation {op!r} is blocked on {owner} (blocked_handlers), so it cannot be called"
            )
        elif handler is None:
            error = ValueError(f"unknown operation {op!r}: {self.owner or 'the peer'} has no handler of this name")
        else:
            try:
                kwargs = loads_plain(request.body, self.unpickle)
                for name in _asks_for(handler):
                    kwargs[name] = self
                result = handler(**kwargs)
            except (Exception, SystemExit) as e:  # a function of a user that calls exit() ends itself, not this program
                error = e
            else:
                if inspect.isawaitable(result):
                    task = asyncio.ensure_future(self._finish_request(request, result))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                else:
                    self._reply(request, result)
                return
        self._reply_error(request, error)

    async def _finish_request(self, request: Request, awaitable: Awaitable[Any]) -> None:
        try:
            result = await awaitable
        except asyncio.CancelledError:
            self._reply_error(
                request, CommClosedError(f"{self.owner or 'the peer'} ended before it answered {request.op!r}")
            )
            raise
        except (Exception, SystemExit) as e:
            self._reply_error(request, e)
        else:
            self._reply(request, result)

    def _reply(self, request: Request, result: Any) -> None:
        try:
            body: Payload | None
            if result is None:
                body = None
            elif self.comm.same_process:
                body = live(result)
            else:
                body = dumps_plain(result)
        except Exception as e:
            self._reply_error(request, e)
            return
        self._post(Reply(request.id, body))

    def _reply_error(self, request: Request, error: BaseException) -> None:
        logger.debug("Answering %r with an error", request.op, exc_info=error)
        self._post(Reply(request.id, None, pack_error(error, _MAX_ERROR_TEXT)))

    def _post(self, reply: Reply) -> None:
        if not self._closed and not self.comm.closed:
            self._out.append(reply)
            if not self._flush_scheduled:
                self._schedule_flush()

    # --- ending

    def add_on_closed(self, function: OnClosed) -> None:
        """Call ``function`` when the connection has closed, at once (on the next turn) if it has."""
        if self._closed:
            self._loop.call_soon(function, self._error)
        else:
            self._on_closed.append(function)

    def _closed_error(self) -> CommClosedError:
        text = f"the connection to {self.peer_address} is closed"
        if self._error is not None and str(self._error):
            text += f" ({self._error})"
        return CommClosedError(text)

    def _comm_closed(self, error: BaseException | None) -> None:
        if self._closed:
            return
        self._closing = self._closed = True
        self._error = error
        self._out.clear()
        # The last messages of a peer count even if nobody had asked for them yet; questions without an answer fail now.
        pending, self._pending = self._pending, {}
        for answer, op in pending.values():
            if not answer.done():
                text = f"the connection to {self.peer_address} was closed before it answered {op!r}"
                failure = CommClosedError(text if error is None else f"{text} ({error})")
                failure.__cause__ = error
                answer.set_exception(failure)
        callbacks, self._on_closed = self._on_closed, []
        for callback in callbacks:
            try:
                callback(error)
            except Exception:
                logger.exception("Error while taking note that %s is gone", self.peer_address)

    async def close(self, timeout: float = 5.0) -> None:
        """Send what waits, for at most ``timeout`` seconds, and close. Idempotent; open questions fail."""
        if self._closed:
            return
        if not self._closing:
            self._closing = True
            if self._out:
                self._send_out()
        await self.comm.close(timeout)
        self._comm_closed(None)

    def abort(self, error: BaseException | None = None) -> None:
        """Close now; what was sent last may be lost."""
        self._closing = True
        self.comm.abort(error)
        self._comm_closed(error)


def raised_there(info: ErrorInfo) -> BaseException:
    """What the peer has raised, to be raised here. Opens its pickle."""
    error, traceback = unpack_error(info)
    # What the peer's task or handler raised to end itself must not end the caller.
    if not isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError):
        return RemoteError(info.type_name, info.message, info.traceback_text)
    return error.with_traceback(traceback) if traceback is not None else error


def _asks_for(handler: Handler) -> tuple[str, ...]:
    try:
        return _parameters(getattr(handler, "__func__", handler))
    except TypeError:  # unhashable callable
        return ()


@functools.lru_cache(maxsize=1024)
def _parameters(function: Handler) -> tuple[str, ...]:
    try:
        names = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return ()
    return tuple(name for name in ("connection", "comm") if name in names)
