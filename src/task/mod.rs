//! Threads and processes.
pub mod credentials;
pub mod deadlines;
pub mod ids;
pub mod ready_queue;
