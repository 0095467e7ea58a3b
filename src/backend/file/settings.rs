//! The names that stand for a [`FileBackend`] in a configuration, and its settings there.
#![forbid(unsafe_code)]

use super::{FileBackend, OnDamage};
use crate::backend::{Arguments, Schemes, Store};
use crate::error::Error;

/// The same, with the names of this store.
pub(crate) fn register(schemes: Schemes) -> Schemes {
    ["file", "dbm", "dogpile.cache.dbm"]
        .into_iter()
        .fold(schemes, |schemes, name| schemes.register(name, open))
}

/// dogpile.cache's arguments that mean nothing here.
const FOREIGN: [(&str, &str); 2] = [
    (
        "rw_lockfile",
        "there is no lock around the whole file: reads take none, and writes those of the system: leave it out",
    ),
    ("dogpile_lockfile", "each key has a lock file of its own, in the folder: leave it out"),
];

fn open(arguments: &mut Arguments) -> Result<Store, Error> {
    if let Some(host) = arguments.take_host().filter(|host| !host.eq_ignore_ascii_case("localhost")) {
        let _ = host;
        return Err(arguments
            .error("path", "there is a host in the URL: write three slashes, file:///path/to/folder"));
    }
    let is_dbm = arguments.scheme().ends_with("dbm");
    let of_url = arguments.take_path();
    let setting = if is_dbm { "filename" } else { "path" };
    let of_map = arguments.take_str(setting)?;
    let path = match (of_url, of_map) {
        (Some(path), None) | (None, Some(path)) if !path.is_empty() => path,
        (Some(_), Some(_)) => {
            return Err(arguments.error(setting, "the path is given twice: leave it out here"));
        }
        _ => return Err(arguments.error(setting, "missing: give the folder, as file:///path/to/folder")),
    };
    if is_dbm {
        for (name, why) in FOREIGN {
            if arguments.take_str(name)?.is_some() {
                return Err(arguments.error(name, why));
            }
        }
    }
    let mut builder = FileBackend::builder(path);
    if let Some(create) = arguments.take_bool("create")? {
        builder = builder.create(create);
    }
    if let Some(sync) = arguments.take_bool("sync")? {
        builder = builder.sync(sync);
    }
    if let Some(timeout) = arguments.take_duration("timeout")? {
        builder = builder.timeout(timeout);
    }
    match arguments.take_str("corrupt")?.as_deref() {
        None => {}
        Some("miss") => builder = builder.on_damage(OnDamage::Miss),
        Some("error") => builder = builder.on_damage(OnDamage::Error),
        Some(_) => return Err(arguments.error("corrupt", "expected miss or error")),
    }
    let backend = builder.build()?;
    Ok(Store { blocking: Some(crate::sync::Arc::new(backend)), awaiting: None })
}
