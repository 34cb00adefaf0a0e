"""The simulated venue's REST server: aiohttp around the pure answers of `answers`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from time import time

import msgspec
from aiohttp import web

from marketfeed.errors import ConfigurationError
from marketfeed.simulator.answers import Answers, in_microseconds
from marketfeed.simulator.limits import Charge, RestLimits, WeightBudget
from marketfeed.simulator.parameters import Refused
from marketfeed.simulator.payloads import MICROSECOND

_HEADERS = {"Content-Type": "application/json;charset=UTF-8"}
_encode = msgspec.json.encode


class RestServer:
    """Serves `/api/v3/*` within the venue's limits, and what steers the simulator, `/simulator/*`, without any."""

    def __init__(
        self,
        answers: Answers,
        limits: RestLimits,
        *,
        state: Callable[[], object],
        list_symbols: Callable[[str], None],
        halt: Callable[[], None],
    ) -> None:
        """Answer from `answers`; `list_symbols` takes symbols as `--symbols` does, and raises ConfigurationError."""
        self._answers, self._state, self._list_symbols, self._halt_market = answers, state, list_symbols, halt
        self._budgets: defaultdict[str, WeightBudget] = defaultdict(lambda: WeightBudget(limits))
        app = web.Application()
        app.router.add_get("/api/v3/{endpoint}", self._api)
        app.router.add_get("/simulator/state", self._show_state)
        app.router.add_post("/simulator/symbols", self._add_symbols)
        app.router.add_post("/simulator/halt", self._halt)
        app.router.add_route("*", "/{path:.*}", _not_found)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, host: str, port: int) -> str:
        """Listen and return the base URL."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        return f"http://{host}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _show_state(self, _: web.Request) -> web.Response:
        return web.Response(body=_encode(self._state()), headers=_HEADERS)

    async def _add_symbols(self, request: web.Request) -> web.Response:
        """List the symbols of the body, `SOLUSDT,ADAUSDT:2`; those that are listed already stay as they are."""
        try:
            self._list_symbols(await request.text())
        except ConfigurationError as error:
            return web.Response(status=400, body=_encode({"error": str(error)}), headers=_HEADERS)
        return await self._show_state(request)

    async def _halt(self, request: web.Request) -> web.Response:
        """Halt the market for good: nothing more is issued, connections and REST stay."""
        self._halt_market()
        return await self._show_state(request)

    async def _api(self, request: web.Request) -> web.Response:
        name = request.match_info["endpoint"]
        weight = self._answers.weight(name, request.query)
        if weight is None:
            return await _not_found(request)
        now = time()
        charge = self._budgets[request.remote or ""].charge(weight, now)
        headers = _HEADERS | {"X-MBX-USED-WEIGHT": str(charge.used), "X-MBX-USED-WEIGHT-1M": str(charge.used)}
        if charge.status != 200:  # noqa: PLR2004 - HTTP's own number
            headers["Retry-After"] = str(charge.retry_after_s)
            return web.Response(status=charge.status, body=_encode(self._limited(charge, now)), headers=headers)
        try:
            answer = self._answers.answer(name, request.query, int(now * 1000))
        except Refused as refused:
            return web.Response(status=400, body=_encode(refused.body), headers=headers)
        if request.headers.get("X-MBX-TIME-UNIT") in MICROSECOND:
            answer = in_microseconds(answer)
        return web.Response(body=_encode(answer), headers=headers)

    def _limited(self, charge: Charge, now: float) -> dict[str, object]:
        """Return the venue's words for 429 and 418."""
        advice = "Please use WebSocket Streams for live updates to avoid"
        if charge.status == 418:  # noqa: PLR2004
            until = int((now + charge.retry_after_s) * 1000)
            return {"code": -1003, "msg": f"Way too much request weight used; IP banned until {until}. {advice} bans."}
        limit = f"current limit is {self._answers.weight_limit} request weight per 1 MINUTE"
        return {"code": -1003, "msg": f"Too much request weight used; {limit}. {advice} polling the API."}


async def _not_found(_request: web.Request) -> web.Response:
    return web.Response(status=404, text="<html><body><h2>404 Not found</h2></body></html>", content_type="text/html")
