//! Opens what the user names: files, folders, standard input. The members only ever see bytes with a name.
//!
//! You are here: `inputs`. Commands ask for traces, models, scenarios; `output` is the other side.
//! Always true: folders are read in sorted order, so the same folder gives the same model.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use models::error::{InputError, InputErrors};
use models::format::read_model;
use models::manifests::Known;
use models::system::Model;
use models::trace::{NameRules, ReadOptions, Reader, TraceSet};
use scenarios::format::read_checked;
use scenarios::scenario::Scenario;

use crate::args::{Live, Reading};
use crate::clock::epoch_s;
use crate::demo;
use crate::exit::Failure;
use crate::pull::http::{Credentials, Manners};
use crate::pull::sources::Kind;
use crate::pull::{Order, pull};
use crate::show;

/// What standard input is called in messages.
const STDIN: &str = "standard input";

/// Files up to this size are read side by side, at most so many at once; larger ones one by one, each by all threads.
const SMALL: u64 = 1 << 20;
const TOGETHER: usize = 64;

/// What came of reading traces.
#[derive(Debug)]
pub struct Input {
    /// The traces and the notes of every file that held some.
    pub traces: TraceSet,
    /// Files found in folders that hold no traces, and why: passed over.
    pub passed_over: Vec<InputError>,
}

/// Reads traces from files, folders (recursively, sorted, hidden files left out) and standard input (`-`).
///
/// A named file that holds no traces is an error. One found in a folder is passed over, unless `strict` or nothing else was found.
///
/// What live systems are asked for is fetched first and read with the rest.
pub fn traces(paths: &[PathBuf], reading: &Reading) -> Result<Input, Failure> {
    let strict = reading.strict;
    let names = reading.names.as_deref().map_or_else(|| Ok(NameRules::default()), names)?;
    let options = ReadOptions { strict, csv_map: reading.csv_map.clone(), names, ..ReadOptions::default() };
    let mut reader = Reader::new(options);
    let mut passed_over = Vec::new();
    let mut read_any = false;
    let mut files: Vec<(PathBuf, bool)> = Vec::new();
    for path in paths {
        if !is_stdin(path) && path.is_dir() {
            files.extend(files_below(path)?.into_iter().map(|file| (file, true)));
        } else {
            files.push((path.clone(), false));
        }
    }
    let mut rest = &files[..];
    while let Some(((first, _), _)) = rest.split_first() {
        let small = rest.iter().take(TOGETHER).take_while(|(file, _)| is_small(file)).count();
        let (now, later) = rest.split_at(small.max(1));
        rest = later;
        let results = if is_stdin(first) {
            vec![reader.read(STDIN, io::stdin())]
        } else {
            let opened: Result<Vec<_>, Failure> =
                now.iter().map(|(file, _)| Ok((file.to_string_lossy().into_owned(), open(file)?))).collect();
            match opened? {
                mut one if small == 0 => one.drain(..).map(|(name, file)| reader.read(&name, file)).collect(),
                many => reader.read_together(many),
            }
        };
        for ((_, in_folder), result) in now.iter().zip(results) {
            match result {
                Ok(()) => read_any = true,
                Err(errors) if strict || !in_folder => return Err(errors.into()),
                Err(errors) => passed_over.extend(errors.0),
            }
        }
    }
    for file in pulled(&reading.live)? {
        match reader.read(&file.to_string_lossy(), open(&file)?) {
            Ok(()) => read_any = true,
            Err(errors) if strict => return Err(errors.into()),
            Err(errors) => passed_over.extend(errors.0),
        }
    }
    if !read_any && passed_over.is_empty() && reading.live.is_asked_for() {
        return Err(Failure::refused(
            "live sources",
            "traces in the time asked for (there are none)",
            "ask for a longer time with --since, or for other services",
        ));
    }
    if !read_any {
        return Err(InputErrors(passed_over).into());
    }
    Ok(Input { traces: reader.finish(), passed_over })
}

/// The recordings that the program carries.
pub fn demo_traces() -> Result<Input, Failure> {
    let mut reader = Reader::new(ReadOptions::default());
    for (name, bytes) in demo::TRACES {
        reader.read(name, bytes)?;
    }
    Ok(Input { traces: reader.finish(), passed_over: Vec::new() })
}

/// Reads and checks a model file.
pub fn model(path: &Path) -> Result<Model, Failure> {
    Ok(read_model(&name(path), &bytes(path)?)?)
}

/// Reads what the user says is known: partial models and manifests, in the order given.
pub fn known(paths: &[PathBuf]) -> Result<Vec<Known>, Failure> {
    paths.iter().map(|path| Ok(Known::read(&name(path), &bytes(path)?)?)).collect()
}

/// Reads what the user says about the names of services.
fn names(path: &Path) -> Result<NameRules, Failure> {
    Ok(NameRules::read(&name(path), &bytes(path)?)?)
}

/// Fetches what is asked for from live systems; the files that hold it.
fn pulled(live: &Live) -> Result<Vec<PathBuf>, Failure> {
    let asked =
        [(Kind::Jaeger, &live.jaeger), (Kind::Tempo, &live.tempo), (Kind::Zipkin, &live.zipkin), (Kind::Kiali, &live.kiali)];
    let now = epoch_s();
    let mut files = Vec::new();
    for (kind, url) in asked.into_iter().filter_map(|(kind, url)| Some((kind, url.as_ref()?))) {
        let to = live.until.unwrap_or(now);
        let order = Order {
            kind,
            url: url.clone(),
            from: to.saturating_sub(live.since.as_nanos().div_ceil(1_000_000_000)),
            to,
            now,
            services: live.service.clone(),
            namespaces: live.namespace.clone(),
            limit: live.pull_limit.get() as usize,
        };
        let credentials = Credentials::from_environment(kind.name(), |name| std::env::var(name).ok());
        let manners = Manners { pause: Duration::from_secs(1) / live.pull_rate.get(), ..Manners::default() };
        let pulled = pull(&order, &live.pull_into, credentials, manners)?;
        show::note(format_args!(
            "{}: {} slices fetched ({} traces, {} requests), {} were there already in {}",
            kind.name(),
            pulled.fetched,
            pulled.traces,
            pulled.requests,
            pulled.kept,
            live.pull_into.display()
        ));
        for missing in &pulled.missing {
            show::note(format_args!("  missing: {}", show::plain(missing)));
        }
        files.extend(pulled.files);
    }
    Ok(files)
}

/// Reads a scenario file and checks that its scenarios fit the model.
pub fn scenarios(path: &Path, model: &Model) -> Result<Vec<Scenario>, Failure> {
    Ok(read_checked(&name(path), &bytes(path)?, model)?)
}

/// Whether one path of a command that takes both is a model rather than traces: a file whose first key is one of a model's.
pub fn looks_like_a_model(path: &Path) -> bool {
    if is_stdin(path) || path.is_dir() {
        return false;
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(64 * 1024).read_to_end(&mut start));
    let text = String::from_utf8_lossy(&start);
    let first = text
        .lines()
        .map(str::trim)
        .find(|line| !matches!(line.chars().next(), None | Some('#' | '%')) && *line != "---" && *line != "{");
    let key = first
        .and_then(|line| line.trim_start_matches('{').trim().split(':').next())
        .map(|key| key.trim_matches(['"', '\'', ' ']));
    read.is_ok() && key.is_some_and(|key| ["version", "workload", "services", "edges", "topics", "learned"].contains(&key))
}

/// A file's name and its content.
pub type Named = (String, Vec<u8>);

/// The whole of a file, with its name.
pub fn named(path: &Path) -> Result<Named, Failure> {
    Ok((name(path), bytes(path)?))
}

/// The whole of a file, or of standard input (`-`).
pub fn bytes(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = if is_stdin(path) { io::stdin().lock().read_to_end(&mut bytes) } else { open(path)?.read_to_end(&mut bytes) };
    read.map_err(|why| Failure::unreadable(path, &why))?;
    Ok(bytes)
}

/// The name by which messages call a path.
pub fn name(path: &Path) -> String {
    if is_stdin(path) { STDIN.to_owned() } else { path.to_string_lossy().into_owned() }
}

/// Whether it is a file, and a small one.
fn is_small(path: &Path) -> bool {
    !is_stdin(path) && fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() <= SMALL)
}

fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn open(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|why| Failure::unreadable(path, &why))
}

/// Every visible file below a folder, sorted by path. An error if there is none. Links to folders are not followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).map_err(|why| Failure::unreadable(&next, &why))? {
            let entry = entry.map_err(|why| Failure::unreadable(&next, &why))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let kind = entry.file_type().map_err(|why| Failure::unreadable(&entry.path(), &why))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if entry.path().is_file() {
                files.push(entry.path());
            }
        }
    }
    if files.is_empty() {
        return Err(Failure::refused(
            folder.display(),
            "a folder with trace files in it (this one is empty)",
            "name a folder or file with OTLP, Jaeger or Zipkin traces, or - for standard input",
        ));
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_told_from_traces_by_its_first_key() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let looks = |text: &str| {
            let file = folder.path().join("file");
            fs::write(&file, text).expect("written");
            looks_like_a_model(&file)
        };
        assert!(looks("# a comment\n\nversion: 1\nservices: {}\n"));
        assert!(looks("{ version: 1, workload: {} }"));
        assert!(looks("{\n  \"version\": 1\n}"));
        assert!(!looks("{\"resourceSpans\":[]}"));
        assert!(!looks("[{\"traceId\":\"1\"}]"));
        assert!(!looks_like_a_model(folder.path()));
    }

    #[test]
    fn folders_are_read_in_sorted_order_without_hidden_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["b.json", "a/z.json", "a/.hidden", "c.json"] {
            let file = folder.path().join(name);
            fs::create_dir_all(file.parent().expect("below the folder")).expect("created");
            fs::write(file, "x").expect("written");
        }
        let found = files_below(folder.path()).expect("files");
        let names: Vec<_> =
            found.iter().map(|file| file.strip_prefix(folder.path()).expect("below").to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["a/z.json", "b.json", "c.json"]);
    }
}
