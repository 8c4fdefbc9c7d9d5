//! The output folder: what is in it, how it is written, how an interrupted sweep is found again.
//!
//! You are here: `output`. `inputs` is the other side; `work` appends runs, `commands` write the rest.
//! Always true: the folder is made and tried before any work; every file but the runs is replaced whole or not at all; two processes
//! never write to one folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use models::units::Nanos;
use scenarios::record::RunRecord;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// The model.
pub const MODEL: &str = "model.yaml";
/// What was tried.
pub const SCENARIOS: &str = "scenarios.yaml";
/// What came of each run: a record a line, in job order.
pub const RUNS: &str = "runs.jsonl";
/// How the runs were made; see [`Settings`].
pub const SETTINGS: &str = "settings.json";
/// What live experiments showed, if that was given.
pub const LIVE: &str = "live.json";
/// Folder of the plots.
pub const PLOTS: &str = "plots";

/// What the records depend on beside model and scenarios, which their tokens name. A folder whose settings differ is not resumed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Version of this file's format.
    pub version: u32,
    /// Version of the program.
    pub foreshock: String,
    /// Groups of scenarios, in the order of scenarios.yaml, that share times.
    pub batches: Vec<Times>,
}

/// Times of a group of scenarios.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Ids of the scenarios are the next this many of scenarios.yaml.
    pub scenarios: usize,
    /// Simulated time of a run.
    pub horizon: String,
    /// Simulated time left out of the statistics.
    pub warm_up: String,
}

impl Settings {
    /// True if records made under `other` count as made under `self`: program and times agree (how many scenarios does not matter).
    pub fn agree(&self, other: &Settings) -> bool {
        let times =
            |settings: &Settings| settings.batches.iter().map(|t| (t.horizon.clone(), t.warm_up.clone())).collect::<Vec<_>>();
        (self.version, &self.foreshock, times(self)) == (other.version, &other.foreshock, times(other))
    }

    /// The warm-up of the runs of a scenario, by its number in scenarios.yaml.
    pub fn warm_up_of(&self, scenario: usize) -> Option<Nanos> {
        let mut before = 0;
        let batch = self.batches.iter().find(|batch| {
            before += batch.scenarios;
            scenario < before
        })?;
        Nanos::parse(&batch.warm_up)
    }
}

/// A folder that results go to. Its lock is held until it is dropped.
#[derive(Debug)]
pub struct OutputDir {
    path: PathBuf,
    _lock: Option<File>,
}

impl OutputDir {
    /// Makes the folder where it is not there, tries that it can be written to, and keeps others from writing to it.
    pub fn create(path: &Path) -> Result<Self, Failure> {
        let plots = path.join(PLOTS);
        fs::create_dir_all(&plots).map_err(|why| Failure::unwritable(path, &why))?;
        // Some systems cannot open a folder as a file; there, nothing is locked.
        let lock = File::open(path).ok();
        if let Some(Err(TryLockError::WouldBlock)) = lock.as_ref().map(File::try_lock) {
            return Err(Failure::refused(
                path.display(),
                "a folder that no other foreshock is writing to",
                "wait for it to end, or choose another folder with -o",
            ));
        }
        let runs = path.join(RUNS);
        OpenOptions::new().append(true).create(true).open(&runs).map_err(|why| Failure::unwritable(&runs, &why))?;
        let probe = plots.join(".probe");
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|why| Failure::unwritable(&plots, &why))?;
        Ok(OutputDir { path: path.to_path_buf(), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file: into a neighbour first, which then takes its place.
    pub fn write(&self, name: &str, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
        write_file(&self.path.join(name), write)
    }

    /// Removes plots of an earlier report.
    pub fn clear_plots(&self) -> Result<(), Failure> {
        let plots = self.path.join(PLOTS);
        for entry in fs::read_dir(&plots).map_err(|why| Failure::unreadable(&plots, &why))?.flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "svg") {
                fs::remove_file(entry.path()).map_err(|why| Failure::unwritable(&entry.path(), &why))?;
            }
        }
        Ok(())
    }

    /// Replaces the file of runs by these, and opens it for more.
    pub fn start_runs(&self, kept: &[&RunRecord]) -> Result<Runs, Failure> {
        self.write(RUNS, |out| kept.iter().try_for_each(|record| write_record(out, record)))?;
        let path = self.path.join(RUNS);
        let file = OpenOptions::new().append(true).open(&path).map_err(|why| Failure::unwritable(&path, &why))?;
        Ok(Runs { path, file })
    }
}

/// The open file of runs.
#[derive(Debug)]
pub struct Runs {
    path: PathBuf,
    file: File,
}

impl Runs {
    /// Adds a run; it is in the file when this returns.
    pub fn append(&mut self, record: &RunRecord) -> Result<(), Failure> {
        let mut line = Vec::new();
        write_record(&mut line, record)
            .and_then(|()| self.file.write_all(&line))
            .map_err(|why| Failure::unwritable(&self.path, &why))
    }
}

fn write_record(out: &mut dyn Write, record: &RunRecord) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

/// Writes a file: into a neighbour first, which then takes its place. `-` is standard output.
pub fn write_file(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        return crate::show::result(write);
    }
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    let part = path.with_file_name(name);
    let written = File::create(&part).and_then(|file| {
        let mut out = BufWriter::new(file);
        write(&mut out)?;
        out.flush()?;
        drop(out);
        fs::rename(&part, path)
    });
    written.map_err(|why| {
        let _ = fs::remove_file(&part);
        Failure::unwritable(path, &why)
    })
}

/// The finished runs of a folder and how they were made. A last line that was cut short by a kill is left out; none if there is no
/// such folder, or if its files are of another version.
pub fn finished(path: &Path) -> Option<(Settings, Vec<RunRecord>)> {
    let settings = serde_json::from_slice(&fs::read(path.join(SETTINGS)).ok()?).ok()?;
    let text = fs::read_to_string(path.join(RUNS)).ok()?;
    Some((settings, text.lines().map_while(|line| serde_json::from_str(line).ok()).collect()))
}

/// The newest output folder in `here`: `here` itself or one of its folders.
pub fn newest(here: &Path) -> Option<PathBuf> {
    let below = fs::read_dir(here).into_iter().flatten().flatten().map(|entry| entry.path());
    std::iter::once(here.to_path_buf())
        .chain(below)
        .filter(|folder| folder.join(MODEL).is_file() && folder.join(SCENARIOS).is_file())
        .filter_map(|folder| Some((fs::metadata(folder.join(RUNS)).and_then(|runs| runs.modified()).ok()?, folder)))
        .max()
        .map(|(_, folder)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_written_by_one_at_a_time() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let first = OutputDir::create(folder.path()).expect("free");
        assert!(matches!(OutputDir::create(folder.path()), Err(Failure::Refused(text)) if text.contains("no other foreshock")));
        drop(first);
        OutputDir::create(folder.path()).expect("free again");
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("ranking.json");
        write_file(&file, |out| out.write_all(b"old")).expect("written");
        let failed = write_file(&file, |out| {
            out.write_all(b"half of the n")?;
            Err(io::Error::other("disk full"))
        });
        assert!(failed.is_err());
        assert_eq!(fs::read_to_string(&file).expect("still there"), "old");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1, "nothing else is left");
    }
}
