//! The scripts that run on the server. They decide nothing: two compare and write, the others
//! read what must be read at one moment.

use std::sync::LazyLock;

use ::redis::Script;

/// Compares what a decision was based on, and writes what it came to if all of it still stands.
///
/// Arguments: whether the last key remembers for a minute that this call was carried out, since a
/// cluster's client may send it twice; the number of comparisons; each of them: what is compared,
/// the number of its key, then `value`, `stamp`: what is expected, `absent`: nothing, `field`: the field and its value,
/// `count`: smallest and largest member, and how many lie between. Then the operations, each the
/// letter of a command, the number of its key and its arguments. Answers 1 if it was written,
/// 0 if something else was found.
const WRITE: &str = r"
local once, at = ARGV[1] == '1' and KEYS[#KEYS], 3
if once and redis.call('EXISTS', once) == 1 then return 1 end
local function next_argument()
  at = at + 1
  return ARGV[at - 1]
end
for _ = 1, tonumber(ARGV[2]) do
  local what, key = next_argument(), KEYS[tonumber(next_argument())]
  if what == 'stamp' then
    if redis.call('GETRANGE', key, 0, 7) ~= next_argument() then return 0 end
  elseif what == 'value' then
    if (redis.call('GET', key) or '') ~= next_argument() then return 0 end
  elseif what == 'absent' then
    if redis.call('EXISTS', key) == 1 then return 0 end
  elseif what == 'field' then
    if (redis.call('HGET', key, next_argument()) or '') ~= next_argument() then return 0 end
  else
    local from, to = next_argument(), next_argument()
    if redis.call('ZLEXCOUNT', key, from, to) ~= tonumber(next_argument()) then return 0 end
  end
end
while at <= #ARGV do
  local what, key = next_argument(), KEYS[tonumber(next_argument())]
  if what == 'S' then
    local value = next_argument()
    redis.call('SET', key, value, 'PX', next_argument())
  elseif what == 'V' then
    redis.call('SET', key, next_argument())
  elseif what == 'P' then
    redis.call('SETRANGE', key, 0, next_argument())
    redis.call('PEXPIRE', key, next_argument())
  elseif what == 'D' then
    redis.call('DEL', key)
  elseif what == 'A' then
    local score = next_argument()
    redis.call('ZADD', key, score, next_argument())
  elseif what == 'R' then
    redis.call('ZREM', key, next_argument())
  elseif what == 'H' then
    local field = next_argument()
    redis.call('HSET', key, field, next_argument())
  else
    redis.call('HDEL', key, next_argument())
  end
end
if once then redis.call('SET', once, 1, 'PX', 60000) end
return 1
";

/// Replaces a row that is as it was: what [`WRITE`] does in the commonest case.
///
/// Keys: the row, the state, and in a cluster the one that remembers for a minute that this call
/// was carried out. Arguments: the stamp and the state expected, the new row, and how long to keep
/// it unless that stays as it was.
const REPLACE: &str = r"
local row, once = KEYS[1], KEYS[3]
if once and redis.call('EXISTS', once) == 1 then return 1 end
if redis.call('GETRANGE', row, 0, 7) ~= ARGV[1] then return 0 end
if (redis.call('GET', KEYS[2]) or '') ~= ARGV[2] then return 0 end
if ARGV[4] then
  redis.call('SET', row, ARGV[3], 'PX', ARGV[4])
else
  redis.call('SET', row, ARGV[3], 'KEEPTTL')
end
if once then redis.call('SET', once, 1, 'PX', 60000) end
return 1
";

/// Reads rows, the endings that concern them, and what a decision may need besides.
///
/// Keys: state, endings, users, then the rows. Arguments: what row keys begin with, the hash of a
/// user whose ending is wanted, and how many of their sessions are.
/// Answers the state, the rows each with its user's ending, the user's ending, the user's
/// sessions: ID and row each, and how many there are in all.
const VIEW: &str = r"
local prefix, wanted, sessions = ARGV[1], ARGV[2], ARGV[3]
local function ending(row)
  local hash = row and string.sub(row, 17, 32) or ''
  if #hash < 16 or hash == string.rep('\0', 16) then return false end
  return redis.call('HGET', KEYS[2], hash)
end
local rows = {}
for n = 4, #KEYS do
  local row = redis.call('GET', KEYS[n])
  rows[#rows + 1] = row
  rows[#rows + 1] = ending(row)
end
local of_user = false
if wanted ~= '' then of_user = redis.call('HGET', KEYS[2], wanted) end
local listed, count = {}, 0
if sessions ~= '0' then
  local first, last = '[' .. wanted, '[' .. wanted .. string.rep('\255', 33)
  count = redis.call('ZLEXCOUNT', KEYS[3], first, last)
  local entries = redis.call('ZRANGEBYLEX', KEYS[3], first, last, 'LIMIT', 0, sessions)
  for _, entry in ipairs(entries) do
    local id = string.sub(entry, 17)
    local hex = string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end)
    listed[#listed + 1] = id
    listed[#listed + 1] = redis.call('GET', prefix .. hex)
  end
end
return { redis.call('GET', KEYS[1]), rows, of_user, listed, count }
";

/// Reads some entries of an index with their rows.
///
/// Keys: state, endings, index. Arguments: what row keys begin with, `lex` or `score`, smallest
/// and largest, how many entries to skip, how many to read, after how many bytes to stop, and how
/// many bytes of an entry come before the ID. Answers the state, whether there may be more, and
/// for each entry itself, its row and its user's ending.
const SCAN: &str = r"
local prefix, by, skipped = ARGV[1], ARGV[2], tonumber(ARGV[8])
local command = by == 'lex' and 'ZRANGEBYLEX' or 'ZRANGEBYSCORE'
local limit = tonumber(ARGV[6])
local entries = redis.call(command, KEYS[3], ARGV[3], ARGV[4], 'LIMIT', ARGV[5], limit)
local found, bytes, more = {}, 0, #entries == limit
for n, entry in ipairs(entries) do
  if bytes > tonumber(ARGV[7]) then more = true break end
  local id = string.sub(entry, skipped + 1, skipped + 32)
  local hex = string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end)
  local row = redis.call('GET', prefix .. hex)
  local hash = row and string.sub(row, 17, 32) or ''
  local ending = false
  if #hash == 16 and hash ~= string.rep('\0', 16) then
    ending = redis.call('HGET', KEYS[2], hash)
  end
  bytes = bytes + (row and #row or 0)
  found[#found + 1] = entry
  found[#found + 1] = row
  found[#found + 1] = ending
end
return { redis.call('GET', KEYS[1]), more and 1 or 0, found }
";

/// Counts the bytes of some rows. Keys: IDs. Arguments: what row keys begin with, the smallest ID
/// and how many. Answers the last entry, if there may be more, and the bytes.
const SIZES: &str = r"
local limit = tonumber(ARGV[3])
local entries = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[2], '+', 'LIMIT', 0, limit)
local bytes = 0
for _, entry in ipairs(entries) do
  local id = string.sub(entry, 1, 32)
  local hex = string.gsub(id, '.', function(c) return string.format('%02x', string.byte(c)) end)
  bytes = bytes + redis.call('STRLEN', ARGV[1] .. hex)
end
return { #entries == limit and entries[#entries] or '', bytes }
";

/// A script, and the hash it is called by.
pub(super) struct Named {
    hash: String,
    code: String,
}

impl Named {
    fn new(flags: &str, body: &str) -> Self {
        let code = format!("#!lua{flags}{body}");
        Self { hash: Script::new(&code).get_hash().to_owned(), code }
    }

    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }
}

/// A full server refuses it.
pub(super) static WRITING: LazyLock<Named> = LazyLock::new(|| Named::new("", WRITE));

pub(super) static REPLACING: LazyLock<Named> = LazyLock::new(|| Named::new("", REPLACE));

/// The same as [`WRITING`] for what frees memory, or ends a session: a full server carries it out.
pub(super) static SHRINKING: LazyLock<Named> =
    LazyLock::new(|| Named::new(" flags=allow-oom", WRITE));

pub(super) static VIEWING: LazyLock<Named> = LazyLock::new(|| reading(VIEW));

pub(super) static SCANNING: LazyLock<Named> = LazyLock::new(|| reading(SCAN));

pub(super) static MEASURING: LazyLock<Named> = LazyLock::new(|| reading(SIZES));

fn reading(body: &str) -> Named {
    Named::new(" flags=no-writes", body)
}
