//! Runs jobs on a few threads and counts what they report. One job may report many tests: one boot, many results.

use crate::failure::Failure;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// Which tests are wanted: those whose name holds the word.
#[derive(Debug, Clone, Default)]
pub struct Filter(Option<String>);

impl Filter {
    pub fn new(word: Option<String>) -> Filter {
        Filter(word.filter(|word| !word.is_empty()))
    }

    pub fn wants(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|word| name.contains(word.as_str()))
    }
}

/// A result on its way to the counting.
struct Report {
    name: String,
    result: Result<(), Failure>,
    time: Duration,
}

/// Where a job tells its results.
#[derive(Clone)]
pub struct Reporter {
    sender: Sender<Report>,
    filter: Filter,
}

impl Reporter {
    pub fn report(&self, name: &str, result: Result<(), Failure>, time: Duration) {
        // The receiver outlives all jobs.
        let _ = self.sender.send(Report { name: name.to_owned(), result, time });
    }

    pub fn wants(&self, name: &str) -> bool {
        self.filter.wants(name)
    }

    /// Runs one test, if it is wanted, and reports it.
    pub fn test(&self, name: &str, test: impl FnOnce() -> Result<(), Failure>) {
        if self.wants(name) {
            let started = Instant::now();
            let result = without_panic(test);
            self.report(name, result, started.elapsed());
        }
    }
}

type Work = Box<dyn FnOnce(&Reporter) + Send>;

/// Something to run that reports tests.
pub struct Job {
    name: String,
    work: Work,
}

impl Job {
    pub fn new(name: impl Into<String>, work: impl FnOnce(&Reporter) + Send + 'static) -> Job {
        Job { name: name.into(), work: Box::new(work) }
    }

    /// A job that is one test.
    pub fn test(name: impl Into<String>, test: impl FnOnce() -> Result<(), Failure> + Send + 'static) -> Job {
        let name = name.into();
        let test_name = name.clone();
        Job::new(name, move |reporter| reporter.test(&test_name, test))
    }
}

/// Runs the jobs in order, `threads` at a time, and prints each result as it comes. Returns true when none failed.
pub fn run(jobs: Vec<Job>, threads: usize, filter: &Filter) -> bool {
    let (sender, receiver) = mpsc::channel();
    let queue = Mutex::new(jobs.into_iter());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let reporter = Reporter { sender: sender.clone(), filter: filter.clone() };
            let queue = &queue;
            scope.spawn(move || {
                while let Some(job) = next_of(queue) {
                    let Job { name, work } = job;
                    let started = Instant::now();
                    if let Err(failure) = without_panic(|| {
                        work(&reporter);
                        Ok(())
                    }) {
                        reporter.report(&name, Err(failure), started.elapsed());
                    }
                }
            });
        }
        drop(sender);
        count(receiver)
    })
}

fn next_of(queue: &Mutex<std::vec::IntoIter<Job>>) -> Option<Job> {
    queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next()
}

fn count(receiver: Receiver<Report>) -> bool {
    let mut passed = 0;
    let mut failures = Vec::new();
    for Report { name, result, time } in receiver {
        let seconds = time.as_secs_f32();
        match result {
            Ok(()) => {
                passed += 1;
                println!("ok      {name} ({seconds:.1} s)");
            }
            Err(failure) => {
                println!("FAILED  {name} ({seconds:.1} s): {}", failure.reason().lines().next().unwrap_or_default());
                failures.push((name, failure));
            }
        }
    }
    for (name, failure) in &failures {
        println!("\n--- {name}\n{failure}");
    }
    let verdict = if failures.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {} failed", failures.len());
    failures.is_empty()
}

/// A panic in a test is that test's failure.
fn without_panic(test: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(test)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(Failure::new(format!("the test itself panicked: {}", text.unwrap_or("no message"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failing_or_panicking_job_does_not_hide_the_others() {
        let jobs = vec![
            Job::test("fails", || Err(Failure::new("no"))),
            Job::new("panics", |_| panic!("gone")),
            Job::test("passes", || Ok(())),
        ];
        assert!(!run(jobs, 2, &Filter::default()));
    }

    #[test]
    fn only_wanted_tests_are_run() {
        let jobs = vec![Job::test("good", || Ok(())), Job::test("bad", || Err(Failure::new("no")))];
        assert!(run(jobs, 1, &Filter::new(Some("goo".into()))));
        assert!(Filter::new(Some(String::new())).wants("anything"));
    }
}
