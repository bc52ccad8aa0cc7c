//! The files with customers' recipients: read at the start, looked at again while the
//! server runs.
//!
//! A list is read when the file is another one than before, by its times, its size and
//! its number. One that was put in place by a rename is read at the next look; one that
//! is being written is read when it has been still between two looks, so that half a list
//! is never in force. At a reload it is read at once.
//!
//! Invariants: *the old list stays* as long as the new one cannot be read or has a fault;
//! the operator is told once for each state of the file. Only a customer without an old
//! list can make a start or a reload fail.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;

use crate::config::Config;
use crate::core::control::Found;
use crate::report::Fact;
use crate::route::recipients::{RecipientList, RecipientLists, TEXT_BYTES_MAX};
use crate::route::{CustomerName, Scope};

/// Which state of which file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    device: u64,
    inode: u64,
    octets: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is known of a customer's file.
struct Kept {
    path: PathBuf,
    scopes: Vec<Scope>,
    list: Arc<RecipientList>,
    /// The state that was read, or of which the operator was told; none: the file is gone,
    /// and the operator was told.
    read: Option<Stamp>,
    /// The state that the last look found, if it waits for the next.
    moving: Option<Stamp>,
}

/// All files of the configuration. Shared by the control core's thread and a helper.
#[derive(Default)]
pub struct Shelf(Mutex<HashMap<CustomerName, Kept>>);

impl Shelf {
    /// The lists of a configuration that is to be in force: those that have changed are
    /// read, now. Says what the operator is to be told.
    ///
    /// # Errors
    /// For the operator: a list cannot be read, and there is no old one. Nothing has
    /// changed then.
    pub fn load(&self, config: &Config) -> Result<(Arc<RecipientLists>, Vec<Fact>), String> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut facts = Vec::new();
        let mut fresh = HashMap::new();
        for (customer, path, scopes) in files(config) {
            let old = shelf
                .get(customer)
                .filter(|old| old.path == path && old.scopes == scopes);
            let kept = |list, read| Kept {
                path: path.to_owned(),
                scopes: scopes.to_owned(),
                list,
                read,
                moving: None,
            };
            let now = std::fs::metadata(path).ok().map(|facts| stamp(&facts));
            let entry = match old {
                Some(old) if old.read == now => kept(Arc::clone(&old.list), now),
                _ => match (read(path, scopes), old) {
                    (Ok((list, stamp)), _) => kept(Arc::new(list), Some(stamp)),
                    (Err(why), Some(old)) => {
                        facts.push(stays(customer, &why));
                        kept(Arc::clone(&old.list), now)
                    }
                    (Err(why), None) => return Err(refusal(customer, &why)),
                },
            };
            fresh.insert(customer.clone(), entry);
        }
        *shelf = fresh;
        Ok((lists(&shelf), facts))
    }

    /// Looks at all files, and reads those that have changed.
    #[must_use]
    pub fn look(&self) -> Found {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Found::default();
        let mut changed = false;
        for (customer, kept) in shelf.iter_mut() {
            let (list, fact) = kept.look(customer);
            changed |= list;
            found.facts.extend(fact);
        }
        found.changed = changed.then(|| lists(&shelf));
        found
    }
}

impl Kept {
    /// Whether the list is another one now, and what the operator is told.
    fn look(&mut self, customer: &CustomerName) -> (bool, Option<Fact>) {
        let now = match std::fs::metadata(&self.path) {
            Ok(facts) => stamp(&facts),
            Err(error) => {
                self.moving = None;
                let told = self.read.take().is_none();
                let why = unreadable(&self.path, &error);
                return (false, (!told).then(|| stays(customer, &why)));
            }
        };
        if self.read == Some(now) {
            self.moving = None;
            return (false, None);
        }
        let is_same_file = self.read.is_none_or(|read| read.inode == now.inode);
        if is_same_file && self.moving != Some(now) {
            self.moving = Some(now);
            return (false, None);
        }
        self.moving = None;
        match read(&self.path, &self.scopes) {
            Ok((list, stamp)) => {
                let entries = list.len();
                self.list = Arc::new(list);
                self.read = Some(stamp);
                let fact = Fact::RecipientsLoaded {
                    customer: customer.to_string(),
                    entries,
                };
                (true, Some(fact))
            }
            Err(why) => {
                self.read = Some(now);
                (false, Some(stays(customer, &why)))
            }
        }
    }
}

/// What is wrong with the files of a configuration, for `turnspool check`: whose, and what.
#[must_use]
pub fn faults(config: &Config) -> Vec<(CustomerName, String)> {
    let fault = |(customer, path, scopes): (&CustomerName, &Path, &[Scope])| {
        Some((customer.clone(), read(path, scopes).err()?))
    };
    files(config).filter_map(fault).collect()
}

fn files(config: &Config) -> impl Iterator<Item = (&CustomerName, &Path, &[Scope])> {
    config.customers.iter().filter_map(|customer| {
        let path = customer.recipients_file.as_deref()?;
        Some((&customer.name, path, &customer.domains[..]))
    })
}

fn lists(shelf: &HashMap<CustomerName, Kept>) -> Arc<RecipientLists> {
    let list =
        |(customer, kept): (&CustomerName, &Kept)| (customer.clone(), Arc::clone(&kept.list));
    Arc::new(shelf.iter().map(list).collect())
}

/// The list, and the state of the file that it was read from.
fn read(path: &Path, scopes: &[Scope]) -> Result<(RecipientList, Stamp), String> {
    let failed = |error: std::io::Error| unreadable(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    if !facts.is_file() {
        return Err(format!("{} is no file", path.display()));
    }
    let mut octets = Vec::new();
    (&mut file)
        .take(TEXT_BYTES_MAX as u64 + 1)
        .read_to_end(&mut octets)
        .map_err(failed)?;
    if octets.len() > TEXT_BYTES_MAX {
        let path = path.display();
        return Err(format!("{path} is larger than {TEXT_BYTES_MAX} octets"));
    }
    let text = std::str::from_utf8(&octets).map_err(|error| {
        let before = &octets[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        format!("{}, line {line}: is not UTF-8", path.display())
    })?;
    let list = RecipientList::parse(text, scopes)
        .map_err(|fault| format!("{}, {fault}", path.display()))?;
    // Of before the reading: what was written meanwhile is another state.
    Ok((list, stamp(&facts)))
}

fn stamp(facts: &Metadata) -> Stamp {
    Stamp {
        device: facts.dev(),
        inode: facts.ino(),
        octets: facts.size(),
        modified: (facts.mtime(), facts.mtime_nsec()),
        changed: (facts.ctime(), facts.ctime_nsec()),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}

fn stays(customer: &CustomerName, why: &str) -> Fact {
    let what = format!("recipients of {customer}: {why}; the list that was read before stays");
    Fact::Trouble { what }
}

fn refusal(customer: &CustomerName, why: &str) -> String {
    format!("customer \"{customer}\": recipients_file: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, surroundings::Surroundings};
    use std::fs;

    struct Bench {
        directory: tempfile::TempDir,
        shelf: Shelf,
    }

    impl Bench {
        fn new(text: &str) -> Self {
            let bench = Self {
                directory: tempfile::tempdir().expect("a directory"),
                shelf: Shelf::default(),
            };
            fs::write(bench.path(), text).expect("it is ours");
            bench
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("list")
        }

        /// By a rename.
        fn put(&self, text: &str) {
            let new = self.directory.path().join("new");
            fs::write(&new, text).expect("it is ours");
            fs::rename(&new, self.path()).expect("it is ours");
        }

        fn config(&self, domain: &str) -> Config {
            let text = format!(
                "[[customer]]\nname = 'c'\ndomains = ['{domain}']\ndeliver_to = 'mx'\n\
                 recipients_file = '{}'",
                self.path().display()
            );
            let surroundings = Surroundings {
                host_name: "relay.example".to_owned(),
                cpus: 1,
                credentials_directory: None,
                state_directory: None,
            };
            config::parse("test".as_ref(), &text, &surroundings).expect("one customer")
        }

        /// Who of these is taken after a look, if something has changed, and what was said.
        fn look(&self, names: &[&str]) -> (Option<Vec<bool>>, Vec<String>) {
            let found = self.shelf.look();
            let has = found.changed.map(|lists| taken(&lists, names));
            let told = found.facts.iter().map(ToString::to_string);
            (has, told.collect())
        }
    }

    fn taken(lists: &RecipientLists, names: &[&str]) -> Vec<bool> {
        let list = lists.of(&"c".parse().expect("a name")).expect("it has one");
        names
            .iter()
            .map(|name| list.has(&format!("{name}@c.example").parse().expect("an address")))
            .collect()
    }

    #[test]
    fn a_file_that_was_replaced_is_read_at_the_next_look() {
        let bench = Bench::new("a");
        let (lists, facts) = bench.shelf.load(&bench.config("c.example")).expect("good");
        assert_eq!(
            (taken(&lists, &["a", "b"]), facts.len()),
            (vec![true, false], 0)
        );
        assert_eq!(bench.look(&[]), (None, vec![]));
        bench.put("b");
        let (has, told) = bench.look(&["a", "b"]);
        assert_eq!(has, Some(vec![false, true]));
        assert_eq!(told, ["recipients of c loaded: 1 entry"]);
        assert_eq!(bench.look(&[]), (None, vec![]));
    }

    #[test]
    fn a_file_that_is_written_is_read_when_it_is_still() {
        let bench = Bench::new("a");
        let _ = bench.shelf.load(&bench.config("c.example")).expect("good");
        fs::write(bench.path(), "b\nbo").expect("it is ours");
        assert_eq!(bench.look(&[]), (None, vec![]));
        fs::write(bench.path(), "b\nbob").expect("it is ours");
        assert_eq!(bench.look(&[]), (None, vec![]));
        let (has, _) = bench.look(&["a", "b", "bo", "bob"]);
        assert_eq!(has, Some(vec![false, true, false, true]));
    }

    #[test]
    fn the_old_list_stays_while_the_new_one_is_no_good() {
        let bench = Bench::new("a");
        let config = bench.config("c.example");
        let _ = bench.shelf.load(&config).expect("good");
        bench.put("b\nc d e\n(f)@c.example");
        let (has, told) = bench.look(&[]);
        assert_eq!(has, None);
        assert!(told[0].contains(", line 3: \"(f)@c.example\" "), "{told:?}");
        assert!(told[0].contains("stays"), "{told:?}");
        assert_eq!(bench.look(&[]), (None, vec![]), "told once");
        fs::remove_file(bench.path()).expect("it is ours");
        let (has, told) = bench.look(&[]);
        assert_eq!((has, told.len()), (None, 1));
        assert!(told[0].contains("cannot be read"), "{told:?}");
        assert_eq!(bench.look(&[]), (None, vec![]), "told once");
        // A reload does not lose it either.
        let (lists, facts) = bench.shelf.load(&config).expect("the old one stays");
        assert_eq!((taken(&lists, &["a"]), facts.len()), (vec![true], 0));
        bench.put("(g)");
        let (lists, facts) = bench.shelf.load(&config).expect("the old one stays");
        assert_eq!((taken(&lists, &["a"]), facts.len()), (vec![true], 1));
        bench.put("b");
        let (has, _) = bench.look(&["a", "b"]);
        assert_eq!(has, Some(vec![false, true]));
    }

    #[test]
    fn without_an_old_list_a_fault_is_an_error() {
        let bench = Bench::new("a@c.example");
        let _ = bench.shelf.load(&bench.config("c.example")).expect("good");
        // Other domains make it another list.
        let error = bench.shelf.load(&bench.config("d.example")).map(|_| ());
        let error = error.expect_err("a is at no domain of it");
        assert!(
            error.starts_with("customer \"c\": recipients_file: "),
            "{error}"
        );
        assert!(error.contains("line 1"), "{error}");
        assert_eq!(faults(&bench.config("d.example")).len(), 1);
        assert_eq!(faults(&bench.config("c.example")), []);
        // And what was in force stays so.
        assert_eq!(bench.look(&[]), (None, vec![]));
        fs::write(bench.path(), b"\n\xff").expect("it is ours");
        assert!(
            faults(&bench.config("c.example"))[0]
                .1
                .contains("line 2: is not UTF-8")
        );
    }
}
