//! The tests that boot something. Started by `make test`, which builds what they boot; options come in the environment:
//! ONLY=word runs the tests whose name holds the word, JOBS=n at a time, SUITE=matrix the whole boot matrix instead.

use keel_tests::boot_matrix::{self, Images};
use keel_tests::failure::Failure;
use keel_tests::runner::{self, Filter, Job};
use keel_tests::{bad_input, bench, kernel_tests, options, panics, programs, project, sessions, system_calls};
use std::process::ExitCode;
use std::{env, thread};

fn main() -> ExitCode {
    let filter = Filter::new(env::var("ONLY").ok());
    let threads = env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok());
    let threads = threads.unwrap_or_else(|| thread::available_parallelism().map_or(1, |count| count.get()));
    let jobs = if env::var("SUITE").as_deref() == Ok("matrix") { matrix_jobs() } else { all_jobs(threads) };
    if runner::run(jobs, threads, &filter) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all_jobs(threads: usize) -> Vec<Job> {
    let mut jobs = kernel_tests::jobs(threads);
    jobs.extend(bad_input::jobs());
    jobs.extend(panics::jobs());
    jobs.extend(options::jobs());
    jobs.extend(bench::jobs::jobs(env!("CARGO_BIN_EXE_bench")));
    jobs.extend(system_calls::jobs());
    jobs.extend(programs::jobs());
    jobs.extend(sessions::jobs());
    match images() {
        Ok(images) => jobs.extend(boot_matrix::representative_jobs(&images)),
        Err(failure) => jobs.push(no_images(failure)),
    }
    jobs
}

fn matrix_jobs() -> Vec<Job> {
    match images() {
        Ok(images) => boot_matrix::all_jobs(&images),
        Err(failure) => vec![no_images(failure)],
    }
}

fn images() -> Result<Images, Failure> {
    Ok(Images {
        image: project::make_iso("keel.iso", &[])?,
        text_image: project::make_iso("keel-text.iso", &[("SCREEN", "text")])?,
    })
}

fn no_images(failure: Failure) -> Job {
    Job::test("boot: can the images be made?", || Err(failure))
}
