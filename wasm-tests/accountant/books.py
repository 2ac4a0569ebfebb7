"""What the limits allow, and what the model server did: this accountant's own arithmetic.

Of each request it is known when its client sent it and when it was at the model server; in between the gateway let it
pass, by the same clock. So of any two moments: what was sent after the first and was at the server before the second is
at most burst + rate x time. No tolerance is needed.

What a repeated attempt takes beyond the first is a debt: nobody could reserve it, but whatever is sent once its request
has been over for a while has to wait for it. So it counts in every span that ends with such a request.
"""

from bisect import bisect_right
from itertools import accumulate

# Seconds after which the gateway knows that a client has left.
NOTICED = 1
PRICES = {"input": 1, "output": 4}


def amount(count, attempt):
    """What an attempt takes of a limit, in its unit."""
    return {
        "tokens": attempt.read + attempt.written,
        "input_tokens": attempt.read,
        "output_tokens": attempt.written,
        "cost": PRICES["input"] * attempt.read + PRICES["output"] * attempt.written,
    }[count]


def over(limit, plans, attempts):
    """The worst span of time: by how much it is over (or under, if negative), and which it is."""
    count = limit["count"]
    if count == "concurrent":
        return crowd(limit, plans, attempts)
    events, debts, seen = [], [], set()
    for attempt in sorted(attempts, key=lambda attempt: attempt.received):
        plan = plans[attempt.play]
        repeated = attempt.play in seen
        seen.add(attempt.play)
        if count == "requests":
            # Sent again by the gateway it is the same request.
            events += [] if repeated else [(plan.sent, attempt.received, 1)]
        elif repeated:
            debts.append((plan.sent, plan.left + NOTICED, amount(count, attempt)))
        else:
            events.append((plan.sent, attempt.received, amount(count, attempt)))
    worst = (float("-inf"), None)
    for start in sorted({sent for sent, _, _ in events}):
        inside = sorted((due, taken) for sent, due, taken in debts if sent >= start)
        dues, sums = [due for due, _ in inside], [0, *accumulate(taken for _, taken in inside)]
        total = 0
        for sent, received, taken in events:
            if sent >= start:
                total += taken
                owed = sums[bisect_right(dues, sent)]
                excess = total + owed - limit["burst"] - limit["per_second"] * (received - start)
                worst = max(worst, (excess, (start, received)))
    return worst


def crowd(limit, plans, attempts):
    """Requests at the server at once, while their clients still waited and it still worked."""
    moments, repeated = [], {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.received, reverse=True):
        plan = plans[attempt.play]
        # The gateway gave it up before it asked again.
        given_up = repeated.get(attempt.play, float("inf"))
        repeated[attempt.play] = attempt.received
        # One that failed may have ended before either of them knew.
        if plan.answered == 200 or plan.answered == 0:
            moments.append((attempt.received, 1))
            moments.append((max(attempt.received, min(attempt.ended, plan.left, given_up)), -1))
    now, most = 0, (float("-inf"), None)
    for moment, change in sorted(moments):
        now += change
        most = max(most, (now - limit["max"], (moment, moment)))
    return most
