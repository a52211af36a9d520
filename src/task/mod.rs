//! Threads and processes.
pub mod deadlines;
pub mod ids;
pub mod ready_queue;
