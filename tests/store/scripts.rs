//! The library of functions, run by Lua 5.1 as the stores run it.
//!
//! Owns the interpreter and what a function sees of it. Must not know connections. The invariant: a
//! function sees the names that a store gives it and no others: `redis.register_function` while the
//! library loads; afterwards the plain parts of Lua, `redis.call` and `redis.sha1hex`, which it cannot
//! change.

use std::collections::BTreeMap;

use mlua::{Function, Lua, Table, Value, Variadic};
use sha1::{Digest, Sha1};

use super::data::{Data, is_write};
use super::resp::Reply;

/// What functions find besides `redis`.
const GLOBALS: &[&str] = &[
    "assert", "error", "ipairs", "math", "next", "pairs", "pcall", "rawequal", "rawget", "select",
    "string", "table", "tonumber", "tostring", "type", "unpack",
];

pub struct Registered {
    callback: Function,
    /// The table `redis` of its library.
    redis: Table,
    pub is_read: bool,
    pub may_run_when_full: bool,
}

/// All libraries.
#[derive(Default)]
pub struct Scripts {
    lua: Lua,
    libraries: BTreeMap<String, Vec<String>>,
    functions: BTreeMap<String, Registered>,
}

impl Scripts {
    pub fn forget(&mut self) {
        self.libraries.clear();
        self.functions.clear();
    }

    pub fn function(&self, name: &str) -> Option<&Registered> {
        self.functions.get(name)
    }

    /// FUNCTION LOAD: the library's name, or an error.
    pub fn load(&mut self, source: &str) -> Result<String, String> {
        let (first, rest) = source.split_once('\n').unwrap_or((source, ""));
        let name = first.strip_prefix("#!lua name=").ok_or("ERR Missing library metadata")?;
        if self.libraries.contains_key(name) {
            return Err(format!("ERR Library '{name}' already exists"));
        }
        let registered = self
            .execute(&format!("\n{rest}"))
            .map_err(|error| format!("ERR Error registering functions: {}", root(&error)))?;
        let names = registered.iter().map(|(name, _)| name.clone()).collect();
        self.libraries.insert(name.to_owned(), names);
        self.functions.extend(registered);
        Ok(name.to_owned())
    }

    /// Runs the source of a library. What it registers.
    fn execute(&self, source: &str) -> mlua::Result<Vec<(String, Registered)>> {
        let lua = &self.lua;
        let (environment, redis, registry) =
            (lua.create_table()?, lua.create_table()?, lua.create_table()?);
        let list = registry.clone();
        let register = lua.create_function(move |_, what: Table| list.push(what))?;
        redis.set("register_function", register)?;
        environment.set("redis", &redis)?;
        let (protection, missing) = (lua.create_table()?, lua.create_table()?);
        let absent = lua.create_function(|_, (_, name): (Value, String)| -> mlua::Result<()> {
            let what = "Script attempted to access nonexistent global variable";
            Err(mlua::Error::runtime(format!("{what} '{name}'")))
        })?;
        protection.set("__index", &absent)?;
        missing.set("__index", &absent)?;
        let change = |_: &Lua, _: Variadic<Value>| -> mlua::Result<()> {
            Err(mlua::Error::runtime("Attempt to modify a readonly table"))
        };
        protection.set("__newindex", lua.create_function(change)?)?;
        environment.set_metatable(Some(protection))?;
        redis.set_metatable(Some(missing))?;
        let chunk =
            lua.load(source).set_name("@user_function").set_environment(environment.clone());
        chunk.exec()?;

        for name in GLOBALS {
            environment.raw_set(*name, lua.globals().get::<Value>(*name)?)?;
        }
        redis.raw_remove("register_function")?;
        redis.set("sha1hex", lua.create_function(|_, text: mlua::String| Ok(hex(&text)))?)?;
        let mut registered = Vec::new();
        for what in registry.sequence_values::<Table>() {
            let what = what?;
            let flags: Vec<String> = what.get("flags")?;
            let has = |flag: &str| flags.iter().any(|one| one == flag);
            let function = Registered {
                callback: what.get("callback")?,
                redis: redis.clone(),
                is_read: has("no-writes"),
                may_run_when_full: has("no-writes") || has("allow-oom"),
            };
            registered.push((what.get("function_name")?, function));
        }
        Ok(registered)
    }

    /// Runs a function. What it has changed remains, also if it fails.
    pub fn call(&self, name: &str, data: &mut Data, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Reply {
        let function = &self.functions[name];
        let slot = keys.first().map(|key| slot(key).to_vec()).unwrap_or_default();
        let run = self.lua.scope(|scope| {
            let call = scope.create_function_mut(|lua, args: Variadic<Value>| {
                let args: Vec<Vec<u8>> = args.iter().map(argument).collect::<mlua::Result<_>>()?;
                let command: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                let name = String::from_utf8_lossy(command[0]);
                if function.is_read && is_write(&name) {
                    let text = "ERR Write commands are not allowed from read-only scripts.";
                    return Err(mlua::Error::runtime(text));
                }
                for key in keys_of(&name, &command[1..]) {
                    assert_eq!(slot, self::slot(key), "{name}: a key of another slot");
                }
                to_lua(lua, data.run(&command))
            })?;
            function.redis.raw_set("call", call)?;
            let list = |texts: &[Vec<u8>]| {
                let texts = texts.iter().map(|text| self.lua.create_string(text));
                self.lua.create_sequence_from(texts.collect::<mlua::Result<Vec<_>>>()?)
            };
            let result = function.callback.call::<Value>((list(keys)?, list(args)?));
            function.redis.raw_remove("call")?;
            from_lua(result?)
        });
        run.unwrap_or_else(|error| Reply::Error(format!("{} script: {name}", root(&error))))
    }
}

/// The part of a key that decides on its slot.
fn slot(key: &[u8]) -> &[u8] {
    let end = key.iter().position(|byte| *byte == b'}').expect("a key has a tag");
    &key[..end]
}

fn keys_of<'a>(name: &str, args: &'a [&'a [u8]]) -> &'a [&'a [u8]] {
    match name {
        "TIME" => &[],
        "UNLINK" | "EXISTS" => args,
        "RENAME" => &args[..2],
        "MEMORY" | "XINFO" => &args[1..2],
        _ => &args[..1],
    }
}

fn hex(text: &mlua::String) -> String {
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn argument(value: &Value) -> mlua::Result<Vec<u8>> {
    match value {
        Value::String(text) => Ok(text.as_bytes().to_vec()),
        Value::Integer(number) => Ok(number.to_string().into()),
        // Lua 5.1 has doubles only; `%.17g` prints those that are whole without an exponent up to here.
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e17 => {
            Ok(format!("{number:.0}").into())
        }
        Value::Number(number) => panic!("an argument that is no whole number: {number}"),
        _ => {
            let text = "ERR Lua redis lib command arguments must be strings or integers";
            Err(mlua::Error::runtime(text))
        }
    }
}

/// A command's reply as a function sees it: RESP2, nil as false, an error raised.
fn to_lua(lua: &Lua, reply: Reply) -> mlua::Result<Value> {
    let list = |list: Vec<Reply>| {
        let values = list.into_iter().map(|one| to_lua(lua, one));
        let values = values.collect::<mlua::Result<Vec<_>>>()?;
        Ok(Value::Table(lua.create_sequence_from(values)?))
    };
    match reply {
        Reply::Nil => Ok(Value::Boolean(false)),
        Reply::Number(number) => Ok(Value::Number(number as f64)),
        Reply::Score(score) => to_lua(lua, Reply::text(score.to_string())),
        Reply::Text(text) => Ok(Value::String(lua.create_string(&text)?)),
        Reply::Status(text) => {
            let table = lua.create_table()?;
            table.set("ok", text)?;
            Ok(Value::Table(table))
        }
        Reply::Error(text) => Err(mlua::Error::runtime(text)),
        Reply::List(parts) | Reply::Set(parts) | Reply::Push(parts) => list(parts),
        Reply::Map(pairs) => {
            list(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect())
        }
    }
}

/// A function's reply: numbers lose what is behind the point, a list ends before its first nil.
fn from_lua(value: Value) -> mlua::Result<Reply> {
    Ok(match value {
        Value::Nil | Value::Boolean(false) => Reply::Nil,
        Value::Boolean(true) => Reply::Number(1),
        Value::Integer(number) => Reply::Number(number),
        Value::Number(number) => Reply::Number(number as i64),
        Value::String(text) => Reply::text(text.as_bytes()),
        Value::Table(table) => {
            if let Some(error) = table.raw_get::<Option<String>>("err")? {
                return Ok(Reply::Error(error));
            }
            if let Some(status) = table.raw_get::<Option<String>>("ok")? {
                return Ok(Reply::Status(status));
            }
            let mut list = Vec::new();
            for place in 1.. {
                match table.raw_get::<Value>(place)? {
                    Value::Nil => break,
                    part => list.push(from_lua(part)?),
                }
            }
            Reply::List(list)
        }
        other => panic!("a reply that the model does not know: {other:?}"),
    })
}

/// The error that a store would tell.
fn root(error: &mlua::Error) -> String {
    match error {
        mlua::Error::CallbackError { cause, .. } => root(cause),
        mlua::Error::RuntimeError(text) => {
            let line = text.lines().next().unwrap_or_default();
            let is_coded = line.split(' ').next().is_some_and(|word| {
                word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase())
            });
            if is_coded { line.to_owned() } else { format!("ERR {line}") }
        }
        other => format!("ERR {other}"),
    }
}
