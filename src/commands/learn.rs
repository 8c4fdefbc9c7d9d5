//! `learn`: traces to model.

use models::format::{Contradiction, timeouts_never_met, write_model};
use models::learn::{Curve, Finding, LearnOptions, Lesson, learn};
use models::manifests::Known;
use models::system::Model;
use models::trace::FileNotes;
use serde_json::{Value, json};

use crate::args::{Learn, Reading};
use crate::commands::backcast::{self, backcast};
use crate::exit::Failure;
use crate::inputs::{self, Input};
use crate::{output, show};

/// Reads, learns, writes the model, says what was read.
pub fn act(args: &Learn) -> Result<(), Failure> {
    if args.input.traces.is_empty() && !args.input.reading.live.is_asked_for() {
        return Err(Failure::refused(
            "learn",
            "at least one trace file, folder, - for standard input, or a live source such as --jaeger URL",
            "foreshock learn traces/ -o model.yaml",
        ));
    }
    let mut input = inputs::traces(&args.input.traces, &args.input.reading)?;
    let lesson = lesson(&mut input, &args.input.reading)?;
    let model = write_model(&lesson.model);
    match &args.output {
        Some(path) => output::write_file(path, |out| out.write_all(model.as_bytes()))?,
        None if !args.json => show::text(&model)?,
        None => {}
    }
    if args.json {
        return show::json(&summary(&input, &lesson));
    }
    say_what_was_read(&input);
    let notes = lesson.model.learned.iter().flat_map(|learned| &learned.notes);
    notes.for_each(|note| show::note(format_args!("  {}", show::plain(note))));
    if let Some(backcast) = lesson.model.learned.as_ref().and_then(|learned| learned.backcast.as_ref()) {
        show::note(format_args!("\n{}", backcast::as_text(backcast)));
    }
    Ok(())
}

/// The lesson of these traces, with what the user knows laid over it.
pub fn lesson(input: &mut Input, reading: &Reading) -> Result<Lesson, Failure> {
    lesson_with(input, &inputs::known(&reading.with)?, reading)
}

/// As [`lesson`], with the known things at hand.
pub fn lesson_with(input: &mut Input, known: &[Known], reading: &Reading) -> Result<Lesson, Failure> {
    let mut options = options(known, reading.sampling);
    options.curve = if reading.curve { Curve::Steps } else { Curve::Steady };
    let backcast = if reading.backcast { Some(backcast(&mut input.traces, known, reading.sampling)?) } else { None };
    let mut lesson = learn(&input.traces, &options)?;
    if !known.is_empty() {
        let (mut contradictions, unmapped) = lay_over(known, &mut lesson.model);
        contradictions.extend(timeouts_never_met(&lesson.model, &lesson.longest));
        let notes = &mut lesson.model.learned.get_or_insert_default().notes;
        // What was only assumed before the overlay is no longer; where each number comes from stands beside it.
        let outdated = lesson.findings.iter().filter(|finding| matches!(finding, Finding::Assumed { .. }));
        outdated.for_each(|finding| notes.retain(|note| *note != finding.to_string()));
        notes.extend(contradictions.iter().map(ToString::to_string));
        notes.extend(unmapped);
    }
    lesson.model.learned.get_or_insert_default().backcast = backcast;
    Ok(lesson)
}

/// Lays what is known over a model; returns what it contradicts, and what of it has no place in a model.
pub fn lay_over(known: &[Known], model: &mut Model) -> (Vec<Contradiction>, Vec<String>) {
    let (mut contradictions, mut unmapped) = (Vec::new(), Vec::new());
    for known in known {
        match known {
            Known::Overlay(overlay) => contradictions.extend(overlay.apply(model)),
            Known::Manifests(manifests) => {
                let mapped = manifests.overlays(model);
                contradictions.extend(mapped.overlays.iter().flat_map(|overlay| overlay.apply(model)));
                unmapped.extend(mapped.unmapped);
            }
        }
    }
    (contradictions, unmapped)
}

/// What the learner may use besides traces.
pub fn options(known: &[Known], sampling: Option<f64>) -> LearnOptions {
    let mut options = LearnOptions { sampling, ..LearnOptions::default() };
    for known in known {
        if let Known::Overlay(known) = known {
            options.known_workers.extend(known.known_workers());
            options.known_caches.extend(known.known_caches());
            options.known_timeouts.extend(known.known_timeouts());
        }
    }
    options
}

/// Says on stderr what was read, and what was left out and why.
pub fn say_what_was_read(input: &Input) {
    for file in &input.traces.files {
        let what = match file.edges {
            0 => format!("{} traces, {} spans, {} services", file.traces, file.spans, file.services),
            edges => format!("no traces, {edges} calls between {} services", file.services),
        };
        show::note(format_args!(
            "{}: {}, {what}{}",
            show::plain(&file.path),
            file.format,
            if file.skipped > 0 { format!(", {} records skipped", file.skipped) } else { String::new() }
        ));
        for skipped in file.skipped_records.iter().take(5) {
            show::note(format_args!("  skipped: {}: {}", show::plain(&skipped.place), show::plain(&skipped.reason)));
        }
        if file.skipped > 5 {
            show::note(format_args!("  and {} more; --json lists the first 100 of a file", file.skipped - 5));
        }
    }
    for file in &input.passed_over {
        show::note(format_args!("{}: passed over, it holds no traces", show::plain(&file.file)));
    }
}

/// What was read and learned, as JSON.
fn summary(input: &Input, lesson: &Lesson) -> Value {
    let traces = &input.traces;
    let model = &lesson.model;
    json!({
        "files": traces.files.iter().map(file).collect::<Vec<_>>(),
        "passed_over": input.passed_over.iter().map(|e| json!({ "path": e.file, "found": e.found, "expected": e.expected })).collect::<Vec<_>>(),
        "traces": traces.traces.len(),
        "spans": traces.traces.iter().map(|trace| trace.spans.len()).sum::<usize>(),
        "services": model.services.len(),
        "skipped": traces.files.iter().map(|file| file.skipped).sum::<u64>(),
        "entries": model.workload.len(),
        "edges": model.edges.len(),
        "topics": model.topics.len(),
        "seconds": model.learned.as_ref().map(|learned| learned.seconds),
        "backcast": model.learned.as_ref().and_then(|learned| learned.backcast.as_ref()).map(backcast::as_json),
        "notes": model.learned.as_ref().map(|learned| learned.notes.clone()),
    })
}

fn file(notes: &FileNotes) -> Value {
    let records = notes.skipped_records.iter().map(|s| json!({ "place": s.place, "reason": s.reason }));
    json!({
        "path": notes.path,
        "format": notes.format.to_string(),
        "traces": notes.traces,
        "spans": notes.spans,
        "services": notes.services,
        "edges": notes.edges,
        "skipped": notes.skipped,
        "skipped_records": records.collect::<Vec<_>>(),
    })
}
