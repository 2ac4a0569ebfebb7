#!lua
-- The coordinator's rule as one script of Redis: takes a message of a member, and answers it. It does what
-- `filters/shares/src/coordinator` does, in the same order and with the same names; docs/fleet-protocol.md says why.
--
-- Messages, answers and values are MessagePack, which Redis reads and writes in C (`cmsgpack`). Postcard would have to be
-- taken apart byte by byte in Lua.
--
-- Lua's numbers are doubles, and whole numbers are exact in them up to 2^53. So
--   * times are microseconds, as Redis has them: 285 years;
--   * counts and periods are below 2^51 (the caller sees to that), so that sums of a few are exact. Where a sum of many
--     is not, it is only compared with a limit, and rounding keeps that order;
--   * what a bucket holds is whole tokens and a rest in parts of the limit's period, in place of their product;
--   * a product divided by a number is worked out digit by digit where it passes 2^53 (`multiply_divide`).
-- Every answer is the one that the Rust rule gives, and not only a careful one.
--
-- KEYS[1]  what all keys of these books begin with. In a cluster it has a {tag}, so that they are in one place
-- ARGV     the message; the timing and the number of slots, the same for all who ask; an epoch, should the books be empty;
--          the run of Redis, or nothing where books survive a restart; in tests, the time
-- Answers  nothing where the Rust rule gives none; else the epoch and, unless the member gets no terms, these

local call, encode, decode = redis.call, cmsgpack.pack, cmsgpack.unpack
local floor, fmod, min, max = math.floor, math.fmod, math.min, math.max

-- Another form of the values, or another rule, has another number.
local FORMAT = 2
local EXACT = 2 ^ 53
-- What the constants of the same names are in Rust.
local MAX_PENDING, CHECKS, PAGE = 256, 8, 1024
local MAX_MEMBERS, MAX_SUBJECTS = 8192, 2 ^ 18
local DEACTIVATIONS = 16 * PAGE

local BOOKS = KEYS[1]
local ROLL = BOOKS .. ':roll'           -- hash: incarnation to record
local ENDS = BOOKS .. ':ends'           -- sorted: incarnation by the end of its lease
local HELD = BOOKS .. ':held'           -- sorted: incarnation with a slot, by the version that it has taken
local FREE = BOOKS .. ':free'           -- sorted: moments since when slots are free
local FREED = BOOKS .. ':freed'         -- hash: such a moment to how many
local LOG = BOOKS .. ':log'             -- sorted: entries by version
local ENDED = BOOKS .. ':ended'         -- list: versions of deactivations
local SUBJECTS = BOOKS .. ':subjects'   -- hash: key to subject
local CHECKED = BOOKS .. ':checks'      -- sorted: key by when it is looked after
local PENDING = BOOKS .. ':pending'     -- sorted by bytes: incarnation and key

local message = decode(ARGV[1])
local WHO, SEQ, ANSWERED, EPOCH, VERSION, PARTS, LEAVES = unpack(message, 1, 7)
-- Each want is so many items of the message, from here on.
local FIRST_WANT, WANT = 8, 10
local TTL, SKEW, MAX_STEP, PATIENCE, FIRST_PARTS = unpack(decode(ARGV[2]))
local HELD_FOR = TTL + SKEW

-- The few values that each message reads and writes.
local state = {}
local now

--------------------------------------------------------------------------------------------------------------------
-- Numbers

-- a × b ÷ c rounded down, and the rest: exact for what is below 2^51, and also for an `a` below 2^53. A result above
-- 2^53 is only near.
local function multiply_divide(a, b, c)
  local product = a * b
  if product < EXACT then
    local rest = fmod(product, c)
    return (product - rest) / c, rest
  end
  -- Digits of b, the highest first, so small that c × base × 2 is exact.
  local _, bits = math.frexp(c)
  local base = math.ldexp(1, 52 - bits)
  local a_rest = fmod(a, c)
  local a_whole = (a - a_rest) / c
  local place = 1
  while place * base <= b do
    place = place * base
  end
  local whole, rest = 0, 0
  while place >= 1 do
    local digit = floor(b / place)
    b = b - digit * place
    local sum = rest * base + a_rest * digit
    rest = fmod(sum, c)
    whole = whole * base + a_whole * digit + (sum - rest) / c
    place = place / base
  end
  return whole, rest
end

local function scale(of, to, from)
  return (multiply_divide(of, to, max(from, 1)))
end

local function less(one, other)
  return max(one - other, 0)
end

-- Whether one incarnation is before another. Lua's `<` goes by the locale.
local function is_before(one, other)
  local one_high, one_low = struct.unpack('>I4I4', one)
  local other_high, other_low = struct.unpack('>I4I4', other)
  return one_high < other_high or (one_high == other_high and one_low < other_low)
end

-- Times as text: `..` keeps 14 digits alone.
local function text(number)
  return string.format('%.0f', number)
end

--------------------------------------------------------------------------------------------------------------------
-- Apportion

local function sum_of(numbers)
  local sum = 0
  for at = 1, #numbers do
    sum = sum + numbers[at]
  end
  return sum
end

-- Demands with room for noise.
local function roomy(limit, demands)
  local sum = sum_of(demands)
  local wanted = {}
  for at = 1, #demands do
    local demand = demands[at]
    if sum * 2 <= limit then
      wanted[at] = demand * 2
    elseif sum <= limit and sum > 0 then
      wanted[at] = scale(demand, limit, sum)
    else
      wanted[at] = demand + floor(demand / 128)
    end
  end
  return wanted
end

-- Indices in the order of what is wanted, and among equals in their own.
local function order_of(wanted)
  local count, most = #wanted, 0
  for at = 1, count do
    most = max(most, wanted[at])
  end
  local order = {}
  if most * (count + 1) < EXACT / 2 then
    -- Both in one number, which is sorted without calls into Lua.
    for at = 1, count do
      order[at] = wanted[at] * (count + 1) + at
    end
    table.sort(order)
    for at = 1, count do
      order[at] = fmod(order[at], count + 1)
    end
    return order
  end
  for at = 1, count do
    order[at] = at
  end
  table.sort(order, function(one, other)
    if wanted[one] ~= wanted[other] then
      return wanted[one] < wanted[other]
    end
    return one < other
  end)
  return order
end

-- Max-min fair: equal shares, and nobody gets more than it wants.
local function fill(limit, wanted)
  if sum_of(wanted) <= limit then
    return wanted
  end
  local left, members = limit, #wanted
  local shares = {}
  for _, at in ipairs(order_of(wanted)) do
    local rest = fmod(left, members)
    local equal = (left - rest) / members
    if rest > 0 then
      equal = equal + 1
    end
    shares[at] = min(wanted[at], equal)
    left = left - shares[at]
    members = members - 1
  end
  return shares
end

-- `limit` in the proportion of `rates` to `whole`; at least one where there is a rate and one is left.
local function spread(limit, whole, rates)
  local shares = {}
  for at = 1, #rates do
    shares[at] = scale(rates[at], limit, whole)
  end
  local left = limit - sum_of(shares)
  for at = 1, #rates do
    if left <= 0 then
      break
    end
    if shares[at] == 0 and rates[at] > 0 then
      shares[at] = 1
      left = left - 1
    end
  end
  return shares
end

-- The rates and bursts that the holders of a subject should have.
local function apportion(subject)
  local rates = {}
  if subject.rate == 0 then
    local wanted = {}
    for at = 1, #subject.who do
      wanted[at] = max(subject.demands[at], subject.needs[at])
      rates[at] = 0
    end
    return rates, fill(subject.burst, roomy(subject.burst, wanted))
  end
  rates = fill(subject.rate, roomy(subject.rate, subject.demands))
  local needed = fill(subject.burst, subject.needs)
  local spreads = spread(subject.burst - sum_of(needed), subject.rate, rates)
  local bursts = {}
  for at = 1, #rates do
    bursts[at] = needed[at] + spreads[at]
  end
  return rates, bursts
end

--------------------------------------------------------------------------------------------------------------------
-- Shares: a rate and a burst

local RATE_SLACK, BURST_SLACK = 64, 8

local function with_slack(count, slack)
  return count + floor(count / slack)
end

local function is_near(rate, burst, target_rate, target_burst)
  return rate <= with_slack(target_rate, RATE_SLACK) and burst <= with_slack(target_burst, BURST_SLACK)
end

local function is_short_of(rate, burst, target_rate, target_burst, subject)
  if less(target_rate, rate) > floor(subject.rate / 16) or less(target_burst, burst) > floor(subject.burst / 16) then
    return true
  end
  return rate == 0 and burst == 0 and (target_rate > 0 or target_burst > 0)
end

-- The next rate or burst on the way to a target.
local function toward(held, target, free, slack)
  local down = target
  if held <= with_slack(target, slack) then
    down = held
  end
  return max(min(target, held + free), down)
end

-- One of so many parts.
local function one_of(parts, rate, burst)
  local part_rate, part_burst = floor(rate / parts), floor(burst / parts)
  if part_burst > 0 and (part_rate > 0 or rate == 0) then
    return part_rate, part_burst
  end
  return 0, 0
end

-- What a slot has of a limit without asking.
local function part_of(rate, burst)
  return one_of(state.parts, rate, burst)
end

--------------------------------------------------------------------------------------------------------------------
-- The log

local function enter(key, is_active)
  state.head = state.head + 1
  call('ZADD', LOG, state.head, key .. is_active .. text(state.head))
  return state.head
end

local function deactivate(key, activated)
  call('ZREMRANGEBYSCORE', LOG, activated, activated)
  call('RPUSH', ENDED, enter(key, '0'))
  if call('LLEN', ENDED) > DEACTIVATIONS then
    local oldest = call('LPOP', ENDED)
    call('ZREMRANGEBYSCORE', LOG, oldest, oldest)
  end
end

-- A page of what comes after a version, and up to which version that is all.
local function log_after(version)
  if version >= state.head then
    return version, {}
  end
  local entries = call('ZRANGEBYSCORE', LOG, '(' .. text(version), '+inf', 'LIMIT', 0, PAGE + 1)
  local page, last = {}, version
  for at = 1, min(#entries, PAGE) do
    local entry = entries[at]
    page[2 * at - 1] = entry:sub(1, 16)
    page[2 * at] = entry:byte(17) == 49
    last = tonumber(entry:sub(18))
  end
  if #entries <= PAGE then
    last = max(state.head, version)
  end
  return last, page
end

local function is_close(version)
  return version >= state.head or call('ZCOUNT', LOG, '(' .. text(version), '+inf') < PAGE / 2
end

--------------------------------------------------------------------------------------------------------------------
-- Slots

-- Slots are counted in the parts of when they became free: each is several once parts have doubled.
local function free_since(moment, count)
  local field = text(moment)
  local found = call('HGET', FREED, field)
  if found then
    local known, parts = decode(found)
    count = count + known * (state.parts / parts)
  end
  if count > 0 then
    call('ZADD', FREE, moment, field)
    call('HSET', FREED, field, encode(count, state.parts))
  else
    call('ZREM', FREE, field)
    call('HDEL', FREED, field)
  end
end

-- Gives a member the slot that was free for the longest, if there is one.
local function take_slot(record)
  if state.next > 0 then
    return
  end
  local field = call('ZRANGE', FREE, 0, 0)[1]
  if not field then
    return
  end
  record.free_since = tonumber(field)
  record.version, record.parts = state.head, state.parts
  free_since(record.free_since, -1)
  call('ZADD', HELD, record.version, WHO)
end

-- A member has given up the implicit parts of what was activated up to a version.
local function acknowledge(record, version)
  if record.parts > 0 and version > record.version then
    record.version = version
    call('ZADD', HELD, version, WHO)
  end
end

-- Once all holders have halved theirs, what they gave up are new slots.
local function finish_halving()
  if state.next == 0 then
    return
  end
  local held = call('ZCARD', HELD)
  if state.halved < held then
    return
  end
  local times = state.next / state.parts
  state.parts, state.next, state.halved = state.next, 0, 0
  state.doubled = now
  if held > 0 then
    free_since(now, held * (times - 1))
  end
end

local function halved_by(record, parts)
  if state.next > 0 and record.parts > 0 and record.parts < state.next and parts >= state.next then
    record.parts = state.next
    state.halved = state.halved + 1
    finish_halving()
  end
end

local function double_slots(members)
  if state.next > 0 or call('ZCARD', FREE) > 0 then
    return
  end
  local wanted = 1
  while wanted < members do
    wanted = wanted * 2
  end
  state.next = max(wanted, state.parts * 2)
  finish_halving()
end

--------------------------------------------------------------------------------------------------------------------
-- The roll

local function load_record(who)
  local found = call('HGET', ROLL, who)
  if not found then
    return nil
  end
  local record = {}
  record.seq, record.answered, record.joined, record.version, record.parts, record.free_since = decode(found)
  return record
end

local function store_record(who, record)
  local packed =
    encode(record.seq, record.answered, record.joined, record.version, record.parts, record.free_since)
  call('HSET', ROLL, who, packed)
end

local function forget(who)
  local record = load_record(who)
  call('ZREM', ENDS, who)
  if record then
    call('HDEL', ROLL, who)
    state.deaths = state.deaths + 1
    if record.parts > 0 then
      call('ZREM', HELD, who)
      if state.next == record.parts then
        state.halved = state.halved - 1
      end
      free_since(now, 1)
      finish_halving()
    end
  end
  call('ZREMRANGEBYLEX', PENDING, '[' .. who, '[' .. who .. ('\255'):rep(17))
end

-- Members whose leases have run out, and with them what they held.
local function expire()
  while true do
    local first = call('ZRANGE', ENDS, 0, 0, 'WITHSCORES')
    if not first[1] or tonumber(first[2]) > now then
      return
    end
    forget(first[1])
  end
end

--------------------------------------------------------------------------------------------------------------------
-- Subjects. Holders are lists side by side, in the order of their incarnations.

local function load_subject(key)
  local found = call('HGET', SUBJECTS, key)
  if not found then
    return nil
  end
  local s = {}
  s.rate, s.period, s.burst, s.activated, s.deaths,
    s.pool_rate, s.pool_burst, s.tokens, s.rest, s.from,
    s.who, s.rates, s.bursts, s.demands, s.needs =
    decode(found)
  return s
end

local function store_subject(key, s)
  local limit = encode(s.rate, s.period, s.burst, s.activated, s.deaths)
  local pool = encode(s.pool_rate, s.pool_burst, s.tokens, s.rest, s.from)
  call('HSET', SUBJECTS, key, limit .. pool .. encode(s.who, s.rates, s.bursts, s.demands, s.needs))
end

local function keep_holders(subject, keeps)
  local kept = 0
  local count = #subject.who
  for at = 1, count do
    if keeps(at) then
      kept = kept + 1
      for _, list in ipairs({ subject.who, subject.rates, subject.bursts, subject.demands, subject.needs }) do
        list[kept] = list[at]
      end
    end
  end
  for at = kept + 1, count do
    for _, list in ipairs({ subject.who, subject.rates, subject.bursts, subject.demands, subject.needs }) do
      list[at] = nil
    end
  end
end

-- Where a member is among the holders, or nothing and where it would be.
local function find_holder(subject, who)
  local list = subject.who
  local low, high = 1, #list + 1
  while low < high do
    local middle = floor((low + high) / 2)
    if is_before(list[middle], who) then
      low = middle + 1
    else
      high = middle
    end
  end
  return list[low] == who and low or nil, low
end

-- For each holder its score in a sorted set, or `false`.
local function scores(set, holders)
  local found = {}
  for from = 1, #holders, 1000 do
    local some = call('ZMSCORE', set, unpack(holders, from, min(from + 999, #holders)))
    for at = 1, #some do
      found[from + at - 1] = some[at]
    end
  end
  return found
end

local function fit(subject)
  if subject.tokens >= subject.pool_burst then
    subject.tokens, subject.rest = subject.pool_burst, 0
  end
end

local function put(subject, tokens, rest)
  subject.tokens, subject.rest = subject.tokens + tokens, subject.rest + rest
  if subject.rest >= subject.period then
    subject.tokens, subject.rest = subject.tokens + 1, subject.rest - subject.period
  end
end

-- Brings the pool to now.
local function fill_pool(subject)
  if now >= subject.from then
    put(subject, multiply_divide(now - subject.from, subject.pool_rate, subject.period))
    subject.from = now
    fit(subject)
  end
end

-- Takes up to so many tokens out of the pool.
local function take(subject, most)
  local tokens, rest = most, 0
  if subject.tokens < most then
    tokens, rest = subject.tokens, subject.rest
  end
  subject.tokens, subject.rest = subject.tokens - tokens, subject.rest - rest
  return tokens, rest
end

local function change_pool(subject, rate, burst)
  if subject.pool_rate ~= rate or subject.pool_burst ~= burst then
    subject.pool_rate, subject.pool_burst = rate, burst
    subject.from = now + SKEW
  end
  fit(subject)
end

-- Drops the dead, and counts to each holder the implicit part that it may still use. How many others may use one.
local function count_implicit(subject)
  -- As long as nobody has died, all of them live.
  if subject.deaths ~= state.deaths then
    local ends = scores(ENDS, subject.who)
    keep_holders(subject, function(at)
      return ends[at]
    end)
    subject.deaths = state.deaths
  end
  local version = subject.activated
  if version == 0 then
    return 0
  end
  local behind = call('ZCOUNT', HELD, '-inf', '(' .. text(version))
  if behind > 0 then
    local part_rate, part_burst = part_of(subject.rate, subject.burst)
    for at, score in ipairs(scores(HELD, subject.who)) do
      if score and tonumber(score) < version then
        subject.rates[at] = max(subject.rates[at], part_rate)
        subject.bursts[at] = max(subject.bursts[at], part_burst)
        behind = behind - 1
      end
    end
  end
  return max(behind, 0)
end

-- What nobody may be using.
local function free_of(subject, implicit)
  local part_rate, part_burst = part_of(subject.rate, subject.burst)
  local rate = sum_of(subject.rates) + part_rate * implicit
  local burst = sum_of(subject.bursts) + part_burst * implicit
  return less(subject.rate, rate), less(subject.burst, burst)
end

-- Marks the shares of these members as to be told to them.
local function note_pending(members, key)
  for from = 1, #members, 1000 do
    local pairs_of = {}
    for at = from, min(from + 999, #members) do
      pairs_of[#pairs_of + 1] = 0
      pairs_of[#pairs_of + 1] = members[at] .. key
    end
    call('ZADD', PENDING, unpack(pairs_of))
  end
end

-- Moves the share of `who` towards what it should be: down at once, and up by what is free. Notes whose shares should
-- move beside that; without a `who` nothing but that.
local function decide(subject, who, key, grants)
  local implicit = count_implicit(subject)
  local free_rate, free_burst = free_of(subject, implicit)
  local target_rates, target_bursts = apportion(subject)
  local rates, bursts = subject.rates, subject.bursts
  local mine = who and find_holder(subject, who)
  if mine then
    local target_rate, target_burst = target_rates[mine], target_bursts[mine]
    local rate = toward(rates[mine], target_rate, free_rate, RATE_SLACK)
    local burst = toward(bursts[mine], target_burst, free_burst, BURST_SLACK)
    local tokens, rest = take(subject, less(burst, bursts[mine]))
    rates[mine], bursts[mine] = max(rates[mine], rate), max(bursts[mine], burst)
    local is_waiting = is_short_of(rate, burst, target_rate, target_burst, subject)
    for _, item in ipairs({ key, rate, burst, tokens, rest, subject.period, is_waiting }) do
      grants[#grants + 1] = item
    end
  end
  free_rate, free_burst = free_of(subject, implicit)
  local pending = {}
  local is_any_over = false
  for at = 1, #subject.who do
    local rate, burst, target_rate, target_burst = rates[at], bursts[at], target_rates[at], target_bursts[at]
    if at ~= mine then
      local moves = not is_near(rate, burst, target_rate, target_burst)
      if not moves and not is_near(target_rate, target_burst, rate, burst) then
        moves = toward(rate, target_rate, free_rate, RATE_SLACK) > rate
          or toward(burst, target_burst, free_burst, BURST_SLACK) > burst
      end
      if moves then
        pending[#pending + 1] = subject.who[at]
      end
    end
    is_any_over = is_any_over
      or (rate == 0 and burst == 0 and subject.demands[at] == 0 and subject.needs[at] == 0)
  end
  note_pending(pending, key)
  if is_any_over then
    keep_holders(subject, function(at)
      return rates[at] > 0 or bursts[at] > 0 or subject.demands[at] > 0 or subject.needs[at] > 0
    end)
    free_rate, free_burst = free_of(subject, implicit)
  end
  change_pool(subject, free_rate, free_burst)
  return mine
end

-- Since when nobody may have used a limit that has no implicit parts and is not in the books: it may have had some before
-- slots were halved.
local function unused_since(rate, burst)
  local part_rate, part_burst = one_of(FIRST_PARTS, rate, burst)
  if part_rate > 0 or part_burst > 0 then
    return max(state.ready, state.doubled) + SKEW
  end
  return state.ready + SKEW
end

-- What free slots have of a limit goes into its pool: as many parts as there are, each of which fills since nobody uses it,
-- and SKEW later at that.
local function put_unused(subject, part_rate, part_burst)
  local freed = call('HGETALL', FREED)
  for at = 1, #freed, 2 do
    local known, parts = decode(freed[at + 1])
    local count = known * (state.parts / parts)
    local filled = less(now, tonumber(freed[at]) + SKEW)
    local tokens, rest = multiply_divide(filled, part_rate, subject.period)
    if tokens >= part_burst then
      tokens, rest = part_burst, 0
    end
    local more
    more, rest = multiply_divide(rest, count, subject.period)
    put(subject, tokens * count + more, rest)
    subject.pool_rate = subject.pool_rate + part_rate * count
    subject.pool_burst = subject.pool_burst + part_burst * count
  end
end

-- A key that is not in the books: its implicit parts are to be given up, where it has any.
local function begin(key, rate, period, burst)
  local subject = {
    rate = rate,
    period = period,
    burst = burst,
    activated = 0,
    deaths = state.deaths,
    pool_rate = rate,
    pool_burst = burst,
    tokens = 0,
    rest = 0,
    from = unused_since(rate, burst),
    who = {},
    rates = {},
    bursts = {},
    demands = {},
    needs = {},
  }
  local part_rate, part_burst = part_of(rate, burst)
  if part_rate > 0 or part_burst > 0 then
    subject.activated = enter(key, '1')
    subject.pool_rate, subject.pool_burst, subject.from = 0, 0, now
    put_unused(subject, part_rate, part_burst)
  end
  call('ZADD', CHECKED, now + HELD_FOR, key)
  fill_pool(subject)
  return subject
end

-- What the member may hold from now on of a key that it asks about. Nothing is said of one that the books have with another
-- limit, nor of a new one where they are full.
local function serve(first, is_news, grants)
  local key, rate, period, burst, have_rate, have_burst, tokens, rest, demand, need =
    unpack(message, first, first + WANT - 1)
  local subject = load_subject(key)
  if subject then
    if rate ~= subject.rate or period ~= subject.period or burst ~= subject.burst then
      return
    end
  elseif call('HLEN', SUBJECTS) >= MAX_SUBJECTS then
    return
  end
  call('ZREM', PENDING, WHO .. key)
  subject = subject or begin(key, rate, period, burst)
  fill_pool(subject)
  if is_news then
    put(subject, tokens, rest)
  end
  local mine, place = find_holder(subject, WHO)
  if not mine then
    for _, list in ipairs({ subject.who, subject.rates, subject.bursts, subject.demands, subject.needs }) do
      table.insert(list, place, 0)
    end
    subject.who[place] = WHO
  end
  subject.rates[place], subject.bursts[place] = have_rate, have_burst
  subject.demands[place], subject.needs[place] = demand, need
  decide(subject, WHO, key, grants)
  store_subject(key, subject)
end

-- The same of a key that it does not ask about.
local function tell(key, grants)
  local subject = load_subject(key)
  local is_told = false
  if subject then
    fill_pool(subject)
    is_told = decide(subject, WHO, key, grants)
    store_subject(key, subject)
  end
  if not is_told then
    call('ZREM', PENDING, WHO .. key)
  end
end

local function look_after_one(key)
  local subject = load_subject(key)
  if not subject then
    return
  end
  fill_pool(subject)
  local implicit = count_implicit(subject)
  local free_rate, free_burst = free_of(subject, implicit)
  if subject.pool_rate ~= free_rate or subject.pool_burst ~= free_burst then
    -- What became free since somebody asked is for those who stay: with a steady demand they would not ask.
    decide(subject, nil, key)
  end
  local is_held = #subject.who > 0 or implicit > 0
  local is_full = subject.rate == 0 or subject.tokens >= subject.pool_burst
  if is_full and not is_held then
    call('HDEL', SUBJECTS, key)
    if subject.activated > 0 then
      deactivate(key, subject.activated)
    end
    return
  end
  local soon = HELD_FOR
  if not is_held then
    soon = SKEW
    if subject.rate > 0 then
      soon = soon + multiply_divide(subject.burst, subject.period, subject.rate) + 1
    end
  end
  call('ZADD', CHECKED, now + max(soon, 1), key)
  store_subject(key, subject)
end

-- Looks after the subjects whose turn it is.
local function look_after()
  for _ = 1, CHECKS do
    local first = call('ZRANGE', CHECKED, 0, 0, 'WITHSCORES')
    if not first[1] or tonumber(first[2]) > now then
      return
    end
    call('ZREM', CHECKED, first[1])
    look_after_one(first[1])
  end
end

--------------------------------------------------------------------------------------------------------------------
-- The message

local function load_state()
  local found = call('GET', BOOKS)
  if not found then
    return false
  end
  local s = state
  s.format, s.epoch, s.run, s.setup, s.wall, s.now, s.ready,
    s.parts, s.next, s.halved, s.doubled, s.head, s.deaths =
    decode(found)
  return true
end

local function store_state()
  local s = state
  local packed = encode(s.format, s.epoch, s.run, s.setup, s.wall, s.now, s.ready)
  call('SET', BOOKS, packed .. encode(s.parts, s.next, s.halved, s.doubled, s.head, s.deaths))
end

-- Empty books, in which nobody has anything until all that may have been in lost ones has run out.
local function begin_anew(wall)
  call('UNLINK', BOOKS, ROLL, ENDS, HELD, FREE, FREED, LOG, ENDED, SUBJECTS, CHECKED, PENDING)
  state = {
    format = FORMAT,
    epoch = ARGV[3],
    run = ARGV[4],
    setup = ARGV[2],
    wall = wall,
    now = 0,
    ready = HELD_FOR,
    parts = FIRST_PARTS,
    next = 0,
    halved = 0,
    doubled = 0,
    head = 0,
    deaths = 0,
  }
  free_since(HELD_FOR, FIRST_PARTS)
end

-- The slot that a member has, or gets now if it is up to date with the log: its parts and its age.
local function slot_of(record)
  if record.parts == 0 and is_close(VERSION) then
    take_slot(record)
    if record.parts == 0 and less(now, record.joined) >= PATIENCE then
      double_slots(call('ZCARD', ENDS))
    end
  end
  if record.parts == 0 then
    return 0, 0
  end
  return state.next > 0 and state.next or state.parts, less(now, record.free_since + SKEW)
end

-- Shares of what the message asks about, and of what else is pending for its member.
local function grants_of(is_news)
  local grants, asked = {}, {}
  for first = FIRST_WANT, #message, WANT do
    asked[message[first]] = true
    serve(first, is_news, grants)
  end
  local pending = call('ZRANGEBYLEX', PENDING, '[' .. WHO, '[' .. WHO .. ('\255'):rep(17), 'LIMIT', 0, MAX_PENDING)
  for _, one in ipairs(pending) do
    local key = one:sub(9)
    if not asked[key] then
      tell(key, grants)
    end
  end
  return grants
end

local function receive()
  expire()
  look_after()
  local record = load_record(WHO)
  local is_stranger = EPOCH ~= '' and (EPOCH ~= state.epoch or not record)
  local is_full = not record and call('ZCARD', ENDS) >= MAX_MEMBERS
  if is_stranger or is_full or now < state.ready then
    return encode(state.epoch)
  end
  if record and SEQ <= record.seq then
    return false
  end
  if LEAVES then
    forget(WHO)
    return false
  end
  record = record or { seq = 0, answered = 0, joined = now, version = 0, parts = 0, free_since = 0 }
  call('ZADD', ENDS, now + HELD_FOR, WHO)
  local is_news = ANSWERED > record.answered
  record.seq, record.answered = SEQ, ANSWERED
  if PARTS > 0 then
    acknowledge(record, VERSION)
    halved_by(record, PARTS)
  end
  local parts, age = slot_of(record)
  local grants = grants_of(is_news)
  -- Read last, so that what this very message activated is in it.
  local version, log = log_after(VERSION)
  if PARTS == 0 then
    if version == state.head then
      if parts > 0 then
        acknowledge(record, version)
      end
    else
      parts, age = 0, 0
    end
  end
  store_record(WHO, record)
  return encode(state.epoch, version, parts, age, log, grants)
end

local wall = tonumber(ARGV[5])
if not wall then
  local time = call('TIME')
  wall = tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local is_known = load_state()
if is_known and state.format > FORMAT then
  return redis.error_reply('FORMAT ' .. tostring(state.format))
end
if is_known and state.setup ~= ARGV[2] then
  return redis.error_reply('SETUP is another')
end
-- Books of an older rule are begun anew.
if not is_known or state.format < FORMAT or state.run ~= ARGV[4] then
  begin_anew(wall)
end
-- A jump forward counts as one step, and one back as none.
state.now = state.now + min(less(wall, state.wall), MAX_STEP)
state.wall = wall
now = state.now
local answer = receive()
store_state()
return answer
