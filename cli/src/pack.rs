//! `dogpile pack`: writes a trace in the compact format.

use std::{fs::File, io::Write, path::PathBuf};

use crate::{
    error::Error,
    trace::{self, ReadOptions, ctr},
};

/// Write a trace in the compact format, with numbers for keys that are text
///
/// Numbers are given from 0 in order of first appearance, so the keys' names leave no trace in the file. Keys of a
/// trace that is compact already are kept.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The trace to read; `-` is standard input
    #[arg(value_name = "TRACE")]
    trace: PathBuf,

    #[command(flatten)]
    read: ReadOptions,

    /// The file to write, by custom NAME.ctr.zst
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Packs and says how much.
pub(crate) fn pack(options: &Options, out: &mut impl Write) -> Result<(), Error> {
    let trace = trace::read(&options.trace, &options.read)?;
    let write = |error| Error::write(&options.output, error);
    let file = File::create(&options.output).map_err(write)?;
    ctr::write(&trace, &file).map_err(write)?;
    let bytes = file.metadata().map_err(write)?.len();
    let name = options.output.display();
    writeln!(out, "{name}: {} requests, {} distinct keys, {bytes} bytes", trace.len(), trace.distinct())
        .map_err(Error::output)
}
