#!lua name=@LIB@
--[[
What the store decides for all servers: sessions, rooms, presence, and the order of messages.

Owns every rule that two servers could decide differently. Knows no server, connection, JSON, time
zone or Unicode: names come folded, addresses hashed, passwords compared. The invariant: everything
is checked before the first write, because an error in the middle leaves earlier writes behind (the
store does not roll back). The only writes of a refused call are the meter that it is charged to and
the renewal of its session.

Plain Lua 5.1 with string functions only, so that a simulation can run it. While the library loads,
neither `redis.call` nor `string` exists: no aliases at file scope. `@LIB@` is replaced by whoever
loads it.

CALLS. KEYS = { prefix .. 'nodes' }; all other keys are derived from the prefix `dc:{N}:` and lie in
its slot. ARGV = node, incarnation, then what the function lists. Each connection of a node is an
incarnation: a command of a connection that was given up may still arrive, and is refused (FENCED).
Replies are arrays that begin with a status word. Whatever a server may send twice, because a
connection broke before the reply, has the same effect when it is executed again.

VALUES. Times and durations are microseconds, printed with '%.0f' (Lua's default loses digits).
Booleans are '1' and ''. A room is 10 or 32 hex digits, a `uid` (a person in one room) 16, an `sh`
(hash of a session's id) 32, `addr` (the hash of an address in one room) 14 or '' (exempt).
  id     `ms-q`, of the stream and of the message's UUID v7. Strictly increasing, whatever the clock
         does: the milliseconds never go back, and a full counter borrows the next one.
  body   kind(1) tail(16) uid(16) name-length(2 hex) name nonce-length(2 hex) nonce text. Kinds: C
         chat, D chat with its text deleted, J joined, L left, R removed, X message_deleted (its
         text is the UUID of the other message). `tail` is the end of the UUID.
  d      stamp(16 digits, the wall clock) and body: the one field of a stream entry
  entry  { id of the room's last message before it, or '0-0'; id; d }
  facts  `flags slow owner created expires count title`. Flags: p unlisted, l password, k locked,
         e encrypted, or `-`; no owner, no end: `-`.
  snapshot  { facts; uid, name … of those present, by arrival }

PUSHES, to the channel `prefix to:node`. A function tells its caller by its reply and the other nodes
by a push, so that it does not matter whether a store delivers a caller's own push before or after
the reply (Redis 7.0: before). Background work (reap, quit) tells all nodes by push. So do Q, A and
F, whose order against the reply is of no importance.
  M room prev id d   a message          R room facts    the room, or its owner, has changed
  T room uid name    is typing          D room why      deleted, expired, gone
  K room uid why     left, evicted, removed, ended: close the person's sockets in the room
  E sh               the session ended  N text          announcement
  Q room uid         ping this person   A room uid      it answered      F room folded   name is free

KEYS, after the prefix. What belongs to a room or a session gets a time to live when it is created,
so that nothing remains if no server ever returns.
  nodes  hash   node → incarnation: who may call      lease  zset  node → until when it may be silent
  cfg    hash   terms secret sessions rev lr (last reap) hold (ms that a room's keys live)
  due    zset   e:room end · k:room renew keys · g:room:uid end of grace · s:sh session → when
  rooms ix      zset   all rooms, public rooms → opening order        ir  hash  public room → facts
  at:node sat:node  set   rooms it is interested in, sessions with sockets at it
  s:sh   hash   n name, e end (none while attached), x ended, c sockets, c:node sockets there,
                j meter of joins, i without sockets since, k `a64 a48`, r joins so far,
                b `e i last use` before the first socket, while nothing has used it since
  sr:sh so:sh   hash room → `order version`, set: rooms joined, rooms owned. Only indices: the room
                decides. They are written before the room and cleaned after it.
  as:a ar:a     zset   sessions, rooms created from an address → last use, or ATTACHED
  cs:a cr:a     string meters of creations
  r:room hash   u q last id · n `node node ` interested · e end, w 'n'ew or 'e'mpty · z expiry ·
                m slow mode · o owner · y tombstones · s stays · a arrivals · c created · t title ·
                l `salt hash` · x locked · f encrypted · v private · h unlisted · k `a64 a48`
  m:room hash   member → addr \0 name \0 folded
  o:room f:room p:room   zset by arrival, hash folded → uid, hash uid → meter: who is present
  y:room y:room:node     hash uid → nodes where it has sockets (0: in its grace), set of the uids
                with sockets at a node. One such pair is a stay.
  x:room d:room stream, zset `id d` by id: messages, and tombstones of deleted ones
  k:room K:room hash uid nonce → id: nonces, and those before them
  n:room nz:room hash uid → `until addr name`, zset by time: bans
  w:room g:room gu:room gr:room  meters: slow mode, chats of people who are not present, guesses of
                an address and of all
  b:room hash   folded → `holder until node node `: open probes
]]

local HOUR = 3600000000
local ATTACHED = '9000000000000000' -- Later than any time: what has a socket gives way last.
local PAUSE = 3000000 -- A store that was not asked to reap for so long has been away itself.
local NETWORK = 8 -- A /48 of IPv6 has the shares of so many addresses.
local BANS, GUESSERS = 256, 4096 -- Most of a room.
local STALE = 1000000 -- A probe that nobody came back to for so long after its end is forgotten.
local ROOM_KEYS =
  { 'r', 'm', 'o', 'f', 'p', 'y', 'x', 'd', 'k', 'K', 'n', 'nz', 'w', 'g', 'b', 'gu', 'gr' }
local PASSING = { gu = true, gr = true } -- They end by themselves sooner.

-- Small things --------------------------------------------------------------------------------

local function num(n) return ('%.0f'):format(n) end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function has(words, word) return (' ' .. words):find(' ' .. word .. ' ', 1, true) end

local function tell(P, nodes, from, what)
  for node in nodes:gmatch('%S+') do
    if node ~= from then redis.call('SPUBLISH', P .. 'to:' .. node, what) end
  end
end

-- The generic cell rate algorithm, as in `rate`: the meter charged once more, or nil and how long
-- to wait. A meter that is further ahead than it can be charged is of before the clock went back.
local function gcra(meter, us, interval, burst)
  meter = math.min(math.max(tonumber(meter or 0), us), us + interval * burst)
  local wait = meter - us - interval * (burst - 1)
  if wait > 0 then return nil, wait end
  return meter + interval
end

local function hold(P) return redis.call('HGET', P .. 'cfg', 'hold') or num(50 * HOUR / 1000) end

local function two(pair)
  if not pair then return '', '' end
  return pair:match('^(%S*) ?(%S*)$')
end

local function push(list, ...)
  for _, value in ipairs({ ... }) do list[#list + 1] = value end
end

-- For commands with a list of any length: `unpack` has a bound.
local function in_chunks(list, use)
  for first = 1, #list, 1000 do
    use(first, unpack(list, first, math.min(first + 999, #list)))
  end
end

-- Messages ------------------------------------------------------------------------------------

-- kind, tail, uid, and where the text begins.
local function parts(d)
  local nonce = 52 + tonumber(d:sub(50, 51), 16)
  local text = nonce + 2 + tonumber(d:sub(nonce, nonce + 1), 16)
  return d:sub(17, 17), d:sub(18, 33), d:sub(34, 49), text
end

-- Exact in a double as long as milliseconds have 41 bits: until 2039. A client may ask for any id.
local function score(id)
  local ms, q = id:match('^(%d+)%-(%d+)$')
  return ms * 4096 + q
end

local function tombstone(P, room, id)
  local at = num(score(id))
  local found = redis.call('ZRANGEBYSCORE', P .. 'd:' .. room, at, at)[1]
  if found and found:sub(1, #id + 1) == id .. ' ' then return found:sub(#id + 2) end
end

-- A message that is kept, its text deleted or not.
local function kept(P, room, id)
  local found = redis.call('XRANGE', P .. 'x:' .. room, id, id)[1]
  return found and found[2][2] or tombstone(P, room, id)
end

local function oldest(P, room)
  local entry = redis.call('XRANGE', P .. 'x:' .. room, '-', '+', 'COUNT', 1)[1]
  local grave = redis.call('ZRANGE', P .. 'd:' .. room, 0, 0, 'WITHSCORES')
  return math.min(entry and score(entry[1]) or math.huge, tonumber(grave[2] or math.huge))
end

-- A message that is kept, without the one more that `arrive` keeps: clients have it no longer.
local function shown(P, room, id, keep)
  local d = kept(P, room, id)
  if not d then return nil end
  local count = redis.call('XLEN', P .. 'x:' .. room) + redis.call('ZCARD', P .. 'd:' .. room)
  return (count <= tonumber(keep) or score(id) > oldest(P, room)) and d or nil
end

-- Entries and tombstones together are at most `keep`; the oldest go first.
local function fit(P, room, keep, tombstones)
  local call, x, D = redis.call, P .. 'x:' .. room, P .. 'd:' .. room
  local excess = call('XLEN', x) + tombstones - keep
  while excess > 0 do
    local entry = call('XRANGE', x, '-', '+', 'COUNT', 1)[1]
    local grave = call('ZRANGE', D, 0, 0, 'WITHSCORES')
    if grave[1] and not (entry and score(entry[1]) < tonumber(grave[2])) then
      call('ZREM', D, grave[1])
      call('HINCRBY', P .. 'r:' .. room, 'y', -1)
    elseif entry then
      call('XDEL', x, entry[1])
    end
    excess = excess - 1
  end
end

local function renew(P, room, nodes)
  local ttl = hold(P)
  for _, key in ipairs(ROOM_KEYS) do
    if not PASSING[key] then redis.call('PEXPIRE', P .. key .. ':' .. room, ttl) end
  end
  for node in nodes:gmatch('%S+') do
    redis.call('PEXPIRE', P .. 'y:' .. room .. ':' .. node, ttl)
  end
end

-- The place of a message in the order, and nowhere else. `r`: u q n y of the room, if the caller has
-- read them; they are kept up to date, so that a second message may follow.
local function append(P, room, from, us, keep, body, r)
  local call, R = redis.call, P .. 'r:' .. room
  r = r or call('HMGET', R, 'u', 'q', 'n', 'y')
  local prev, last = r[1] .. '-' .. r[2], tonumber(r[1])
  local ms, q = math.floor(us / 1000), 0
  if ms <= last then
    ms, q = last, r[2] + 1
    if q > 4095 then ms, q = ms + 1, 0 end
  end
  r[1], r[2] = num(ms), ('%d'):format(q)
  local id, d = r[1] .. '-' .. r[2], ('%016.0f'):format(us) .. body
  if r[4] and r[4] ~= '0' then
    call('XADD', P .. 'x:' .. room, id, 'd', d)
    fit(P, room, keep, r[4])
  else
    call('XADD', P .. 'x:' .. room, 'MAXLEN', keep, id, 'd', d)
  end
  call('HSET', R, 'u', r[1], 'q', r[2])
  if last == 0 then call('PEXPIRE', P .. 'x:' .. room, hold(P)) end
  if r[3] then tell(P, r[3], from, 'M ' .. room .. ' ' .. prev .. ' ' .. id .. ' ' .. d) end
  return { prev, id, d }
end

local function said(kind, tail, uid, name, text)
  return kind .. tail .. uid .. ('%02x'):format(#name) .. name .. '00' .. (text or '')
end

-- Rooms ---------------------------------------------------------------------------------------

-- Whether a room has ended, although nobody has reaped it yet.
local function is_over(ends, expiry, us)
  return ends and tonumber(ends) <= us or expiry and tonumber(expiry) <= us
end

-- `u` and the named fields of a living room, or nil.
local function living(P, room, us, ...)
  local r = redis.call('HMGET', P .. 'r:' .. room, 'e', 'z', 'u', ...)
  if not r[3] or is_over(r[1], r[2], us) then return nil end
  return unpack(r, 3)
end

local function facts(P, room)
  local call = redis.call
  local r = call('HMGET', P .. 'r:' .. room, 'v', 'h', 'l', 'x', 'f', 'm', 'o', 'c', 'z', 't')
  local is_public = not (r[1] or r[2])
  local flags = (is_public and '' or 'p') .. (r[3] and 'l' or '') .. (r[4] and 'k' or '')
    .. (r[5] and 'e' or '')
  if flags == '' then flags = '-' end
  local count = call('ZCARD', P .. 'o:' .. room)
  local words = { flags, r[6] or '0', r[7] or '-', r[8], r[9] or '-', count, r[10] or '' }
  return table.concat(words, ' '), is_public
end

-- Brings the list of public rooms up to date; returns the facts.
local function relist(P, room)
  local now, is_public = facts(P, room)
  if is_public then
    redis.call('HSET', P .. 'ir', room, now)
    redis.call('HINCRBY', P .. 'cfg', 'rev', 1)
  end
  return now
end

local function changed(P, room, from)
  local now = relist(P, room)
  tell(P, redis.call('HGET', P .. 'r:' .. room, 'n') or '', from, 'R ' .. room .. ' ' .. now)
  return now
end

-- The room goes to whoever present has been in it longest, or to the next who comes.
local function hand_over(P, room, from)
  local heir = redis.call('ZRANGE', P .. 'o:' .. room, 0, 0)[1]
  if heir then redis.call('HSET', P .. 'r:' .. room, 'o', heir)
  else redis.call('HDEL', P .. 'r:' .. room, 'o') end
  return changed(P, room, from)
end

-- When a room ends next: it has an end while it is empty, and an expiry if it has a `ttl`.
local function schedule(P, room, ends, expiry)
  local at = math.min(tonumber(ends or ATTACHED), tonumber(expiry or ATTACHED))
  if at == tonumber(ATTACHED) then redis.call('ZREM', P .. 'due', 'e:' .. room)
  else redis.call('ZADD', P .. 'due', num(at), 'e:' .. room) end
end

-- Counts something in the shares of its address and network, or moves it in their order.
local function attribute(P, kind, pair, since, member, ttl)
  local a64, a48 = two(pair)
  for _, a in ipairs({ a64, a48 }) do
    if a ~= '' then
      redis.call('ZADD', P .. kind .. ':' .. a, since, member)
      if ttl then redis.call('PEXPIRE', P .. kind .. ':' .. a, ttl) end
    end
  end
end

local function discount(P, kind, pair, member)
  local a64, a48 = two(pair)
  for _, a in ipairs({ a64, a48 }) do
    if a ~= '' then redis.call('ZREM', P .. kind .. ':' .. a, member) end
  end
end

-- Whether an address may create one more: true and what gives way to it, or false. `may_go` says
-- whether something may give way; nil: it has expired with its time to live, while no server ran.
local function admit(P, kind, a64, a48, most, may_go)
  local call, first = redis.call
  while true do
    local full = call('ZCARD', P .. kind .. ':' .. a64) >= most
      or a48 ~= '' and call('ZCARD', P .. kind .. ':' .. a48) >= NETWORK * most
    if not full then return true end
    first = call('ZRANGE', P .. kind .. ':' .. a64, 0, 0, 'WITHSCORES')
    if not first[1] then return false end
    local gives_way = may_go(first[1], tonumber(first[2]))
    if gives_way ~= nil then return gives_way, first[1] end
    discount(P, kind, a64 .. ' ' .. a48, first[1])
  end
end

local function take(P, key, us, interval, burst)
  if interval == 0 then return nil end
  local meter, wait = gcra(redis.call('GET', P .. key), us, interval, burst)
  if wait then return wait end
  redis.call('SET', P .. key, num(meter), 'PX', num((meter - us) / 1000 + 1))
end

-- The interested nodes, and those where somebody only waits for a name.
local function listeners(P, room, nodes)
  local probes = redis.call('HGETALL', P .. 'b:' .. room)
  for at = 2, #probes, 2 do
    for node in probes[at]:match('^%S+ %d+ (.*)$'):gmatch('%S+') do
      if not has(nodes, node) then nodes = nodes .. node .. ' ' end
    end
  end
  return nodes
end

local function raze(P, room, from, why)
  local call = redis.call
  local r = call('HMGET', P .. 'r:' .. room, 'n', 'k')
  local nodes = r[1] or ''
  tell(P, listeners(P, room, nodes), from, 'D ' .. room .. ' ' .. why)
  for node in nodes:gmatch('%S+') do
    call('SREM', P .. 'at:' .. node, room)
    call('UNLINK', P .. 'y:' .. room .. ':' .. node)
  end
  for _, key in ipairs(ROOM_KEYS) do call('UNLINK', P .. key .. ':' .. room) end
  discount(P, 'ar', r[2], room)
  call('ZREM', P .. 'rooms', room)
  call('ZREM', P .. 'due', 'e:' .. room, 'k:' .. room)
  if call('ZREM', P .. 'ix', room) == 1 then
    call('HDEL', P .. 'ir', room)
    call('HINCRBY', P .. 'cfg', 'rev', 1)
  end
end

-- Access --------------------------------------------------------------------------------------

local function is_banned(P, room, uid, addr, us)
  local bans = redis.call('HGETALL', P .. 'n:' .. room)
  for at = 1, #bans, 2 do
    local ends, banned = bans[at + 1]:match('^(%d+) (%S+)')
    local applies = bans[at] == uid or addr ~= '' and banned == addr
    if applies and tonumber(ends) > us then return true end
  end
  return false
end

-- What keeps somebody out who is not a member: bans and the lock, which the owner need not mind, then
-- the password.
local function barrier(P, room, uid, addr, us, owner, locked)
  if owner == uid then return nil end
  if is_banned(P, room, uid, addr, us) then return 'BANNED' end
  return locked and 'LOCKED' or nil
end

local function gate(P, room, uid, addr, us, owner, locked, lock)
  return barrier(P, room, uid, addr, us, owner, locked) or lock and 'NOMEMBER' or nil
end

local function is_member(P, room, uid) return redis.call('HEXISTS', P .. 'm:' .. room, uid) == 1 end

-- addr, name, folded
local function member(P, room, uid)
  local m = redis.call('HGET', P .. 'm:' .. room, uid)
  if not m then return nil end
  local one = m:find('\0', 1, true)
  local other = m:find('\0', one + 1, true)
  return m:sub(1, one - 1), m:sub(one + 1, other - 1), m:sub(other + 1)
end

local function enlist(P, room, uid, addr, name, folded)
  local call, m = redis.call, P .. 'm:' .. room
  local is_new = call('HSET', m, uid, addr .. '\0' .. name .. '\0' .. folded) == 1
  if is_new and call('HLEN', m) == 1 then call('PEXPIRE', m, hold(P)) end
end

-- Charges a person's message meter. It is in `p` while the person is present, else in `g`, where it
-- is forgotten when it counts no more. `meter`: as in `p`.
local function charge(P, room, uid, meter, us, interval, burst)
  if interval == 0 then return nil end
  local call, g, wait = redis.call, P .. 'g:' .. room
  local is_present = meter
  meter, wait = gcra(meter or call('ZSCORE', g, uid), us, interval, burst)
  if wait then return wait end
  if is_present then call('HSET', P .. 'p:' .. room, uid, num(meter)) return nil end
  call('ZREMRANGEBYSCORE', g, '-inf', num(us))
  call('ZADD', g, num(meter), uid)
  call('PEXPIRE', g, hold(P))
end

local function paced(P, room, uid, us, interval, burst)
  local meter = redis.call('HGET', P .. 'p:' .. room, uid)
  return charge(P, room, uid, meter, us, tonumber(interval), tonumber(burst))
end

-- Presence ------------------------------------------------------------------------------------

-- holder, until, waiting nodes
local function probe(P, room, folded)
  local b = redis.call('HGET', P .. 'b:' .. room, folded)
  if not b then return nil end
  local holder, ends, nodes = b:match('^(%S+) (%d+) (.*)$')
  return holder, tonumber(ends), nodes
end

-- A sign of life of somebody who is probed.
local function answer(P, room, uid, folded)
  local holder, _, nodes = probe(P, room, folded)
  if holder ~= uid then return end
  redis.call('HDEL', P .. 'b:' .. room, folded)
  tell(P, nodes, '', 'A ' .. room .. ' ' .. uid)
end

local function interest(P, room, node, nodes)
  local call = redis.call
  if has(nodes, node) then return nodes end
  call('HSET', P .. 'r:' .. room, 'n', nodes .. node .. ' ')
  if call('SADD', P .. 'at:' .. node, room) == 1 then
    call('PEXPIRE', P .. 'at:' .. node, num(2 * hold(P)))
  end
  return nodes .. node .. ' '
end

local function disinterest(P, room, node)
  local call, R = redis.call, P .. 'r:' .. room
  call('SREM', P .. 'at:' .. node, room)
  local nodes = call('HGET', R, 'n')
  if not nodes then return end
  local at = has(nodes, node)
  if at then call('HSET', R, 'n', nodes:sub(1, at - 1) .. nodes:sub(at + #node + 1)) end
end

-- The node drops its mirror, unless somebody has sockets there by now.
local function drop(P, room, node)
  if redis.call('SCARD', P .. 'y:' .. room .. ':' .. node) == 0 then disinterest(P, room, node) end
end

local function people(P, room)
  local call, list = redis.call, {}
  local uids = call('ZRANGE', P .. 'o:' .. room, 0, -1)
  in_chunks(uids, function(first, ...)
    for at, m in ipairs(call('HMGET', P .. 'm:' .. room, ...)) do
      push(list, uids[first + at - 1], m and m:match('^%Z*%z(%Z*)') or '')
    end
  end)
  return list
end

-- id and d of a tombstone
local function grave_of(member)
  local at = member:find(' ', 1, true)
  return member:sub(1, at - 1), member:sub(at + 1)
end

local function snapshot(P, room)
  return { (facts(P, room)), people(P, room) }
end

-- Ends somebody's presence and tells the room. nil: was not present. A meter that still counts is
-- kept: coming back does not earn another burst.
local function depart(P, room, from, us, keep, uid, tail, kind, r)
  local call = redis.call
  if call('ZREM', P .. 'o:' .. room, uid) == 0 then return nil end
  local _, name, folded = member(P, room, uid)
  local meter = call('HGET', P .. 'p:' .. room, uid)
  if meter and tonumber(meter) > us then
    call('ZADD', P .. 'g:' .. room, meter, uid)
    call('PEXPIRE', P .. 'g:' .. room, hold(P))
  end
  call('HDEL', P .. 'f:' .. room, folded)
  call('HDEL', P .. 'p:' .. room, uid)
  call('HDEL', P .. 'y:' .. room, uid)
  call('ZREM', P .. 'due', 'g:' .. room .. ':' .. uid)
  local left = append(P, room, from, us, keep, said(kind or 'L', tail, uid, name), r)
  relist(P, room)
  local _, _, waiting = probe(P, room, folded)
  if waiting then
    call('HDEL', P .. 'b:' .. room, folded)
    tell(P, waiting, '', 'F ' .. room .. ' ' .. folded)
  end
  return left
end

-- Some of a room's stays have ended. After the last one the room has an end again.
local function unseat(P, room, count, us, ttl)
  local call, R = redis.call, P .. 'r:' .. room
  if count == 0 or call('HINCRBY', R, 's', -count) > 0 then return end
  local r, ends = call('HMGET', R, 'z', 'k'), num(us + ttl)
  call('HSET', R, 'e', ends, 'w', 'e')
  schedule(P, room, ends, r[1])
  attribute(P, 'ar', r[2], num(us), room)
end

-- All stays of a person end, and its sockets are to be closed; nodes but `from` are told.
local function expel(P, room, from, uid, why, us, ttl)
  local call, count = redis.call, 0
  local nodes = call('HGET', P .. 'r:' .. room, 'n') or ''
  tell(P, listeners(P, room, nodes), from, 'K ' .. room .. ' ' .. uid .. ' ' .. why)
  for node in nodes:gmatch('%S+') do
    count = count + call('SREM', P .. 'y:' .. room .. ':' .. node, uid)
  end
  if count > 0 then call('HSET', P .. 'y:' .. room, uid, 0) end
  unseat(P, room, count, us, ttl)
end

-- Whether somebody waits for this person's name.
local function is_wanted(P, room, uid, us)
  if redis.call('EXISTS', P .. 'b:' .. room) == 0 then return false end
  local _, _, folded = member(P, room, uid)
  local holder, ends = probe(P, room, folded or '')
  return holder == uid and us < ends + STALE
end

-- One stay ends. The last one of a person is followed by its departure, now or after the grace.
local function unstay(P, room, node, from, uid, us, grace, ttl, keep, tail)
  local call = redis.call
  if call('SREM', P .. 'y:' .. room .. ':' .. node, uid) == 0 then return nil end
  unseat(P, room, 1, us, ttl)
  if call('HINCRBY', P .. 'y:' .. room, uid, -1) > 0 then return nil end
  if grace <= 0 or is_wanted(P, room, uid, us) then
    return depart(P, room, from, us, keep, uid, tail)
  end
  call('ZADD', P .. 'due', num(us + grace), 'g:' .. room .. ':' .. uid)
end

-- A member's first sockets at a node. r.s counts all stays of the room.
local function stay(P, room, node, uid)
  local call, here = redis.call, P .. 'y:' .. room .. ':' .. node
  if call('SADD', here, uid) == 0 then return end
  call('PEXPIRE', here, hold(P))
  call('HINCRBY', P .. 'y:' .. room, uid, 1)
  call('ZREM', P .. 'due', 'g:' .. room .. ':' .. uid)
  if call('HINCRBY', P .. 'r:' .. room, 's', 1) > 1 then return end
  local r = call('HMGET', P .. 'r:' .. room, 'z', 'k')
  call('HDEL', P .. 'r:' .. room, 'e', 'w')
  schedule(P, room, nil, r[1])
  attribute(P, 'ar', r[2], ATTACHED, room)
end

-- Asks the holder of a name, by the nodes where it has sockets, to show that it is there. nil: it has
-- not; it gives way. Else the answer to the newcomer. One probe, however many wait for it.
local function ask(P, us, node, nodes, room, holder, folded, mode, timeout)
  local call, B = redis.call, P .. 'b:' .. room
  local asked, ends, waiting = probe(P, room, folded)
  local is_open = asked == holder and ends <= us + timeout -- Not from before the clock went back.
    and (mode == 'later' or us < ends + STALE)
  if is_open and mode == 'later' and us >= ends then return nil end
  if not is_open then
    if mode == 'later' then return { 'TAKEN' } end -- It has answered, or another newcomer was first.
    ends, waiting = us + timeout, ''
    for there in nodes:gmatch('%S+') do
      if call('SISMEMBER', P .. 'y:' .. room .. ':' .. there, holder) == 1 then
        tell(P, there, '', 'Q ' .. room .. ' ' .. holder)
      end
    end
  end
  if not has(waiting, node) then waiting = waiting .. node .. ' ' end
  call('HSET', B, folded, holder .. ' ' .. num(ends) .. ' ' .. waiting)
  call('PEXPIRE', B, num((timeout + 60 * 1000000) / 1000))
  return { 'PROBE', num(math.max(ends - us, STALE / 10)), holder }
end

-- Makes a member present and announces it. Returns the entry, and the new facts if it inherits the
-- room.
local function arrive(P, room, node, us, keep, uid, name, folded, tail, r)
  local call, R, g = redis.call, P .. 'r:' .. room, P .. 'g:' .. room
  call('HSET', P .. 'p:' .. room, uid, call('ZSCORE', g, uid) or 0)
  call('ZREM', g, uid)
  call('ZADD', P .. 'o:' .. room, call('HINCRBY', R, 'a', 1), uid)
  call('HSET', P .. 'f:' .. room, folded, uid)
  local inherits = call('HSETNX', R, 'o', uid) == 1
  -- One more than is kept, until the next message: a node that loads the history first has to read
  -- what was kept before the arrival.
  local most = tonumber(keep) > 0 and keep + 1 or keep
  local joined = append(P, room, node, us, most, said('J', tail, uid, name), r)
  local now = inherits and changed(P, room, node) or relist(P, room)
  return joined, inherits and now
end

-- Nodes ---------------------------------------------------------------------------------------

-- A node's silence may be judged only by a store that was there itself. If it was paused, if its
-- clock was set, or if nobody reaped, every known node gets a new lease.
local function judge(P, us, lease)
  local call = redis.call
  local last = tonumber(call('HGET', P .. 'cfg', 'lr') or 0)
  local was_away = math.abs(us - last) > PAUSE
  if was_away then
    for _, node in ipairs(call('ZRANGE', P .. 'lease', 0, -1)) do
      if call('HEXISTS', P .. 'nodes', node) == 1 then
        call('ZADD', P .. 'lease', num(us + lease), node)
      end
    end
  end
  call('HSET', P .. 'cfg', 'lr', num(us))
  return was_away
end

-- `terms`: what all servers of a store have in common. NEW: choose another name, subscribe to its
-- channel, and call again with `fresh`. `ttl_max`: the longest time that a room may be empty. Not
-- fenced: it sets the incarnation.
local function hello(P, us, node, inc, lease, terms, fresh, secret_draft, ttl_max)
  local call, cfg = redis.call, P .. 'cfg'
  local known = call('HGET', cfg, 'terms')
  if known and known ~= terms then return { err = 'TERMS ' .. known } end
  if not known then call('HSET', cfg, 'terms', terms) end
  if secret_draft ~= '' then call('HSETNX', cfg, 'secret', secret_draft) end
  local ttl = (26 * HOUR + (tonumber(ttl_max or '') or 24 * HOUR)) / 1000
  if tonumber(call('HGET', cfg, 'hold') or 0) < ttl then call('HSET', cfg, 'hold', num(ttl)) end
  judge(P, us, lease)
  local ends = call('ZSCORE', P .. 'lease', node)
  local is_known = call('HEXISTS', P .. 'nodes', node) == 1 and ends and tonumber(ends) >= us
  if fresh ~= '1' and not is_known then return { 'NEW' } end
  call('HSET', P .. 'nodes', node, inc)
  call('ZADD', P .. 'lease', num(us + lease), node)
  return { 'KEPT', call('HGET', cfg, 'secret') or '', num(us) }
end

local function counts(P)
  return redis.call('HGET', P .. 'cfg', 'sessions') or '0', num(redis.call('ZCARD', P .. 'rooms'))
end

-- Replies when `reap` has something to do, and what a node wants to know each second.
local function beat(P, us, node, lease)
  local call = redis.call
  judge(P, us, lease)
  call('ZADD', P .. 'lease', num(us + lease), node)
  local life = num(2 * hold(P))
  call('PEXPIRE', P .. 'at:' .. node, life)
  call('PEXPIRE', P .. 'sat:' .. node, life)
  local due = call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')[2]
  local ends = call('ZRANGE', P .. 'lease', 0, 0, 'WITHSCORES')[2]
  local sessions, rooms = counts(P)
  local rev = call('HGET', P .. 'cfg', 'rev') or '0'
  local next_due = math.min(tonumber(due or ATTACHED), tonumber(ends))
  return { 'OK', num(us), num(next_due), sessions, rooms, rev, '0' }
end

local function count(P)
  return { 'OK', counts(P) }
end

-- A node ends. Its people are in their grace from now on; another node's `reap` does the rest.
local function bye(P, us, node)
  redis.call('HDEL', P .. 'nodes', node)
  redis.call('ZADD', P .. 'lease', num(us), node)
  return { 'OK' }
end

local function announce(P, us, node, text)
  for _, other in ipairs(redis.call('HKEYS', P .. 'nodes')) do tell(P, other, node, 'N ' .. text) end
  return { 'OK' }
end

-- Random UUID tails (variant 10, RFC 9562 §4.1) out of a seed.
local function tails(seed)
  local n = 0
  return function()
    n = n + 1
    local hex = redis.sha1hex(seed .. n)
    local variant = tonumber(hex:sub(16, 16), 16) % 4 + 1
    return ('89ab'):sub(variant, variant) .. hex:sub(1, 15)
  end
end

-- The session no longer has so many sockets at a node. After the last of all it has an end again; if
-- `was_refused` and nothing has used the session meanwhile, the end that it had before.
local function unplug(P, us, sh, node, count, ttl, was_refused)
  local call, S = redis.call, P .. 's:' .. sh
  local s = call('HMGET', S, 'c:' .. node, 'b')
  local here, before = tonumber(s[1] or 0), s[2]
  if before and not was_refused then
    call('HDEL', S, 'b')
    before = false
  end
  count = math.min(count, here)
  if count == here then
    call('HDEL', S, 'c:' .. node)
    call('SREM', P .. 'sat:' .. node, sh)
  else
    call('HINCRBY', S, 'c:' .. node, -count)
  end
  if count == 0 or call('HINCRBY', S, 'c', -count) > 0 then return end
  local ends, idle, used = num(us + ttl * 65 / 64), num(us), num(us)
  if before then
    ends, idle, used = before:match('^(%d+) (%d+) (%d+)$')
    call('HDEL', S, 'b')
    call('ZADD', P .. 'due', ends, 's:' .. sh) -- It may have been put later.
  end
  call('HSET', S, 'e', ends, 'i', idle)
  attribute(P, 'as', call('HGET', S, 'k'), used, sh)
end

-- Cleans up after a node that is silent since `since`, at most `most` steps; returns those left.
local function bury(P, us, dead, since, most, grace, ttl_empty, keep, tail, session_ttl)
  local call = redis.call
  while most > 0 do
    local room = call('SRANDMEMBER', P .. 'at:' .. dead)
    if not room then break end
    local here = P .. 'y:' .. room .. ':' .. dead
    for _, uid in ipairs(call('SRANDMEMBER', here, most)) do
      unstay(P, room, dead, '', uid, us, grace - (us - since), ttl_empty, keep, tail())
      most = most - 1
    end
    drop(P, room, dead)
    most = most - 1
  end
  while most > 0 do
    local sh = call('SRANDMEMBER', P .. 'sat:' .. dead)
    if not sh then
      call('ZREM', P .. 'lease', dead)
      return most - 1
    end
    unplug(P, us, sh, dead, 1000000, session_ttl)
    most = most - 1
  end
  return most
end

-- Something of a room or a session is due. It may have been moved meanwhile: a deadline that is
-- only extended leaves its old entry in `due`, which is then put where it belongs.
local function on_end(P, us, room)
  local r = redis.call('HMGET', P .. 'r:' .. room, 'u', 'e', 'z')
  local has_expired = r[3] and tonumber(r[3]) <= us
  if not r[1] or is_over(r[2], r[3], us) then
    raze(P, room, '', has_expired and 'expired' or 'gone')
  else
    schedule(P, room, r[2], r[3])
  end
end

local function on_keep(P, us, room)
  local r = redis.call('HMGET', P .. 'r:' .. room, 'n', 'k', 'u')
  if not r[3] then return raze(P, room, '', 'gone') end
  renew(P, room, r[1] or '')
  for _, a in ipairs({ two(r[2]) }) do
    if a ~= '' then redis.call('PEXPIRE', P .. 'ar:' .. a, hold(P)) end
  end
  redis.call('ZADD', P .. 'due', num(us + 12 * HOUR), 'k:' .. room)
end

local function lifetime(ttl) return num((ttl * 65 / 64 + HOUR) / 1000) end

local function renew_session(P, sh, pair, ttl)
  local life = lifetime(ttl)
  for _, key in ipairs({ 's:', 'sr:', 'so:' }) do redis.call('PEXPIRE', P .. key .. sh, life) end
  for _, a in ipairs({ two(pair) }) do
    if a ~= '' then redis.call('PEXPIRE', P .. 'as:' .. a, life) end
  end
end

-- Whether the caller is to end the session.
local function on_session(P, us, sh, ttl)
  local call, again = redis.call, us + 5000000
  local s = call('HMGET', P .. 's:' .. sh, 'n', 'x', 'e', 'k')
  if not s[1] then -- It went with its time to live.
    call('HINCRBY', P .. 'cfg', 'sessions', -1)
    return false
  end
  local ends = tonumber(s[3] or ATTACHED)
  local is_ending = s[2] or ends <= us
  if not s[3] then renew_session(P, sh, s[4], ttl) end
  if not is_ending then again = s[3] and ends or us + ttl end
  call('ZADD', P .. 'due', num(again), 's:' .. sh)
  return is_ending
end

-- Buries a node whose lease has run out, and does what is due: at most `most` steps. By any node,
-- when it has something to do, and again while it replies that there is more. Replies the sessions
-- that the caller is to end: end_session, quit in each room, gone.
local function reap(P, us, node, lease, grace, ttl_empty, keep, seed, most, session_ttl)
  local call, tail, ended = redis.call, tails(seed), {}
  local left = tonumber(most)
  grace, session_ttl = tonumber(grace), tonumber(session_ttl)
  local dead = call('ZRANGEBYSCORE', P .. 'lease', '-inf', num(us), 'WITHSCORES', 'LIMIT', 0, 1)
  if not judge(P, us, lease) and dead[1] and dead[1] ~= node then
    local since = tonumber(dead[2])
    if call('HDEL', P .. 'nodes', dead[1]) == 1 then -- Crashed: it is silent since its last beat.
      since = since - lease
      call('ZADD', P .. 'lease', num(since), dead[1])
    end
    left = bury(P, us, dead[1], since, left, grace, ttl_empty, keep, tail, session_ttl)
  end
  while left > 0 do
    local due = call('ZRANGEBYSCORE', P .. 'due', '-inf', num(us), 'LIMIT', 0, 1)[1]
    if not due then break end
    call('ZREM', P .. 'due', due)
    left = left - 1
    local kind, of, uid = due:match('^(%a):(%x+):?(%x*)$')
    if kind == 'g' then depart(P, of, '', us, keep, uid, tail())
    elseif kind == 'e' then on_end(P, us, of)
    elseif kind == 'k' then on_keep(P, us, of)
    elseif kind == 's' and on_session(P, us, of, session_ttl) then ended[#ended + 1] = of end
  end
  return { 'OK', left > 0 and '' or '1', ended }
end

-- Gives up the oldest messages of the room, out of some, that was silent longest. The nodes' mirrors
-- keep theirs. At most once a second, whoever asks.
local function shed(P, us, node, count)
  local call, idlest, silent = redis.call
  if not call('SET', P .. 'shed', '1', 'NX', 'PX', 1000) then return { 'OK', '0' } end
  for _, room in ipairs(call('ZRANDMEMBER', P .. 'rooms', 64)) do
    local last = tonumber(call('HGET', P .. 'r:' .. room, 'u') or 0)
    if call('XLEN', P .. 'x:' .. room) > 0 and last < (silent or last + 1) then
      idlest, silent = room, last
    end
  end
  if not idlest then return { 'OK', '0' } end
  local before = call('XLEN', P .. 'x:' .. idlest)
  local y = call('HGET', P .. 'r:' .. idlest, 'y') or 0
  fit(P, idlest, math.max(before + y - count, 0), y)
  return { 'OK', num(before - call('XLEN', P .. 'x:' .. idlest)) }
end

-- Sessions ------------------------------------------------------------------------------------

-- n e k b of a living session, or nil.
local function known(P, us, sh)
  local s = redis.call('HMGET', P .. 's:' .. sh, 'n', 'x', 'e', 'k', 'b')
  if not s[1] or s[2] or tonumber(s[3] or ATTACHED) <= us then return nil end
  return s[1], s[3], s[4], s[5]
end

-- The name of a living session, whose time begins anew, or nil. It ends between 1 and 65/64 of its
-- `ttl` after its last use, so that most uses write nothing.
local function use(P, us, sh, ttl)
  local call, S = redis.call, P .. 's:' .. sh
  local name, ends, pair, before = known(P, us, sh)
  if not name then return nil end
  if before then call('HDEL', S, 'b') end
  if ends then attribute(P, 'as', pair, num(us), sh) end
  if ends and tonumber(ends) < us + ttl then
    call('HSET', S, 'e', num(us + ttl * 65 / 64))
    renew_session(P, sh, pair, ttl)
  end
  return name
end

-- room, version of all that a session has joined, in that order.
local function joined(P, sh)
  local all, orders, list = redis.call('HGETALL', P .. 'sr:' .. sh), {}, {}
  for at = 1, #all, 2 do
    local order, version = all[at + 1]:match('^(%d+) (%d+)$')
    orders[#orders + 1] = { tonumber(order), all[at], version }
  end
  table.sort(orders, function(one, other) return one[1] < other[1] end)
  for _, it in ipairs(orders) do push(list, it[2], it[3]) end
  return list
end

-- Puts a room into a session's index, or renews its version, so that a late `forget` of an earlier
-- membership does not hide the new one. nil: the session has `most` others.
local function index(P, us, sh, room, ttl, most)
  local call, sr = redis.call, P .. 'sr:' .. sh
  local known, size = call('HGET', sr, room), call('HLEN', sr)
  if not known and size >= most then return nil end
  local order = known and known:match('^%d+') or call('HINCRBY', P .. 's:' .. sh, 'r', 1)
  call('HSET', sr, room, order .. ' ' .. num(us))
  if size == 0 then call('PEXPIRE', sr, lifetime(ttl)) end
  return num(us), known and '' or '1'
end

-- The session that gives way is marked as ended, and the caller ends it.
local function open_session(P, us, node, sh, name, ttl, max, a64, a48, most, interval, burst, give_way)
  local call, S = redis.call, P .. 's:' .. sh
  if call('EXISTS', S) == 1 then return { 'OK', '' } end -- Sent twice.
  if tonumber(call('HGET', P .. 'cfg', 'sessions') or 0) >= tonumber(max) then return { 'FULL' } end
  local has_share, victim = true
  if a64 ~= '' and most ~= '' then
    has_share, victim = admit(P, 'as', a64, a48, tonumber(most), function(first)
      local since = call('HGET', P .. 's:' .. first, 'i')
      if not since then return nil end
      return call('HEXISTS', P .. 's:' .. first, 'e') == 1 and since + give_way <= us
    end)
  end
  if not has_share then return { 'SHARE' } end
  local wait = a64 ~= '' and take(P, 'cs:' .. a64, us, tonumber(interval), tonumber(burst))
  if wait then return { 'RATE', num(wait) } end
  if victim then
    call('HSET', P .. 's:' .. victim, 'x', '1')
    call('ZADD', P .. 'due', num(us), 's:' .. victim)
    discount(P, 'as', call('HGET', P .. 's:' .. victim, 'k'), victim)
  end
  local ends, life = num(us + ttl * 65 / 64), lifetime(ttl)
  call('HSET', S, 'n', name, 'e', ends, 'i', num(us), 'c', '0')
  if a64 ~= '' then call('HSET', S, 'k', a64 .. ' ' .. a48) end
  call('PEXPIRE', S, life)
  attribute(P, 'as', a64 .. ' ' .. a48, num(us), sh, life)
  call('ZADD', P .. 'due', ends, 's:' .. sh)
  call('HINCRBY', P .. 'cfg', 'sessions', 1)
  return { 'OK', victim or '' }
end

-- want: 'rooms', or a room for its version; '-': only the name, and it is no use of the session.
local function touch(P, us, node, sh, ttl, want)
  local name = (want == '-' and known or use)(P, us, sh, ttl)
  if not name then return { 'NOSESSION' } end
  if want == 'rooms' then return { 'OK', name, joined(P, sh) } end
  local known = want ~= '' and redis.call('HGET', P .. 'sr:' .. sh, want)
  return { 'OK', name, known and known:match('%d+$') or '' }
end

local function reserve(P, us, node, sh, room, ttl, max)
  local name = use(P, us, sh, ttl)
  if not name then return { 'NOSESSION' } end
  local version, is_new = index(P, us, sh, room, ttl, tonumber(max))
  if not version then return { 'OVER', name, joined(P, sh) } end
  return { 'OK', name, version, is_new }
end

local function own(P, us, node, sh, room)
  local call, S, so = redis.call, P .. 's:' .. sh, P .. 'so:' .. sh
  local life = call('PTTL', S)
  if life > 0 and call('SADD', so, room) == 1 then call('PEXPIRE', so, num(life)) end
  return { 'OK' }
end

local function disown(P, us, node, sh, room)
  redis.call('SREM', P .. 'so:' .. sh, room)
  return { 'OK' }
end

-- pairs of room, version
local function forget(P, us, node, sh, ...)
  local seen, sr = { ... }, P .. 'sr:' .. sh
  for at = 1, #seen, 2 do
    local known = redis.call('HGET', sr, seen[at])
    if known and known:match('%d+$') == seen[at + 1] then redis.call('HDEL', sr, seen[at]) end
  end
  return { 'OK' }
end

-- The node has sockets of the session. Another node subtracts them if it dies.
local function register_socket(P, node, sh)
  if redis.call('SADD', P .. 'sat:' .. node, sh) == 1 then
    redis.call('PEXPIRE', P .. 'sat:' .. node, num(2 * hold(P)))
  end
end

-- A socket begins, which is no use of the session until it is let in. `over`: nothing was counted,
-- and what there is too much of. The refusals of the room come first, so the caller calls `enter` all
-- the same.
local function attach(P, us, node, sh, room, ttl, sockets_max, rooms_max, interval, burst)
  local call, S = redis.call, P .. 's:' .. sh
  local name, ends, pair = known(P, us, sh)
  if not name then return { 'NOSESSION' } end
  local s = call('HMGET', S, 'c', 'j', 'i')
  interval = tonumber(interval)
  local most = us + interval * burst
  local meter = math.min(tonumber(s[2] or 0), most)
  if s[2] and tonumber(s[2]) > most then call('HSET', S, 'j', num(most)) end -- The clock went back.
  local wait = num(math.max(interval > 0 and meter - us - interval * (burst - 1) or 0, 0))
  if tonumber(s[1]) >= tonumber(sockets_max) then return { 'OK', name, 'sockets', wait, '' } end
  local version = index(P, us, sh, room, ttl, tonumber(rooms_max))
  if not version then return { 'OK', name, 'rooms', wait, '', joined(P, sh) } end
  call('HINCRBY', S, 'c', 1)
  call('HINCRBY', S, 'c:' .. node, 1)
  if ends then
    local a64 = two(pair)
    local used = a64 ~= '' and call('ZSCORE', P .. 'as:' .. a64, sh)
    call('HSET', S, 'b', ends .. ' ' .. (s[3] or num(us)) .. ' ' .. num(used or us))
    call('HDEL', S, 'e')
  end
  register_socket(P, node, sh)
  attribute(P, 'as', pair, ATTACHED, sh)
  return { 'OK', name, '', wait, version }
end

-- was_refused: the socket was not let in.
local function detach(P, us, node, sh, ttl, was_refused)
  if redis.call('HEXISTS', P .. 's:' .. sh, 'c:' .. node) == 1 then
    unplug(P, us, sh, node, 1, tonumber(ttl), was_refused == '1')
  end
  return { 'OK' }
end

-- How many sockets a session has at the node, whatever was counted before: after a connection broke,
-- nobody knows which attach and detach were executed.
local function declare(P, us, node, sh, count, ttl)
  local call, S = redis.call, P .. 's:' .. sh
  local s = call('HMGET', S, 'n', 'x', 'e', 'c:' .. node, 'k')
  local has_ended = s[2] or s[3] and tonumber(s[3]) <= us
  if not s[1] or has_ended then return { 'NOSESSION' } end
  local more = count - (s[4] or 0)
  if more < 0 then
    unplug(P, us, sh, node, -more, tonumber(ttl))
  elseif more > 0 then
    call('HINCRBY', S, 'c', more)
    call('HSET', S, 'c:' .. node, count)
    call('HDEL', S, 'e')
    register_socket(P, node, sh)
    attribute(P, 'as', s[5], ATTACHED, sh)
  end
  return { 'OK' }
end

-- An announced join has been admitted.
local function charge_join(P, us, node, sh, interval)
  local call, S = redis.call, P .. 's:' .. sh
  local s = call('HMGET', S, 'n', 'j')
  if s[1] and interval ~= '0' then
    call('HSET', S, 'j', num(math.max(tonumber(s[2] or 0), us) + interval))
  end
  return { 'OK' }
end

-- nodes with sockets of a session
local function nodes_of(P, sh)
  local all, nodes = redis.call('HGETALL', P .. 's:' .. sh), ''
  for at = 1, #all, 2 do
    if all[at]:sub(1, 2) == 'c:' then nodes = nodes .. all[at]:sub(3) .. ' ' end
  end
  return nodes
end

-- From now on nobody finds the session. Replies the rooms in which the caller calls `quit`, before
-- it calls `gone`. If it does not come to that, `reap` hands the rest to another node.
local function end_session(P, us, node, sh)
  local call, S = redis.call, P .. 's:' .. sh
  if call('EXISTS', S) == 0 then return { 'OK', {} } end
  call('HSET', S, 'x', '1')
  call('ZADD', P .. 'due', num(us + 5000000), 's:' .. sh)
  discount(P, 'as', call('HGET', S, 'k'), sh)
  tell(P, nodes_of(P, sh), node, 'E ' .. sh)
  local rooms, seen = call('HKEYS', P .. 'sr:' .. sh), {}
  for _, room in ipairs(rooms) do seen[room] = true end
  for _, room in ipairs(call('SMEMBERS', P .. 'so:' .. sh)) do
    if not seen[room] then rooms[#rooms + 1] = room end
  end
  return { 'OK', rooms }
end

local function gone(P, us, node, sh)
  local call, S = redis.call, P .. 's:' .. sh
  if call('EXISTS', S) == 1 then
    discount(P, 'as', call('HGET', S, 'k'), sh)
    for there in nodes_of(P, sh):gmatch('%S+') do call('SREM', P .. 'sat:' .. there, sh) end
    call('HINCRBY', P .. 'cfg', 'sessions', -1)
  end
  call('UNLINK', S, P .. 'sr:' .. sh, P .. 'so:' .. sh)
  call('ZREM', P .. 'due', 's:' .. sh)
  return { 'OK' }
end

-- Rooms: access and presence ------------------------------------------------------------------

-- The creator is a member and owns the room. What gives way is razed. EXISTS: with its owner, because
-- a caller that has sent this twice finds its own room.
local function open_room(P, us, node, room, uid, name, folded, addr, title, lock, flags, slow, life,
  ttl_new, max, a64, a48, most, interval, burst, give_way)
  local call, R = redis.call, P .. 'r:' .. room
  if call('EXISTS', R) == 1 then return { 'EXISTS', call('HGET', R, 'o') or '' } end
  if call('ZCARD', P .. 'rooms') >= tonumber(max) then return { 'FULL' } end
  local has_share, victim = true
  if a64 ~= '' and most ~= '' then
    has_share, victim = admit(P, 'ar', a64, a48, tonumber(most), function(first, since)
      if call('EXISTS', P .. 'r:' .. first) == 0 then return nil end
      return since + give_way <= us
    end)
  end
  if not has_share then return { 'SHARE' } end
  local wait = a64 ~= '' and take(P, 'cr:' .. a64, us, tonumber(interval), tonumber(burst))
  if wait then return { 'RATE', num(wait) } end
  if victim then raze(P, victim, node, 'gone') end

  local last = call('ZRANGE', P .. 'rooms', -1, -1, 'WITHSCORES')[2]
  local number, ends = num(math.max(us, tonumber(last or 0) + 1)), num(us + ttl_new)
  local expiry = life ~= '' and num(us + life)
  call('HSET', R, 'u', '0', 'q', '0', 'n', '', 'e', ends, 'w', 'n', 'o', uid, 'c', num(us))
  for field, value in pairs({ z = expiry or '', t = title, l = lock, m = slow ~= '0' and slow or '',
    f = flags:find('e') and '1' or '', v = flags:find('p') and '1' or '',
    k = a64 ~= '' and a64 .. ' ' .. a48 or '' }) do
    if value ~= '' then call('HSET', R, field, value) end
  end
  enlist(P, room, uid, addr, name, folded)
  renew(P, room, '')
  call('ZADD', P .. 'rooms', number, room)
  schedule(P, room, ends, expiry)
  call('ZADD', P .. 'due', num(us + 12 * HOUR), 'k:' .. room)
  attribute(P, 'ar', a64 .. ' ' .. a48, num(us), room, hold(P))
  if not flags:find('p') then
    call('ZADD', P .. 'ix', number, room)
    relist(P, room)
  end
  return { 'OK', victim or '' }
end

-- Takes one guess of both meters; the caller hashes, compares, and calls `join`, which gives it back.
local function guess(P, us, node, room, uid, addr, interval, burst, room_interval, room_burst)
  local call, gu, gr = redis.call, P .. 'gu:' .. room, P .. 'gr:' .. room
  local u, owner, locked, lock = living(P, room, us, 'o', 'x', 'l')
  if not u then return { 'NOROOM' } end
  if is_member(P, room, uid) then return { 'IN' } end
  local refusal = barrier(P, room, uid, addr, us, owner, locked)
  if refusal then return { refusal } end
  if not lock then return { 'IN' } end
  interval, room_interval = tonumber(interval), tonumber(room_interval)
  local who = addr == '' and '-' or addr
  local own, own_wait = gcra(call('ZSCORE', gu, who), us, interval, burst)
  local all, all_wait = gcra(call('GET', gr), us, room_interval, room_burst)
  local wait = math.max(interval > 0 and own_wait or 0, room_interval > 0 and all_wait or 0)
  if wait > 0 then return { 'RATE', num(wait) } end
  if interval > 0 then
    call('ZREMRANGEBYSCORE', gu, '-inf', num(us))
    call('ZADD', gu, num(own), who)
    call('ZREMRANGEBYRANK', gu, 0, -GUESSERS - 1)
    call('PEXPIRE', gu, num(interval * burst / 1000 + 1))
  end
  if room_interval > 0 then call('SET', gr, num(all), 'PX', num((all - us) / 1000 + 1)) end
  return { 'LOCK', lock }
end

-- A guess that was right has not been one.
local function refund_guess(P, us, room, addr, interval, room_interval)
  local call, gu, gr = redis.call, P .. 'gu:' .. room, P .. 'gr:' .. room
  local who = addr == '' and '-' or addr
  local own, all = call('ZSCORE', gu, who), call('GET', gr)
  if own then
    if own - interval > us then call('ZADD', gu, num(own - interval), who)
    else call('ZREM', gu, who) end
  end
  if all then
    local rest = all - room_interval - us
    if rest > 0 then call('SET', gr, num(us + rest), 'PX', num(rest / 1000 + 1))
    else call('UNLINK', gr) end
  end
end

-- `lock_seen`: the lock that the password opens, or ''. AGAIN: the room has another by now, so the
-- caller guesses again, or asks for a password. `refund`: the address of the guess, or '-'.
local function join(P, us, node, room, uid, name, folded, addr, over, lock_seen, refund, interval,
  room_interval)
  local u, owner, locked, lock = living(P, room, us, 'o', 'x', 'l')
  if not u then return { 'NOROOM' } end
  local is_new, refusal = not is_member(P, room, uid)
  if is_new then
    refusal = barrier(P, room, uid, addr, us, owner, locked)
      or (lock or '') ~= lock_seen and 'AGAIN' or over ~= '' and 'OVER' or nil
  end
  if refund ~= '-' then refund_guess(P, us, room, refund, interval, room_interval) end
  if refusal then return { refusal } end
  enlist(P, room, uid, addr, name, folded)
  return { 'OK' }
end

-- access: 'show', or 'read'. watch: the room is mirrored at the node from now on.
local function look(P, us, node, room, uid, access, addr, watch)
  local u, q, owner, locked, lock, nodes = living(P, room, us, 'q', 'o', 'x', 'l', 'n')
  if not u then return { 'NOROOM' } end
  if access == 'read' and not is_member(P, room, uid) then
    local refusal = gate(P, room, uid, addr, us, owner, locked, lock)
    if refusal then return { refusal } end
  end
  if watch ~= '1' then return { 'OK', (facts(P, room)), u .. '-' .. q } end
  interest(P, room, node, nodes)
  local shot = snapshot(P, room)
  return { 'OK', shot[1], u .. '-' .. q, shot }
end

local function unwatch(P, us, node, room)
  drop(P, room, node)
  return { 'OK' }
end

-- A person's first socket at a node, or its further ones. mode: 'first', or 'later' after a probe.
-- addr '-': as it was, for a node that has lost its lease and enters its people once more.
-- All entries of the reply apply on top of `last id` and the snapshot.
local function enter(P, us, node, room, uid, folded, name, addr, have, over, join_wait, mode, timeout,
  tail, tail_left, keep)
  local call = redis.call
  local u, q, nodes, y, owner, locked, lock = living(P, room, us, 'q', 'n', 'y', 'o', 'x', 'l')
  if not u then return { 'NOROOM' } end
  if addr == '-' then addr = member(P, room, uid) or '' end
  if not is_member(P, room, uid) then
    local refusal = gate(P, room, uid, addr, us, owner, locked, lock)
    if refusal then return { refusal } end
  end
  if over ~= '' then return { 'OVER' } end
  local holder = call('HGET', P .. 'f:' .. room, folded)
  if holder == uid then holder = false end
  local is_evicted = holder and tonumber(call('HGET', P .. 'y:' .. room, holder) or 0) > 0
  if is_evicted then
    local waits = ask(P, us, node, nodes, room, holder, folded, mode, tonumber(timeout))
    if waits then return waits end
  end
  local is_present = call('HEXISTS', P .. 'p:' .. room, uid) == 1
  if not is_present and tonumber(join_wait) > 0 then return { 'RATE', join_wait } end

  local last = u .. '-' .. q
  local shot = have == '1' and has(nodes, node) and '' or snapshot(P, room)
  nodes = interest(P, room, node, nodes)
  local r, entries, inherits = { u, q, nodes, y }, {}, false
  if is_evicted then expel(P, room, node, holder, 'evicted', us, 0) end
  if holder then entries[1] = depart(P, room, node, us, keep, holder, tail_left, 'L', r) end
  enlist(P, room, uid, addr, name, folded)
  stay(P, room, node, uid)
  answer(P, room, uid, folded) -- Another tab is a sign of life.
  if not is_present then
    entries[#entries + 1], inherits =
      arrive(P, room, node, us, keep, uid, name, folded, tail, r)
    if call('ZCARD', P .. 'o:' .. room) == 1 then renew(P, room, nodes) end
  end
  return { 'IN', last, entries, inherits or '', shot, is_evicted and holder or '' }
end

-- how: 'closed', or 'broken'. last: the node drops its mirror.
local function exit(P, us, node, room, uid, how, grace, ttl_empty, keep, tail, last)
  grace = how == 'broken' and tonumber(grace) or 0
  local left = unstay(P, room, node, node, uid, us, grace, ttl_empty, keep, tail)
  if last == '1' then drop(P, room, node) end
  return { 'OK', left or '' }
end

-- Ends a membership: sockets, presence, the place among the members.
local function withdraw(P, us, from, room, uid, why, kind, keep, tail, ttl_empty)
  expel(P, room, from, uid, why, us, ttl_empty)
  local left = depart(P, room, from, us, keep, uid, tail, kind)
  redis.call('HDEL', P .. 'm:' .. room, uid)
  return left
end

-- '1' follows if the person goes on owning the room. Then the caller calls `own` before it calls
-- `forget`: a person that became the owner by arriving, or by a change, is not in the index of owners yet.
local function leave(P, us, node, room, uid, keep, tail, ttl_empty)
  local u, owner = living(P, room, us, 'o')
  if not u then return { 'OK', '' } end
  local left = withdraw(P, us, node, room, uid, 'left', 'L', keep, tail, ttl_empty)
  return { 'OK', left or '', owner == uid and '1' or nil }
end

-- For a session that has ended. Tells all nodes by push.
local function quit(P, us, node, room, uid, keep, tail, ttl_empty)
  local u, owner = living(P, room, us, 'o')
  if not u then return { 'OK' } end
  withdraw(P, us, '', room, uid, 'ended', 'L', keep, tail, ttl_empty)
  if owner == uid then hand_over(P, room, '') end
  return { 'OK' }
end

-- Rooms: what is said -------------------------------------------------------------------------

-- Who wants to post without being present: a refusal, or whose grace is in the way of the name.
local function outsider(P, room, uid, folded)
  if folded == '' then return 'GONE' end -- A socket of somebody who was expelled: K is on its way.
  if not is_member(P, room, uid) then return 'NOMEMBER' end
  local holder = redis.call('HGET', P .. 'f:' .. room, folded)
  if not holder or holder == uid then return nil end
  if tonumber(redis.call('HGET', P .. 'y:' .. room, holder) or 0) > 0 then return 'TAKEN' end
  return nil, holder
end

-- The message with this nonce, if it is kept.
local function known_nonce(P, room, nonce, keep)
  local call = redis.call
  local id = call('HGET', P .. 'k:' .. room, nonce) or call('HGET', P .. 'K:' .. room, nonce)
  local d = id and shown(P, room, id, keep)
  return d and id, d
end

-- Nonces of two generations cover the history: the newer one has at most as many as messages are kept.
local function remember_nonce(P, room, nonce, id, keep)
  local call, k = redis.call, P .. 'k:' .. room
  call('HSET', k, nonce, id)
  local size = call('HLEN', k)
  if size == 1 then call('PEXPIRE', k, hold(P)) end
  if size >= tonumber(keep) then call('RENAME', k, P .. 'K:' .. room) end
end

-- One chat in `seconds`: how long to wait, or nil and it counts.
local function slow(P, room, uid, us, seconds)
  local call, w, pause = redis.call, P .. 'w:' .. room, seconds * 1000000
  local last = tonumber(call('ZSCORE', w, uid) or 0)
  if last <= us and last + pause > us then return last + pause - us end
  call('ZREMRANGEBYSCORE', w, '-inf', num(us - pause))
  call('ZADD', w, num(us), uid)
  call('PEXPIRE', w, hold(P))
end

-- folded: '' by a socket, else by REST, which also starts the room's running time anew.
local function post(P, us, node, room, uid, interval, burst, keep, nonce, body, folded, ttl_empty,
  ttl_new, tail_left)
  local call, R = redis.call, P .. 'r:' .. room
  local r = call('HMGET', R, 'u', 'q', 'n', 'y', 'e', 'z', 'w', 'm', 'o')
  if not r[1] or is_over(r[5], r[6], us) then return { 'NOROOM' } end
  local meter, refusal, holder = call('HGET', P .. 'p:' .. room, uid)
  if not meter then
    refusal, holder = outsider(P, room, uid, folded)
    if refusal then return { refusal } end
  end
  local wait = charge(P, room, uid, meter, us, tonumber(interval), tonumber(burst))
  if wait then return { 'RATE', num(wait) } end
  local id, d
  if nonce ~= '' then
    nonce = uid .. nonce
    id, d = known_nonce(P, room, nonce, keep)
  end
  wait = not id and r[8] and r[9] ~= uid and slow(P, room, uid, us, r[8])
  if wait then return { 'RATE', num(wait) } end
  if r[5] and folded ~= '' then
    local ends = num(us + (r[7] == 'n' and ttl_new or ttl_empty))
    call('HSET', R, 'e', ends)
    schedule(P, room, ends, r[6])
  end
  if id then return { 'DUP', id, d } end
  local left = holder and depart(P, room, node, us, keep, holder, tail_left, 'L', r) or ''
  local entry = append(P, room, node, us, keep, body, r)
  if nonce ~= '' then remember_nonce(P, room, nonce, entry[2], keep) end
  return { 'OK', entry[1], entry[2], ('%016.0f'):format(us), left }
end

local function typing(P, us, node, room, uid, folded, name)
  local u, nodes = living(P, room, us, 'n')
  if not u then return { 'NOROOM' } end
  if redis.call('HEXISTS', P .. 'p:' .. room, uid) == 0 then
    local refusal, holder = outsider(P, room, uid, folded)
    if refusal == 'GONE' then return { 'NOMEMBER' } end
    if refusal or holder then return { refusal or 'TAKEN' } end
  end
  tell(P, nodes, node, 'T ' .. room .. ' ' .. uid .. ' ' .. name)
  return { 'OK' }
end

local function alive(P, us, node, room, uid)
  local _, _, folded = member(P, room, uid)
  if folded then answer(P, room, uid, folded) end
  return { 'OK' }
end

-- No connection at this node waits for the name any more. The probe ends with the last such node.
local function unask(P, us, node, room, folded)
  local holder, ends, waiting = probe(P, room, folded)
  local at = holder and has(waiting, node)
  if not at then return { 'OK' } end
  waiting = waiting:sub(1, at - 1) .. waiting:sub(at + #node + 1)
  if waiting == '' then
    redis.call('HDEL', P .. 'b:' .. room, folded)
  else
    redis.call('HSET', P .. 'b:' .. room, folded, holder .. ' ' .. num(ends) .. ' ' .. waiting)
  end
  return { 'OK' }
end

-- For the message's author or the room's owner, members or not. The text is gone from the store; its
-- tombstone keeps its place, its nonce and its author.
local function delete_message(P, us, node, room, uid, id, tail_of_target, tail, name, keep, interval,
  burst, target_uuid)
  local call, R, D = redis.call, P .. 'r:' .. room, P .. 'd:' .. room
  local u, owner = living(P, room, us, 'o')
  if not u then return { 'NOROOM' } end
  local d = shown(P, room, id, keep)
  if not d then return { 'NOMESSAGE' } end
  local kind, its_tail, author, text = parts(d)
  if its_tail ~= tail_of_target or kind ~= 'C' and kind ~= 'D' then return { 'NOMESSAGE' } end
  if author ~= uid and owner ~= uid then return { 'NOTAUTHOR' } end
  local wait = paced(P, room, uid, us, interval, burst)
  if wait then return { 'RATE', num(wait) } end
  if kind == 'D' then return { 'OK', '' } end
  call('XDEL', P .. 'x:' .. room, id)
  call('ZADD', D, num(score(id)), id .. ' ' .. d:sub(1, 16) .. 'D' .. d:sub(18, text - 1))
  call('HINCRBY', R, 'y', 1)
  call('PEXPIRE', D, hold(P))
  return { 'OK', append(P, room, node, us, keep, said('X', tail, uid, name, target_uuid)) }
end

-- Rooms: the owner's tools --------------------------------------------------------------------

-- `owner` '': not given, '-': nobody's id. `pw`: '', 'none' or 'set'; then the caller compares the
-- password with the lock that it is told (LOCK), and calls again with `same` or a new lock.
local function change(P, us, node, room, uid, interval, burst, title_given, title, locked, pause, pw,
  lock_seen, same, new_lock, heir)
  local call, R = redis.call, P .. 'r:' .. room
  local u, owner, t, x, m, l = living(P, room, us, 'o', 't', 'x', 'm', 'l')
  if not u then return { 'NOROOM' } end
  if owner ~= uid then return { 'NOTOWNER' } end
  if heir ~= '' and not call('ZSCORE', P .. 'o:' .. room, heir) then return { 'NOUSER' } end
  if pw == 'set' and (l or '') ~= lock_seen then return { 'LOCK', l or '' } end
  local wait = paced(P, room, uid, us, interval, burst)
  if wait then return { 'RATE', num(wait) } end

  local is_changed = false
  local function set(field, before, after)
    if (before or '') == after then return end
    is_changed = true
    if after == '' then call('HDEL', R, field) else call('HSET', R, field, after) end
  end
  if title_given == '1' then set('t', t, title) end
  if locked ~= '' then set('x', x, locked == '1' and '1' or '') end
  if pause ~= '' and pause ~= (m or '0') then -- Those who wait go on, for the new time.
    call('ZREMRANGEBYSCORE', P .. 'w:' .. room, '-inf', num(us - (m or 0) * 1000000))
    if pause == '0' then call('UNLINK', P .. 'w:' .. room) end
    set('m', m, pause == '0' and '' or pause)
  end
  if pw == 'none' and l then
    set('l', l, '')
    call('UNLINK', P .. 'gu:' .. room, P .. 'gr:' .. room)
  elseif pw == 'set' and same ~= '1' then
    set('l', l, new_lock)
    call('HSET', R, 'h', '1') -- Off the list for good.
    if call('ZREM', P .. 'ix', room) == 1 then
      call('HDEL', P .. 'ir', room)
      call('HINCRBY', P .. 'cfg', 'rev', 1)
    end
  end
  if heir ~= '' then set('o', owner, heir) end
  if is_changed then return { 'OK', '1', changed(P, room, node) } end
  return { 'OK', '', (facts(P, room)) }
end

-- uid '': the operator.
local function delete_room(P, us, node, room, uid)
  local u, owner = living(P, room, us, 'o')
  if not u then return { 'NOROOM' } end
  if uid ~= '' and owner ~= uid then return { 'NOTOWNER' } end
  raze(P, room, node, 'deleted')
  return { 'OK' }
end

local function unban(P, room, uid)
  redis.call('HDEL', P .. 'n:' .. room, uid)
  redis.call('ZREM', P .. 'nz:' .. room, uid)
end

-- Lifts the bans that are over; returns the others, the oldest first.
local function bans_of(P, room, us)
  local call, list = redis.call, {}
  for _, uid in ipairs(call('ZRANGE', P .. 'nz:' .. room, 0, -1)) do
    local ban = call('HGET', P .. 'n:' .. room, uid)
    if ban then
      local ends, addr, name = ban:match('^(%d+) (%S+) (.*)$')
      list[#list + 1] = { uid = uid, ends = ends, addr = addr, name = name }
      list[#list].is_over = tonumber(ends) <= us
    end
  end
  return list
end

local function ban_person(P, room, uid, us, duration, addr, name)
  local call, N, Z = redis.call, P .. 'n:' .. room, P .. 'nz:' .. room
  unban(P, room, uid)
  for _, ban in ipairs(bans_of(P, room, us)) do
    if ban.is_over then unban(P, room, ban.uid) end
  end
  if call('ZCARD', Z) >= BANS then unban(P, room, call('ZRANGE', Z, 0, 0)[1]) end
  local last = call('ZRANGE', Z, -1, -1, 'WITHSCORES')[2]
  call('ZADD', Z, num(math.max(us, tonumber(last or 0) + 1)), uid)
  call('HSET', N, uid, num(us + duration) .. ' ' .. addr .. ' ' .. name)
  call('PEXPIRE', N, hold(P))
  call('PEXPIRE', Z, hold(P))
end

-- by '': the operator. ban '': none.
local function remove(P, us, node, room, by, target, ban, with_addr, keep, tail, interval, burst,
  ttl_empty)
  local u, owner = living(P, room, us, 'o')
  if not u then return { 'NOROOM' } end
  if by ~= '' and owner ~= by then return { 'NOTOWNER' } end
  local addr, name = member(P, room, target)
  if not addr then return { 'NOUSER' } end
  local wait = by ~= '' and paced(P, room, by, us, interval, burst)
  if wait then return { 'RATE', num(wait) } end
  local has_addr = ban ~= '' and with_addr == '1' and addr ~= ''
  if ban ~= '' then ban_person(P, room, target, us, ban, has_addr and addr or '-', name) end
  local left = withdraw(P, us, node, room, target, 'removed', 'R', keep, tail, ttl_empty)
  local now = owner == target and hand_over(P, room, node) or ''
  return { 'OK', has_addr and '1' or '', { left }, now }
end

-- uid, until, name, whether with its address; the oldest first.
local function bans(P, us, node, room, uid)
  local u, owner = living(P, room, us, 'o')
  if not u then return { 'NOROOM' } end
  if owner ~= uid then return { 'NOTOWNER' } end
  local list = {}
  for _, ban in ipairs(bans_of(P, room, us)) do
    if not ban.is_over then
      push(list, ban.uid, ban.ends, ban.name, ban.addr ~= '-' and '1' or '')
    end
  end
  return { 'OK', list }
end

local function lift(P, us, node, room, uid, target)
  local u, owner = living(P, room, us, 'o')
  if not u then return { 'NOROOM' } end
  if owner ~= uid then return { 'NOTOWNER' } end
  unban(P, room, target)
  return { 'OK' }
end

-- Rooms: for nodes and lists ------------------------------------------------------------------

-- Whether a mirror that ends with this message can go on. nil: yes.
local function break_after(P, room, last, newest)
  local call, x = redis.call, P .. 'x:' .. room
  if newest == last then return nil end
  if newest == '0-0' then
    local info, stream = call('XINFO', 'STREAM', x), {}
    for at = 1, #info, 2 do stream[info[at]] = info[at + 1] end
    local graves = tonumber(call('HGET', P .. 'r:' .. room, 'y') or 0)
    return stream['entries-added'] > stream.length + graves and 'GAP' or nil
  end
  if kept(P, room, newest) then return nil end
  if score(newest) > score(last) then return 'BEHIND' end
  return score(newest) < oldest(P, room) and 'GAP' or 'BEHIND'
end

-- The messages after this one with the tombstones in their places. `more`: not all of them.
local function with_graves(P, room, list, newest, more)
  local most = more == '1' and num(score(list[#list - 1])) or '+inf'
  local least = '(' .. num(score(newest))
  local all, at = {}, 1
  for _, grave in ipairs(redis.call('ZRANGEBYSCORE', P .. 'd:' .. room, least, most)) do
    local id, d = grave_of(grave)
    while list[at] and score(list[at]) < score(id) do
      push(all, list[at], list[at + 1])
      at = at + 2
    end
    push(all, id, d)
  end
  for rest = at, #list do push(all, list[rest]) end
  return all
end

-- A part of what a new mirror loads: at most `count` messages after this one, and tombstones. They are
-- read together: a message that is deleted while a mirror is loaded has to keep its place.
local function history(P, us, node, room, after, count)
  local list = {}
  local page = redis.call('XRANGE', P .. 'x:' .. room, '(' .. after, '+', 'COUNT', count)
  for _, entry in ipairs(page) do push(list, entry[1], entry[2][2]) end
  local more = #page == tonumber(count) and '1' or ''
  return { 'OK', with_graves(P, room, list, after, more), more }
end

-- What a mirror has missed while the node was away; from now on it is told again. BEHIND: the store has
-- lost what the mirror shows. GAP: more has been said than is kept.
local function resync(P, us, node, room, newest)
  local call = redis.call
  local u, q, nodes, y = living(P, room, us, 'q', 'n', 'y')
  if not u then return { 'NOROOM' } end
  local broken = break_after(P, room, u .. '-' .. q, newest)
  if broken then return { broken } end
  interest(P, room, node, nodes)
  local list, bytes, from, more = {}, 0, '(' .. newest, ''
  repeat
    local page = call('XRANGE', P .. 'x:' .. room, from, '+', 'COUNT', 32)
    for _, entry in ipairs(page) do
      push(list, entry[1], entry[2][2])
      bytes, from = bytes + #entry[2][2], '(' .. entry[1]
    end
    if #page == 32 and (bytes > 200000 or #list >= 512) then more = '1' end
  until #page < 32 or more == '1'
  if y and y ~= '0' then list = with_graves(P, room, list, newest, more) end
  local here = call('SMEMBERS', P .. 'y:' .. room .. ':' .. node)
  return { 'OK', list, more, (facts(P, room)), here }
end

local function listing(P, us, node, rev)
  local call, list = redis.call, {}
  local now = call('HGET', P .. 'cfg', 'rev') or '0'
  if rev == now then return { 'SAME', now } end
  local rooms = call('ZREVRANGE', P .. 'ix', 0, 999)
  in_chunks(rooms, function(first, ...)
    for at, about in ipairs(call('HMGET', P .. 'ir', ...)) do
      push(list, rooms[first + at - 1], about or '')
    end
  end)
  return { 'OK', now, list }
end

-- room, facts, messages, bytes of rooms in the order of opening, for the operator. `after`: '', or
-- what the last call has returned first; '' after the last.
local function usage(P, us, node, after, count)
  local call, list, from = redis.call, {}, after == '' and '-inf' or '(' .. after
  local rooms =
    call('ZRANGEBYSCORE', P .. 'rooms', from, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
  for at = 1, #rooms, 2 do
    local room, x = rooms[at], P .. 'x:' .. rooms[at]
    local u, y = living(P, room, us, 'y')
    if u then
      local size = call('MEMORY', 'USAGE', x) or 0
      push(list, room, (facts(P, room)), num(call('XLEN', x) + (y or 0)), num(size))
    end
  end
  return { 'OK', #rooms < 2 * count and '' or rooms[#rooms], list }
end

-- For pairs of room, uid: whether that is a member of a living room.
local function members(P, us, node, ...)
  local asked, list = { ... }, {}
  for at = 1, #asked, 2 do
    local is_in = living(P, asked[at], us) and is_member(P, asked[at], asked[at + 1])
    list[#list + 1] = is_in and '1' or ''
  end
  return { 'OK', list }
end

-- The library ---------------------------------------------------------------------------------

local function register(name, call, flags, is_open)
  redis.register_function({
    function_name = '@LIB@_' .. name,
    flags = flags,
    callback = function(keys, args)
      local P = keys[1]:sub(1, -6)
      if is_open then return call(P, clock(), unpack(args)) end
      if redis.call('HGET', keys[1], args[1]) ~= args[2] then return { err = 'FENCED' } end
      return call(P, clock(), args[1], unpack(args, 3))
    end,
  })
end

-- Reads, and what frees, also when the store is full. The others are refused before they begin.
local READS, FREES = { 'no-writes' }, { 'allow-oom' }
register('hello', hello, FREES, true)
register('beat', beat, FREES)
register('reap', reap, FREES)
register('bye', bye, FREES)
register('shed', shed, FREES)
register('announce', announce, FREES)
register('count', count, READS)
register('open_session', open_session, {})
register('touch', touch, FREES)
register('reserve', reserve, {})
register('own', own, FREES)
register('disown', disown, FREES)
register('forget', forget, FREES)
register('attach', attach, {})
register('detach', detach, FREES)
register('declare', declare, FREES)
register('charge_join', charge_join, FREES)
register('end_session', end_session, FREES)
register('gone', gone, FREES)
register('open_room', open_room, {})
register('guess', guess, {})
register('join', join, {})
register('look', look, FREES)
register('unwatch', unwatch, FREES)
register('enter', enter, {})
register('exit', exit, FREES)
register('leave', leave, FREES)
register('quit', quit, FREES)
register('post', post, {})
register('typing', typing, FREES)
register('alive', alive, FREES)
register('unask', unask, FREES)
register('delete_message', delete_message, FREES)
register('change', change, {})
register('delete_room', delete_room, FREES)
register('remove', remove, {})
register('bans', bans, READS)
register('lift', lift, FREES)
register('history', history, READS)
register('resync', resync, FREES)
register('listing', listing, READS)
register('usage', usage, READS)
register('members', members, READS)
