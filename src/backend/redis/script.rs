//! What the server does in one step: small programs in Lua, each for one key of a layout.
//!
//! # An entry as a hash
//! | field | has |
//! |---|---|
//! | `v` | the value |
//! | `e` | the epoch: raised by everything that changes the entry or takes its lock; at least the server's time in µs |
//! | `t` | the lock: its holder's token |
//! | `d` | the lock's end, in ms of the server's time |
//! | `x` | when the value ends, in ms of the server's time, where the lock has made the key live longer |
//!
//! # Invariants
//! - **R1, epochs rise.** No two states of a key have one epoch: one that has gone is below the time.
//! - **R2, one holder.** `t` is set only where there is none, or where `d` has passed.
//! - **R3, what is newer stays.** Who has locked writes only where `e` is what it was then; a key that has gone is newer, too.
//! - **R4, all wake.** Whatever takes a lock away tells those who wait for it, on the key's channel.
//! - **R5, nothing lives on.** A hash without `v` ends with its lock, or with its tombstone.
#![forbid(unsafe_code)]

use crate::sync::LazyLock;
use redis::{Arg, Cmd};
use sha1::{Digest, Sha1};
use std::fmt::Write as _;

/// A program, and what the server knows it by.
pub(super) struct Script {
    code: &'static str,
    hash: LazyLock<String>,
}

impl Script {
    const fn new(code: &'static str, hash: fn() -> String) -> Self {
        Self { code, hash: LazyLock::new(hash) }
    }
}

fn hash_of(code: &str) -> String {
    Sha1::digest(code.as_bytes()).iter().fold(String::with_capacity(40), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One command, or one run of a script.
pub(super) struct Order {
    pub(super) cmd: Cmd,
    script: Option<&'static Script>,
}

impl Order {
    pub(super) fn new(name: &str) -> Self {
        Self { cmd: redis::cmd(name), script: None }
    }

    /// Runs a script over a key, and over more where they are on one server.
    pub(super) fn run(script: &'static Script, keys: &[&str]) -> Self {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(script.hash.as_str()).arg(keys.len());
        keys.iter().for_each(|key| {
            cmd.arg(*key);
        });
        Self { cmd, script: Some(script) }
    }

    pub(super) fn arg(mut self, arg: impl redis::ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// The same for a server that does not know the script; it does from then on.
    pub(super) fn spelled_out(&self) -> Option<Self> {
        let script = self.script?;
        let mut cmd = redis::cmd("EVAL");
        cmd.arg(script.code);
        for arg in self.cmd.args_iter().skip(2) {
            if let Arg::Simple(bytes) = arg {
                cmd.arg(bytes);
            }
        }
        Some(Self { cmd, script: None })
    }
}

/// Scripts that begin with what they share.
macro_rules! scripts {
    ($shared:literal: $($(#[$doc:meta])* $name:ident = $code:literal;)+) => {$(
        $(#[$doc])*
        pub(super) static $name: Script = Script::new(concat!($shared, $code), || hash_of(concat!($shared, $code)));
    )+};
}

scripts! { r"
local key = KEYS[1]
local function micros()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function millis() return math.floor(micros() / 1000) end
local function number(n) return string.format('%.0f', n) end
local function above(epoch)
  return number(math.max((tonumber(epoch) or 0) + 1, micros()))
end
local function wake() redis.pcall('PUBLISH', 'dogpile:wake:' .. key, '') end
local function outlive(lease)
  local left = redis.call('PTTL', key)
  if left >= 0 and left < lease then
    if redis.call('HEXISTS', key, 'v') == 1 then redis.call('HSETNX', key, 'x', number(millis() + left)) end
    redis.call('PEXPIRE', key, lease)
  end
end
":
    /// Writes: value, time to live in ms or nothing, the epoch to be found (`any`: whichever). Returns whether it has.
    WRITE = r"
local was = redis.call('HMGET', key, 'e', 't')
if ARGV[3] ~= 'any' and (was[1] or '') ~= ARGV[3] then return 0 end
redis.call('HSET', key, 'v', ARGV[1], 'e', above(was[1]))
if was[2] then
  redis.call('HDEL', key, 't', 'd', 'x')
  wake()
end
if ARGV[2] == '' then redis.call('PERSIST', key) else redis.call('PEXPIRE', key, ARGV[2]) end
return 1";
    /// Takes out: the longest lease. Returns whether there was a value.
    DELETE = r"
local was = redis.call('HMGET', key, 'e', 't')
local had = redis.call('HEXISTS', key, 'v')
if was[2] then
  redis.call('HDEL', key, 'v', 't', 'd', 'x')
  redis.call('HSET', key, 'e', above(was[1]))
  redis.call('PEXPIRE', key, ARGV[1])
  wake()
else
  redis.call('DEL', key)
end
return had";
    /// Gives a value another time to live: that in ms, or nothing. Returns whether there is a value.
    EXPIRE = r"
if redis.call('HEXISTS', key, 'v') == 0 then return 0 end
local ends = tonumber(redis.call('HGET', key, 'd') or '0') - millis()
if ARGV[1] == '' then
  redis.call('HDEL', key, 'x')
  redis.call('PERSIST', key)
elseif tonumber(ARGV[1]) < ends then
  redis.call('HSET', key, 'x', number(millis() + ARGV[1]))
  redis.call('PEXPIRE', key, number(ends))
else
  redis.call('HDEL', key, 'x')
  redis.call('PEXPIRE', key, ARGV[1])
end
return 1";
    /// Locks: token, lease. Returns 1, the epoch and the value; or 0 and how many ms another has it at the most.
    LOCK = r"
local was = redis.call('HMGET', key, 'e', 't', 'd', 'x')
local now = millis()
if was[2] and was[2] ~= ARGV[1] and tonumber(was[3]) > now then return {0, tonumber(was[3]) - now} end
if was[4] and tonumber(was[4]) <= now then redis.call('HDEL', key, 'v', 'x') end
local is_new = redis.call('EXISTS', key) == 0
local epoch = above(was[1])
redis.call('HSET', key, 'e', epoch, 't', ARGV[1], 'd', number(now + ARGV[2]))
if is_new then redis.call('PEXPIRE', key, ARGV[2]) else outlive(tonumber(ARGV[2])) end
return {1, epoch, redis.call('HGET', key, 'v')}";
    /// Prolongs a lock: token, lease. Returns whether it is held still.
    RENEW = r"
if redis.call('HGET', key, 't') ~= ARGV[1] then return 0 end
redis.call('HSET', key, 'd', number(millis() + ARGV[2]))
outlive(tonumber(ARGV[2]))
return 1";
    /// Gives a lock back: token. Returns whether it was held still.
    RELEASE = r"
local was = redis.call('HMGET', key, 't', 'x')
if was[1] ~= ARGV[1] then return 0 end
if redis.call('HEXISTS', key, 'v') == 0 or (was[2] and tonumber(was[2]) <= millis()) then
  redis.call('DEL', key)
else
  redis.call('HDEL', key, 't', 'd', 'x')
  if was[2] then redis.call('PEXPIREAT', key, was[2]) end
end
wake()
return 1";
    /// Who has the lock: for how many ms still, or 0; since how many; their token.
    LOCKED = r"
local was = redis.call('HMGET', key, 'e', 't', 'd')
local left = (was[2] and tonumber(was[3]) or 0) - millis()
if left <= 0 then return {0, 0, ''} end
return {left, math.floor((micros() - tonumber(was[1])) / 1000), was[2]}";
}

scripts! { r"
local key = KEYS[1]
local function wake(of) redis.pcall('PUBLISH', 'dogpile:wake:' .. of, '') end
":
    /// Writes a string where another is, or none: the value, its time to live in ms or nothing, whether there is to be one
    /// (`1`), which. With a second key, the lock: its token; another's is newer, and one's own is given back.
    COMPARE_AND_SET = r"
local now = redis.call('GET', key)
if ARGV[3] == '1' then
  if now ~= ARGV[4] then return 0 end
elseif now then return 0 end
local holder = KEYS[2] and redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[5] then return 0 end
if ARGV[2] == '' then redis.call('SET', key, ARGV[1]) else redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
if holder then
  redis.call('DEL', KEYS[2])
  wake(key)
end
return 1";
    /// Prolongs a lock that is a string: token, lease. Returns whether it is held still.
    RENEW_STRING = r"
if redis.call('GET', key) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', key, ARGV[2])";
    /// Gives a lock that is a string back: token, the key that it is for. Returns whether it was held still.
    RELEASE_STRING = r"
if redis.call('GET', key) ~= ARGV[1] then return 0 end
redis.call('DEL', key)
wake(ARGV[2])
return 1";
    /// Sends a message: the topic's channel, the message. Returns its number. The first one's is the time, in µs: a server that
    /// has lost its numbers gives none again that were known.
    PUBLISH = r"
if redis.call('EXISTS', key) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', key, string.format('%.0f', time[1] * 1000000 + time[2]))
end
local sequence = redis.call('INCR', key)
redis.call('PUBLISH', ARGV[1], string.format('%.0f', sequence) .. ':' .. ARGV[2])
return sequence";
}
