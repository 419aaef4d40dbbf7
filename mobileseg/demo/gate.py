"""Who may come in: a one-time token for a session cookie, and a limit on wrong tries."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

# Nobody types a token: ten wrong ones in a minute are no mistake.
WRONG_TRIES = 10
_FORGOTTEN_S = 60.0
# Devices at a time; the one that came first goes.
_SESSIONS = 16


class Gate:
    """The tokens and sessions of one server. A token lets one browser in, then a new one counts.

    clock: seconds, ever growing.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._token = secrets.token_urlsafe(24)
        self._sessions: deque[str] = deque(maxlen=_SESSIONS)
        self._wrong: deque[float] = deque(maxlen=WRONG_TRIES)

    @property
    def token(self) -> str:
        """The token that counts now."""
        return self._token

    @property
    def locked(self) -> bool:
        """Whether too many wrong tries came of late: then the right token does not help either."""
        with self._lock:
            full = len(self._wrong) == WRONG_TRIES
            return full and self._clock() - self._wrong[0] < _FORGOTTEN_S

    def exchange(self, given: str) -> str | None:
        """Return a new session for the right token, which is void from now on; None for others."""
        if self.locked:
            return None
        with self._lock:
            if not _same(given, self._token):
                self._wrong.append(self._clock())
                return None
            self._token = secrets.token_urlsafe(24)
            session = secrets.token_urlsafe(24)
            self._sessions.append(session)
            return session

    def knows(self, session: str) -> bool:
        """Whether the session was given here."""
        with self._lock:
            return any(_same(session, each) for each in self._sessions)


def _same(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), known.encode())
