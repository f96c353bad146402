"""What operators send, checked: texts that are recorded, request ids, page tokens."""

from __future__ import annotations

import base64
import binascii
import re
import uuid

from model_sidecar.errors import InvalidRequestError
from model_sidecar.serving.orders import ShadowPlan
from model_sidecar_client.wire import deployment as wire

MAX_REASON = 4096
MAX_CLAIM = 256
MAX_TEXT_BYTES = 8 << 10
MAX_PAGE = 1000
MIN_SHADOW_S = 1.0
MAX_SHADOW_S = 3600.0
DEFAULT_PAGE = 50

_REQUEST_ID = re.compile(r"[!-~]{1,64}", re.ASCII)
_LIMITS = ("max_disagreement", "max_slowdown", "min_predictions")
_LINE_BREAKS = re.compile(r"[\r\n\t]+")
_TOKEN = re.compile(r"before:(?P<generation>[0-9]{1,19})", re.ASCII)


def recorded_text(name: str, value: str, *, limit: int) -> str:
    """The text as it is recorded: on one line, control characters as escapes, or as `?` where escapes find no room.

    A rollback in the night does not fail over a line break in its reason, and no log or terminal can be steered.

    Raises:
        InvalidRequestError: it has more than `limit` characters, or more than 8 KiB in UTF-8.
    """
    text = _LINE_BREAKS.sub(" ", value.strip())
    if len(text) > limit:
        raise InvalidRequestError(f"{name} has {len(text)} characters: at most {limit} are recorded")
    if not text.isprintable():
        escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
        # The ledger counts what it is given: a text that is short enough must not become too long by our escapes.
        text = escaped if len(escaped) <= limit else "".join(c if c.isprintable() else "?" for c in text)
    # Refused here, and not by the ledger, which sees the text only once the model is loaded.
    size = len(text.encode(errors="replace"))
    if size > MAX_TEXT_BYTES:
        raise InvalidRequestError(
            f"{name} has {size} bytes in UTF-8: at most {MAX_TEXT_BYTES} are recorded. Shorten it"
        )
    return text


def request_id(value: str) -> str:
    """The id, or a new one where none was given; InvalidRequestError for one off the grammar."""
    if not value:
        return str(uuid.uuid4())
    if not _REQUEST_ID.fullmatch(value):
        raise InvalidRequestError(
            f"request_id {value[:80]!r} is not valid: expected 1 to 64 printable ASCII characters without spaces, such "
            "as a UUID"
        )
    return value


def shadow_plan(message: wire.ShadowPlan) -> ShadowPlan:
    """The plan, with what it does not say as the contract has it; InvalidRequestError for one that makes no sense."""
    duration_s = message.duration.seconds + message.duration.nanos / 1e9
    if not MIN_SHADOW_S <= duration_s <= MAX_SHADOW_S:
        raise InvalidRequestError(
            f"a shadow of {duration_s:g} s: expected {MIN_SHADOW_S:g} to {MAX_SHADOW_S:g} s, such as 300"
        )
    said = {name: getattr(message, name) for name in _LIMITS if message.HasField(name)}
    plan = ShadowPlan(duration_s=duration_s, **said)
    if not 0 <= plan.max_disagreement <= 1:
        raise InvalidRequestError(
            f"max_disagreement is {plan.max_disagreement:g}: expected a share from 0 to 1"
        )
    if not plan.max_slowdown > 0:
        raise InvalidRequestError(f"max_slowdown is {plan.max_slowdown:g}: expected more than 0, such as 2")
    if plan.min_predictions < 1:
        raise InvalidRequestError(
            "min_predictions is 0: expected at least 1, for nothing else could be compared"
        )
    return plan


def page_size(value: int) -> int:
    """How many entries a page has; InvalidRequestError for a negative number."""
    if value < 0:
        raise InvalidRequestError(f"page_size is {value}: expected 0 (for {DEFAULT_PAGE}) or more")
    return min(value or DEFAULT_PAGE, MAX_PAGE)


def page_token(before: int) -> str:
    """The token that asks for the records before this generation."""
    return base64.urlsafe_b64encode(f"before:{before}".encode()).decode("ascii")


def read_page_token(token: str) -> int | None:
    """The generation before which the page begins; None for the first page. InvalidRequestError for a foreign token."""
    if not token:
        return None
    try:
        match = _TOKEN.fullmatch(base64.b64decode(token, altchars=b"-_", validate=True).decode("ascii"))
    except (binascii.Error, ValueError):
        match = None
    if match is None:
        raise InvalidRequestError(
            f"page_token {token[:80]!r} is not one of ours: expected the next_page_token of an earlier answer"
        )
    return int(match["generation"])
