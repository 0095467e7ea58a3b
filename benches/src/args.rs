//! The command line.

#![forbid(unsafe_code)]

use crate::callgrind::{self, Variant};
use crate::report::Format;
use crate::rows::memory;
use crate::single_flight;
use crate::targets::TargetOptions;

pub(crate) const HELP: &str = "\
usage: dogpile-benches table [--quick] [--markdown] [--ten-million] [row ...]
       dogpile-benches targets [--quick] [--only WORD] ... [--markdown FILE] [--traces FOLDER --reference FILE]
       dogpile-benches instructions [--check | --write] [--functions] [--lines] [--markdown] [loop ...]
       dogpile-benches single-flight [word ...]

table           measures times, tails, memory and hit ratios beside the peers; about 5 minutes
  --quick         a third of the rounds, and without the slowest rows; about 1 minute
  --ten-million   growth to 10 M entries, not 1 M
  row ...         only rows whose name contains one of these words (`table --list` prints the names)
targets         what the project wants to reach: target, figure, verdict, and the peers; about 8 minutes. A missed target is no
                failure, a row too noisy to be believed is
  --only WORD     only groups whose name contains one of these words (`targets --list` prints the names)
  --markdown FILE writes the same into FILE, as Markdown
  --traces FOLDER --reference FILE
                  also hit ratios: replays the traces of FOLDER, as `dogpile replay FOLDER --reference FILE` does
instructions    counts instructions and locked instructions per operation with valgrind; half a minute
  --check         only our own loops; exit status 1 if one exceeds benches/expected-instructions.toml
  --write         only our own loops; writes that file, 3 % above what was counted
  --lines         cache lines and not instructions: misses of a simulated first-level cache, tables far larger than it
  --functions     also which functions the instructions of each loop lie in
  loop ...        only loops whose name contains one of these words
single-flight   what happens around one creation of a value, beside the peers; exit status 1 if ours is not what it has to be;
                in Markdown; half a minute
  word ...        only where `subject/case` contains one of these words
--markdown      tables in Markdown
";

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Table(TableOptions),
    Targets(TargetOptions),
    Instructions(InstructionOptions),
    SingleFlight(SingleFlightOptions),
    ChildMemory { subject: String, entries: u64 },
    ChildLoop { name: String, variant: Variant },
    ChildCase { subject: String, case: String },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TableOptions {
    pub(crate) quick: bool,
    pub(crate) list: bool,
    pub(crate) ten_million: bool,
    pub(crate) format: Format,
    pub(crate) words: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InstructionOptions {
    pub(crate) check: bool,
    pub(crate) write: bool,
    pub(crate) functions: bool,
    pub(crate) lines: bool,
    pub(crate) format: Format,
    pub(crate) words: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SingleFlightOptions {
    pub(crate) words: Vec<String>,
}

/// Whether a name was asked for.
pub(crate) fn is_wanted(words: &[String], name: &str) -> bool {
    words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
}

pub(crate) fn parse(arguments: &[String]) -> Result<Command, String> {
    let Some((command, rest)) = arguments.split_first() else { return Ok(Command::Help) };
    match (command.as_str(), rest) {
        ("table", _) => {
            let (flags, words) = split(rest, &["--quick", "--list", "--ten-million", "--markdown"])?;
            Ok(Command::Table(TableOptions {
                quick: flags[0],
                list: flags[1],
                ten_million: flags[2],
                format: if flags[3] { Format::Markdown } else { Format::Text },
                words,
            }))
        }
        ("targets", _) => targets(rest).map(Command::Targets),
        ("instructions", _) => {
            let (flags, words) =
                split(rest, &["--check", "--write", "--functions", "--markdown", "--lines"])?;
            if flags[0] && flags[1] {
                return Err(String::from("--check and --write exclude each other"));
            }
            Ok(Command::Instructions(InstructionOptions {
                check: flags[0],
                write: flags[1],
                functions: flags[2],
                lines: flags[4],
                format: if flags[3] { Format::Markdown } else { Format::Text },
                words,
            }))
        }
        ("single-flight", _) => {
            let (_, words) = split(rest, &[])?;
            Ok(Command::SingleFlight(SingleFlightOptions { words }))
        }
        (single_flight::CHILD, [subject, case]) => {
            Ok(Command::ChildCase { subject: subject.clone(), case: case.clone() })
        }
        (memory::CHILD, [subject, entries]) => {
            let entries = entries.parse().map_err(|_| format!("{entries} is no number of entries"))?;
            Ok(Command::ChildMemory { subject: subject.clone(), entries })
        }
        (callgrind::CHILD, [name, variant]) => {
            let variant =
                Variant::parse(variant).ok_or_else(|| format!("{variant} is no variant of a loop"))?;
            Ok(Command::ChildLoop { name: name.clone(), variant })
        }
        ("help" | "--help" | "-h", _) => Ok(Command::Help),
        _ => Err(format!("unknown command: {}", arguments.join(" "))),
    }
}

fn targets(arguments: &[String]) -> Result<TargetOptions, String> {
    let mut options = TargetOptions::default();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--quick" => options.quick = true,
            "--list" => options.list = true,
            "--only" => options.words.push(value()?.clone()),
            "--markdown" => options.markdown = Some(value()?.into()),
            "--traces" => options.traces = Some(value()?.into()),
            "--reference" => options.reference = Some(value()?.into()),
            _ => return Err(format!("unknown argument: {argument}")),
        }
    }
    if options.traces.is_some() != options.reference.is_some() {
        return Err(String::from("--traces and --reference need each other"));
    }
    Ok(options)
}

/// Which of `known` occur in `arguments`, and the words that are no flags.
fn split(arguments: &[String], known: &[&str]) -> Result<(Vec<bool>, Vec<String>), String> {
    let mut flags = vec![false; known.len()];
    let mut words = Vec::new();
    for argument in arguments {
        match known.iter().position(|flag| flag == argument) {
            Some(flag) => flags[flag] = true,
            None if argument.starts_with('-') => return Err(format!("unknown flag: {argument}")),
            None => words.push(argument.clone()),
        }
    }
    Ok((flags, words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        let arguments: Vec<String> = line.split_whitespace().map(String::from).collect();
        parse(&arguments)
    }

    #[test]
    fn flags_and_words() {
        let Ok(Command::Table(options)) = parsed("table --quick get churn") else {
            panic!("a table was asked for")
        };
        assert!(options.quick && !options.list && options.format == Format::Text);
        assert!(is_wanted(&options.words, "get-hit-1k-u64") && !is_wanted(&options.words, "growth"));
        assert!(parsed("table --fast").is_err());
        assert!(parsed("instructions --check --write").is_err());
        assert!(parsed("single-flight --quick").is_err());
        let Ok(Command::Targets(options)) = parsed("targets --only zipf --markdown a.md --only lines") else {
            panic!("targets were asked for")
        };
        assert_eq!((options.words.len(), options.markdown), (2, Some("a.md".into())));
        for wrong in ["targets --only", "targets zipf", "targets --traces folder"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        let words = vec![String::from("moka"), String::from("stale")];
        assert_eq!(
            parsed("single-flight moka stale"),
            Ok(Command::SingleFlight(SingleFlightOptions { words }))
        );
        assert_eq!(parsed(""), Ok(Command::Help));
    }
}
