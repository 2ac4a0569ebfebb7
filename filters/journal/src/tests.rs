use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;
use tollgate_core::flags::Flags;
use tollgate_core::usage::line::Line;

use super::*;

const MEMBERS: &str = ",\"org\":\"acme\",\"outcome\":\"crashed\",\"output_tokens\":7";

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("usage.jsonl")
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    fn begin(&self) -> Journal {
        Journal::begin(&self.folder(), &self.log(), true, |line| eprintln!("{line}")).unwrap()
    }

    fn recover(&self) -> Recovered {
        recover(&self.folder(), &self.log()).unwrap()
    }

    /// Each line, by its id.
    fn lines(&self) -> BTreeMap<String, Value> {
        let text = fs::read_to_string(self.log()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        let mut lines = BTreeMap::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let id = value["id"].as_str().unwrap().to_owned();
            assert_eq!(lines.insert(id, value), None, "{line}");
        }
        lines
    }

    fn files(&self) -> usize {
        fs::read_dir(self.folder()).unwrap().count()
    }
}

fn line(id: &str) -> String {
    let line = Line {
        id,
        began_ms: 1_764_000_000_000,
        status: 200,
        flags: Flags::default(),
        cluster: "llama",
        attempts: 1,
        bytes_in: 1,
        bytes_out: 2,
        duration_ms: 3,
    };
    line.with(",\"outcome\":\"complete\"")
}

fn known(members: &str) -> Known<'_> {
    Known {
        at_ms: 1_764_000_000_250,
        status: 200,
        members,
    }
}

/// As a kill does: nothing is closed, and its locks are gone.
fn kill(journal: Journal) {
    journal.writer.close();
    let path = journal.path.clone();
    drop(journal);
    // A process that another test is starting may have them for a moment.
    eventually(|| {
        [path.clone(), path.with_extension(recover::LEVELS)]
            .iter()
            .all(|path| fs::File::open(path).is_ok_and(|file| file.try_lock().is_ok()))
    });
}

#[test]
fn what_is_finished_is_in_the_log_and_nothing_is_left() {
    let place = Place::new();
    let journal = place.begin();
    for number in 0..3_000 {
        let id = format!("a-{number}");
        let slot = journal.take(id.as_bytes(), 1).unwrap();
        assert!(journal.keep(slot, known(MEMBERS)));
        assert_eq!(journal.members(slot), MEMBERS);
        journal.finish(Some(slot), line(&id));
    }
    journal.finish(None, line("loose"));
    let unseen = journal.take(b"forgotten", 1).unwrap();
    journal.forget(unseen);
    journal.close();
    assert_eq!(
        (place.lines().len(), place.files(), journal.lost()),
        (3_001, 0, 0)
    );
}

#[test]
fn what_was_under_way_is_recovered_with_what_was_known() {
    let place = Place::new();
    let journal = place.begin();
    let known_of = journal.take(b"known", 1_764_000_000_000).unwrap();
    journal.keep(known_of, known(",\"org\":\"before\""));
    journal.keep(known_of, known(MEMBERS));
    journal.take(b"new", 1_764_000_000_000).unwrap();
    journal.finish(journal.take(b"done", 1), line("done"));
    let long = "x".repeat(3_000);
    let too_long = journal.take(b"long", 1).unwrap();
    assert!(!journal.keep(too_long, known(&long)));
    assert_eq!(journal.take(long.as_bytes(), 1), None);
    // It is in use.
    assert_eq!(place.recover(), Recovered::default());
    kill(journal);

    let recovered = place.recover();
    assert_eq!(
        (recovered.journals, recovered.finished, recovered.crashed),
        (1, 0, 3)
    );
    let lines = place.lines();
    assert_eq!(lines.len(), 4);
    let known = &lines["known"];
    assert_eq!(known["time"], "2025-11-24T16:00:00.000Z");
    assert_eq!(
        (
            &known["status"],
            &known["duration_ms"],
            &known["org"],
            &known["output_tokens"]
        ),
        (&200.into(), &250.into(), &"acme".into(), &7.into())
    );
    assert_eq!(
        (&lines["new"]["outcome"], &lines["new"]["status"]),
        (&"crashed".into(), &0.into())
    );
    assert_eq!(lines["done"]["outcome"], "complete");
    assert_eq!(place.recover(), Recovered::default());
    assert_eq!(take_levels(&place.folder()).unwrap(), []);
    assert_eq!(place.files(), 0);
}

/// Between its batch and the freeing of its slots, and in the middle of a batch, and after a rotation.
#[test]
fn what_was_written_is_not_written_again() {
    for (whole, rotated) in [(true, false), (false, false), (true, true)] {
        let place = Place::new();
        fs::create_dir_all(place.folder()).unwrap();
        fs::write(place.log(), line("earlier")).unwrap();
        let path = place.folder().join("1.journal");
        let slots = slots::Slots::create(&path).unwrap();
        for id in ["one", "two"] {
            let slot = slots.take(id.as_bytes(), 1).unwrap();
            slots.finish(slot, &line(id));
        }
        let open = slots.take(b"open", 1).unwrap();
        slots.keep(open, slots::Text::new(1, 0, MEMBERS));
        {
            let mut log = Log::open(&place.log()).unwrap();
            let mut log = log.lock().unwrap();
            slots.note(log.note().unwrap());
            log.append(line("one").as_bytes()).unwrap();
        }
        if !whole {
            let mut file = fs::OpenOptions::new().append(true).open(place.log()).unwrap();
            file.write_all(&line("two").as_bytes()[..40]).unwrap();
        }
        drop(slots);
        if rotated {
            fs::rename(place.log(), place.dir.path().join("usage.jsonl.1")).unwrap();
        }
        let recovered = place.recover();
        assert_eq!((recovered.finished, recovered.crashed), (1, 1));
        let ids: Vec<_> = place.lines().into_keys().collect();
        match rotated {
            true => assert_eq!(ids, ["open", "two"]),
            false => assert_eq!(ids, ["earlier", "one", "open", "two"]),
        }
    }
}

#[test]
fn a_recovery_that_was_killed_is_done_again() {
    let place = Place::new();
    let journal = place.begin();
    journal.take(b"open", 1).unwrap();
    let path = journal.path.clone();
    kill(journal);
    place.recover();
    // As if the file had not been deleted: what it says after its records were written.
    let before = place.lines();
    let journal = place.begin();
    journal.take(b"open", 1).unwrap();
    let again = journal.path.clone();
    kill(journal);
    let bytes = fs::read(&again).unwrap();
    place_as_recovered(&place, &path, bytes);
    fs::remove_file(again).unwrap();
    let recovered = place.recover();
    assert_eq!((recovered.crashed, place.lines()), (0, before));
}

/// A journal that a recovery has brought to a log which was empty, and not deleted.
fn place_as_recovered(place: &Place, path: &Path, mut bytes: Vec<u8>) {
    let mut log = Log::open(&place.log()).unwrap();
    let note = log.lock().unwrap().note().unwrap();
    let note = layout::Note { len: 0, ..note };
    bytes[layout::note(true)..][..layout::Note::LEN].copy_from_slice(&note.encode());
    bytes[layout::WHICH_NOTE..][..4].copy_from_slice(&1_u32.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_log_that_was_moved_away_is_followed_by_a_new_one() {
    let place = Place::new();
    let journal = place.begin();
    journal.finish(journal.take(b"one", 1), line("one"));
    eventually(|| fs::read_to_string(place.log()).is_ok_and(|text| text.contains("one")));
    fs::rename(place.log(), place.dir.path().join("usage.jsonl.1")).unwrap();
    journal.finish(journal.take(b"two", 1), line("two"));
    journal.close();
    assert_eq!(place.lines().into_keys().collect::<Vec<_>>(), ["two"]);
}

fn eventually(is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_can_not_be_written_stays() {
    let place = Place::new();
    let journal = place.begin();
    let slot = journal.take(b"one", 1);
    // No log can be there any more.
    fs::remove_file(place.log()).unwrap();
    fs::create_dir(place.log()).unwrap();
    journal.finish(slot, line("one"));
    journal.finish(None, line("loose"));
    journal.close();
    assert_eq!((place.files(), journal.lost()), (2, 1));
    kill(journal);
    assert!(recover(&place.folder(), &place.log()).is_err());
    fs::remove_dir(place.log()).unwrap();
    assert_eq!(place.recover().finished, 1);
    assert_eq!(place.lines().into_keys().collect::<Vec<_>>(), ["one"]);
}

#[test]
fn there_is_room_for_more_and_an_end_of_it() {
    let place = Place::new();
    let journal = place.begin();
    let slots: Vec<_> = (0..65_536)
        .map(|at: u32| journal.take(&at.to_le_bytes(), 1).unwrap())
        .collect();
    assert_eq!(journal.take(b"one more", 1), None);
    journal.forget(slots[0]);
    assert!(journal.take(b"one more", 1).is_some());
}

#[test]
fn levels_are_as_they_were_last() {
    let place = Place::new();
    let journal = place.begin();
    let cells: Vec<_> = (0..1_500)
        .map(|at| journal.cell(format!("key {at}").as_bytes()).unwrap())
        .collect();
    for (at, cell) in cells.iter().enumerate() {
        for round in 0..=at % 3 {
            journal.put(*cell, format!("{at} {round}").as_bytes());
        }
    }
    // It is no longer as it was, and can't be kept as it is.
    journal.put(cells[7], &[7; 1_000]);
    assert_eq!(journal.cell(&[7; 1_000]), None);
    kill(journal);
    assert_eq!(
        place.recover().journals,
        1,
        "a tool recovers records, and leaves levels"
    );
    let levels: BTreeMap<_, _> = take_levels(&place.folder()).unwrap().into_iter().collect();
    assert_eq!(levels.len(), 1_499);
    for (key, value) in levels {
        let at: usize = std::str::from_utf8(&key[4..]).unwrap().parse().unwrap();
        assert_eq!(value, format!("{at} {}", at % 3).into_bytes());
    }
}

#[test]
fn ids_are_uuids() {
    let id = new_id();
    assert_eq!(id.len(), 36);
    assert_eq!(&id[14..15], "4");
    assert!(["8", "9", "a", "b"].contains(&&id[19..20]), "{id}");
    assert_ne!(id, new_id());
}

proptest! {
    /// Whatever is in a file: a line at most for each slot, and each is one.
    #[test]
    fn junk_is_no_record(slots in proptest::collection::vec((0..6_u32, 0..70_u32, 0..2_100_u32, any::<Vec<u8>>()), 0..5), which: u32) {
        let place = Place::new();
        fs::create_dir_all(place.folder()).unwrap();
        let mut bytes = vec![0; layout::PAGE * (1 + slots.len())];
        bytes[..8].copy_from_slice(&layout::MAGIC);
        bytes[layout::WHICH_NOTE..][..4].copy_from_slice(&which.to_le_bytes());
        for (at, (state, id_len, text_len, junk)) in slots.iter().enumerate() {
            let slot = &mut bytes[layout::PAGE * (at + 1)..][..layout::PAGE];
            slot[..4].copy_from_slice(&state.to_le_bytes());
            slot[layout::ID_LEN..][..4].copy_from_slice(&id_len.to_le_bytes());
            for copy in [layout::copy(false), layout::copy(true)] {
                slot[copy + 12..][..4].copy_from_slice(&text_len.to_le_bytes());
                let len = junk.len().min(layout::MAX_TEXT);
                slot[copy + 16..][..len].copy_from_slice(&junk[..len]);
            }
        }
        fs::write(place.folder().join("1.journal"), bytes).unwrap();
        fs::write(place.folder().join("1.levels"), b"tglvls01junk").unwrap();
        let recovered = place.recover();
        prop_assert!(recovered.finished + recovered.crashed <= slots.len() as u64);
        if place.log().exists() {
            for line in fs::read_to_string(place.log()).unwrap().lines() {
                prop_assert!(serde_json::from_str::<Value>(line).is_ok());
            }
        }
    }
}

/// Processes that write as fast as they can are killed at some moment: each request that had begun has one line.
#[test]
fn each_request_has_one_line_whenever_its_process_is_killed() {
    let place = Place::new();
    let mut begun = 0;
    for round in 0..30 {
        let list = place.dir.path().join("begun");
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "tests::writes_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("JOURNAL_TEST", place.dir.path())
            .env("JOURNAL_ROUND", round.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        eventually(|| fs::metadata(&list).is_ok_and(|list| list.len() > 0));
        std::thread::sleep(Duration::from_micros(1_700 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let recovered = place.recover();
        assert_eq!(recovered.journals, 1);
        let lines = place.lines();
        let text = fs::read_to_string(&list).unwrap();
        // The last line may be half of one.
        let ids: Vec<_> = text
            .split_inclusive('\n')
            .filter_map(|id| id.strip_suffix('\n'))
            .collect();
        begun += ids.len();
        for id in ids {
            let outcome = lines[id]["outcome"].as_str().unwrap();
            assert!(["complete", "crashed"].contains(&outcome));
        }
        fs::remove_file(&list).unwrap();
    }
    let lines = place.lines();
    // Two threads may each have begun one that is not in the list yet.
    assert!(
        (begun..=begun + 60).contains(&lines.len()),
        "{begun} {}",
        lines.len()
    );
    let crashed = lines.values().filter(|line| line["outcome"] == "crashed").count();
    assert!(crashed > 0, "of {begun}");
}

#[test]
#[ignore = "is started by another"]
fn writes_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var("JOURNAL_TEST").unwrap());
    let round = std::env::var("JOURNAL_ROUND").unwrap();
    let journal = Journal::begin(&dir.join("journal"), &dir.join("usage.jsonl"), true, |_| ()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (dir, round, journal) = (&dir, &round, &journal);
            scope.spawn(move || {
                let mut options = fs::OpenOptions::new();
                let mut list = options.create(true).append(true).open(dir.join("begun")).unwrap();
                let mut open = std::collections::VecDeque::new();
                for number in 0.. {
                    let id = format!("{round}-{thread}-{number}");
                    let slot = journal.take(id.as_bytes(), 1).unwrap();
                    list.write_all(format!("{id}\n").as_bytes()).unwrap();
                    journal.keep(slot, known(MEMBERS));
                    open.push_back((slot, id));
                    if open.len() > 20 {
                        let (slot, id) = open.pop_front().unwrap();
                        journal.finish(Some(slot), line(&id));
                    }
                }
            });
        }
    });
}
