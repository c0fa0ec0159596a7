"""Functions for policies in Python: whether an office is open.

plugin("office-hours").call("open", #{ unix_ms: … }) tells true or false."""

import json

import wit_world
from componentize_py_types import Err
from hours import Hours
from wit_world.exports import functions, lifecycle
from wit_world.imports.types import Failure_Internal, Failure_Unsupported

HOURS = Hours({})


class Lifecycle(wit_world.exports.Lifecycle):
    def describe(self):
        return lifecycle.Manifest("office-hours", "0.1.0", "Says when an office is open", lifecycle.Needs(0))

    def init(self, config):
        global HOURS
        try:
            HOURS = Hours(json.loads(config or "{}") or {})
        except (ValueError, TypeError) as error:
            raise Err(str(error))


class Functions(wit_world.exports.Functions):
    def signatures(self):
        return [
            functions.Signature("open", "#{ unix_ms } -> bool: whether the office is open then"),
            functions.Signature("opens_in_minutes", "#{ unix_ms } -> int: how long until it opens, 0 if it is open"),
        ]

    def call(self, name, args):
        try:
            unix_ms = json.loads(args)["unix_ms"]
            if name == "open":
                return json.dumps(HOURS.open_at(unix_ms))
            if name == "opens_in_minutes":
                return json.dumps(HOURS.opens_in_minutes(unix_ms))
        except (KeyError, TypeError, ValueError) as error:
            raise Err(Failure_Internal(f"{name} wants #{{ unix_ms: … }}: {error!r}"))
        raise Err(Failure_Unsupported(f"there is no function {name}"))
