use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
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

/// As a kill leaves it once all that was finished is written: nothing is closed, and its locks are gone.
fn abandon(journal: Journal) {
    journal.writer.close();
    let path = journal.path.clone();
    drop(journal);
    // A process that another test is starting may have them for a moment.
    let is_free =
        |path: &Path| !path.exists() || fs::File::open(path).is_ok_and(|file| file.try_lock().is_ok());
    eventually(|| is_free(&path) && is_free(&path.with_extension(recover::LEVELS)));
}

#[test]
fn what_is_finished_is_in_the_log_and_nothing_is_left() {
    let place = Place::new();
    let journal = place.begin();
    for number in 0..3_000 {
        let id = format!("a-{number}");
        let mut slot = journal.take(id.as_bytes(), 1).unwrap();
        assert!(journal.keep(&mut slot, known(MEMBERS)));
        assert_eq!(journal.members(&slot), MEMBERS);
        journal.finish(Some(slot), line(&id));
    }
    journal.finish(None, line("loose"));
    let unseen = journal.take(b"forgotten", 1).unwrap();
    journal.forget(unseen);
    journal.close();
    assert_eq!((place.lines().len(), journal.lost()), (3_001, 0));
    assert!(!journal.path.exists());
}

#[test]
fn what_was_under_way_is_recovered_with_what_was_known() {
    let place = Place::new();
    let journal = place.begin();
    let mut known_of = journal.take(b"known", 1_764_000_000_000).unwrap();
    journal.keep(&mut known_of, known(",\"org\":\"before\""));
    journal.keep(&mut known_of, known(MEMBERS));
    journal.take(b"new", 1_764_000_000_000).unwrap();
    journal.finish(journal.take(b"done", 1), line("done"));
    let long = "x".repeat(3_000);
    let mut too_long = journal.take(b"long", 1).unwrap();
    assert!(!journal.keep(&mut too_long, known(&long)));
    assert_eq!(journal.take(long.as_bytes(), 1), None);
    let in_use = place.recover();
    assert_eq!((in_use.journals, in_use.alive), (0, 1));
    abandon(journal);

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
    assert_eq!(place.files(), 1, "levels are another's to read");
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
            let mut slot = slots.take(id.as_bytes(), 1).unwrap();
            slots.finish(&mut slot, &line(id));
        }
        let mut open = slots.take(b"open", 1).unwrap();
        slots.keep(&mut open, slots::Text::new(1, 0, MEMBERS));
        {
            let mut log = Log::open(&place.log()).unwrap();
            let mut log = log.lock().unwrap();
            slots.check(log.checkpoint());
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
    abandon(journal);
    place.recover();
    // As if the file had not been deleted: what it says after its records were written.
    let before = place.lines();
    let journal = place.begin();
    journal.take(b"open", 1).unwrap();
    let again = journal.path.clone();
    abandon(journal);
    let bytes = fs::read(&again).unwrap();
    place_as_recovered(&place, &path, bytes);
    fs::remove_file(again).unwrap();
    let recovered = place.recover();
    assert_eq!((recovered.crashed, place.lines()), (0, before));
}

/// A journal that a recovery has brought to a log which was empty, and not deleted.
fn place_as_recovered(place: &Place, path: &Path, mut bytes: Vec<u8>) {
    let mut log = Log::open(&place.log()).unwrap();
    let checkpoint = log.lock().unwrap().checkpoint();
    let checkpoint = layout::Checkpoint { len: 0, ..checkpoint };
    bytes[layout::checkpoint(true)..][..layout::Checkpoint::LEN].copy_from_slice(&checkpoint.encode());
    bytes[layout::ACTIVE_CHECKPOINT..][..4].copy_from_slice(&1_u32.to_le_bytes());
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
    abandon(journal);
    assert!(recover(&place.folder(), &place.log()).is_err());
    fs::remove_dir(place.log()).unwrap();
    assert_eq!(place.recover().finished, 1);
    assert_eq!(place.lines().into_keys().collect::<Vec<_>>(), ["one"]);
}

#[test]
fn there_is_room_for_more_and_an_end_of_it() {
    let place = Place::new();
    let journal = place.begin();
    let mut slots: Vec<_> = (0..65_536)
        .map(|at: u32| journal.take(&at.to_le_bytes(), 1).unwrap())
        .collect();
    assert_eq!(journal.take(b"one more", 1), None);
    journal.forget(slots.pop().unwrap());
    assert!(journal.take(b"one more", 1).is_some());
}

#[test]
fn levels_are_as_they_were_last() {
    let place = Place::new();
    let journal = place.begin();
    let mut cells: Vec<_> = (0..1_500)
        .map(|at| journal.cell(format!("key {at}").as_bytes()).unwrap())
        .collect();
    for (at, cell) in cells.iter_mut().enumerate() {
        for round in 0..=at % 3 {
            journal.put(cell, format!("{at} {round}").as_bytes());
        }
    }
    // It is no longer as it was, and can't be kept as it is.
    assert!(!journal.put(&mut cells[7], &[7; 1_000]));
    assert_eq!(journal.cell(&[7; 1_000]), None);
    abandon(journal);
    assert_eq!(
        place.recover().journals,
        1,
        "a tool recovers records, and leaves levels"
    );
    let mut found = Levels::read(&place.folder()).unwrap();
    let levels: BTreeMap<_, _> = std::mem::take(&mut found.values).into_iter().collect();
    assert_eq!(place.files(), 1);
    found.delete();
    assert_eq!(place.files(), 0);
    assert_eq!(levels.len(), 1_499);
    for (key, value) in levels {
        let at: usize = std::str::from_utf8(&key[4..]).unwrap().parse().unwrap();
        assert_eq!(value, format!("{at} {}", at % 3).into_bytes());
    }
}

#[test]
fn what_is_no_journal_or_no_log_is_left_as_it_is() {
    let place = Place::new();
    fs::create_dir_all(place.folder()).unwrap();
    let other = place.folder().join("1.journal");
    fs::write(&other, b"tgjrnl02 of another version").unwrap();
    let journal = Journal::begin(&place.folder(), &place.log(), false, |_| ()).unwrap();
    journal.take(b"open", 1).unwrap();
    let own = journal.path.clone();
    abandon(journal);
    let error = recover(&place.folder(), &place.log()).unwrap_err().to_string();
    assert!(error.contains("1.journal: it is no journal"), "{error}");
    assert!(
        other.exists() && !own.exists(),
        "the others are recovered all the same"
    );
    assert_eq!(place.lines().into_keys().collect::<Vec<_>>(), ["open"]);

    // A file that somebody named by mistake.
    fs::remove_file(other).unwrap();
    for text in ["no usage log", "{}\nno usage log"] {
        let file = place.dir.path().join("precious");
        fs::write(&file, text).unwrap();
        let mut log = Log::open(&file).unwrap();
        assert!(log.lock().is_err());
        assert_eq!(fs::read_to_string(file).unwrap(), text);
    }
    let folder = place.dir.path().join("open to all");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let error = Journal::begin(&folder, &place.log(), false, |_| ())
        .unwrap_err()
        .to_string();
    assert!(error.contains("mode 777"), "{error}");
}

#[test]
fn several_share_a_folder_and_a_log() {
    let place = Place::new();
    let journals = [place.begin(), place.begin()];
    std::thread::scope(|scope| {
        for (number, journal) in journals.iter().enumerate() {
            scope.spawn(move || {
                for at in 0..2_000 {
                    let id = format!("{number}-{at}");
                    journal.finish(journal.take(id.as_bytes(), 1), line(&id));
                    if at % 500 == 0 {
                        std::thread::sleep(Duration::from_millis(60));
                    }
                }
                journal.close();
            });
        }
    });
    assert_eq!(place.lines().len(), 4_000);
}

/// What was written last is in a log that is not there any more: better twice than not at all, and it is told.
#[test]
fn records_of_a_log_that_is_gone_may_be_there_twice() {
    let place = Place::new();
    fs::create_dir_all(place.folder()).unwrap();
    let slots = slots::Slots::create(&place.folder().join("1.journal")).unwrap();
    let mut slot = slots.take(b"one", 1).unwrap();
    slots.finish(&mut slot, &line("one"));
    slots.check(layout::Checkpoint { inode: 1, len: 0 });
    drop(slots);
    let recovered = place.recover();
    assert_eq!((recovered.finished, recovered.unsure), (1, 1));
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
        bytes[layout::ACTIVE_CHECKPOINT..][..4].copy_from_slice(&which.to_le_bytes());
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
        let states = slots.iter().filter(|(state, ..)| *state != 0).count();
        prop_assert_eq!(recovered.finished + recovered.crashed + recovered.unreadable, states as u64);
        prop_assert_eq!(place.folder().join("1.journal.bad").exists(), recovered.unreadable > 0);
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
                    let mut slot = journal.take(id.as_bytes(), 1).unwrap();
                    list.write_all(format!("{id}\n").as_bytes()).unwrap();
                    journal.keep(&mut slot, known(MEMBERS));
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
