"""An accountant that shares no code with the gateway: it asks, it is the model server, and it does the sums.

    accountant.py REQUESTS SEED

The first line it writes is JSON: how the gateway has to be set up. The first line it reads is JSON as well: where that
gateway is, and its keys. It ends with 1 where a limit was passed in any span of time, or where nothing was shown.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter

import books
import model
import play

LIMITS = [
    {"name": "tokens", "count": "tokens", "burst": 4_000, "per_second": 1_000},
    {"name": "input", "count": "input_tokens", "burst": 2_000, "per_second": 500},
    {"name": "output", "count": "output_tokens", "burst": 2_000, "per_second": 500},
    {"name": "cost", "count": "cost", "burst": 8_000, "per_second": 2_000},
    {"name": "requests", "count": "requests", "burst": 10, "per_second": 10},
    {"name": "concurrent", "count": "concurrent", "max": 3},
]
CLIENTS = 8


def setup(port):
    """What the gateway needs to know: a limit for each organization, and the models."""

    def row(limit):
        row = {"name": limit["name"], "per": ["key"], "when": {"org": limit["name"]}, "count": limit["count"]}
        if "max" in limit:
            return row | {"max": limit["max"]}
        return row | {"rate": f"{limit['per_second']}/second", "burst": limit["burst"]}

    endpoints = [*play.TEXT, *play.OTHERS]
    names = {"chat/completions": "chat", "audio/speech": "speech", "audio/transcriptions": "transcriptions"}
    entry = {
        "endpoints": [names.get(endpoint, endpoint.replace("/", "_")) for endpoint in endpoints],
        "targets": [{"cluster": "llama"}],
        "max_output": model.MAX_OUTPUT,
        # What a cap of 0 reserves: some servers go on to the end of it.
        "context_window": 1_000,
        "price": books.PRICES,
    }
    slow = entry | {"timeouts": {"first_byte": "500ms"}, "retries": 1}
    return {"model_port": port, "models": {"quick": entry, "slow": slow}, "limits": [row(limit) for limit in LIMITS]}


async def main(requests, seed):
    server = model.Model()
    print(json.dumps(setup(await server.start())), flush=True)
    gateway = json.loads(await asyncio.to_thread(sys.stdin.readline))
    address = tuple(gateway["address"].rsplit(":", 1))
    dice = random.Random(seed)
    plans = server.plans
    queues = {limit["name"]: [] for limit in LIMITS}
    for number in range(requests):
        limit = LIMITS[number % len(LIMITS)]["name"]
        plans[number] = play.draw(dice, number, limit, gateway["keys"][limit])
        queues[limit].append(plans[number])

    async def client(queue):
        while queue:
            plan = queue.pop()
            await play.perform(plan, address)
            if plan.answered == 429:
                await asyncio.sleep(min(plan.wait, 0.3))

    began = time.monotonic()
    await asyncio.gather(*(client(queue) for queue in queues.values() for _ in range(CLIENTS)))
    await asyncio.sleep(1)
    print(f"{requests} requests of seed {seed} in {time.monotonic() - began:.1f} s", file=sys.stderr)
    return judge(plans, server.attempts)


def judge(plans, attempts):
    good = True
    for attempt in attempts:
        attempt.ended = attempt.ended or time.monotonic()
    print("answers:", dict(Counter(plan.answered for plan in plans.values())), file=sys.stderr)
    for limit in LIMITS:
        own = [plan for plan in plans.values() if plan.limit == limit["name"]]
        of = [attempt for attempt in attempts if plans[attempt.play].limit == limit["name"]]
        refused = sum(plan.answered == 429 for plan in own)
        excess, span = books.over(limit, plans, of)
        said = f"{limit['name']}: {len(of)} attempts, {refused} refused, at most {excess:+.1f} of the limit"
        if excess > 0:
            first, last = span
            inside = [a for a in of if plans[a.play].sent >= first and a.received <= last]
            endings = Counter()
            for attempt in inside:
                endings[plans[attempt.play].ending] += attempt.read + attempt.written
            said += f": OVER in {last - first:.2f} s, tokens by ending: {dict(endings)}"
        print(said, file=sys.stderr)
        # An account of nothing shows nothing.
        good &= excess <= 0 and len(of) > len(own) / 10 and refused > 0
    reached = Counter((plans[a.play].endpoint, plans[a.play].ending) for a in attempts)
    endpoints = {endpoint for endpoint, _ in reached}
    missing = {*play.TEXT, *play.OTHERS} - endpoints
    endings = {*play.ENDINGS} - {"nonsense"} - {ending for _, ending in reached}
    if missing or endings:
        print(f"never reached: {missing} {endings}", file=sys.stderr)
    return good and not missing and not endings


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]))) else 1)
